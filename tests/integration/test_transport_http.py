"""Probes and metrics on the port of the WebSockets, with and without TLS."""

from __future__ import annotations

import asyncio
import datetime
import ssl
from pathlib import Path

import pytest
import websockets.asyncio.client
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from websockets.frames import Opcode

from crdt.protocol.frames import PATH
from server.config import BadSetting
from server.runtime.tls import server_tls
from server.runtime.transport import TransportOptions
from server.runtime.wire import encode_message
from tests.integration.transport_peers import Peer, RecordingSink, close_frame, serving
from tests.support import wait_until


def get(path: str, *, connection: str = "keep-alive") -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: {connection}\r\n\r\n".encode()


async def answer(peer: Peer) -> tuple[int, bytes]:
    """The next HTTP response: its status and body."""
    async with asyncio.timeout(5):
        status, *headers = (await peer.reader.readuntil(b"\r\n\r\n")).lower().split(b"\r\n")
        lengths = [int(header.split(b":")[1]) for header in headers if header.startswith(b"content-length")]
        return int(status.split(b" ")[1]), await peer.reader.readexactly(lengths[0])


# --- plain HTTP


async def test_probes_tell_alive_from_ready() -> None:
    async with serving() as served, Peer.tcp(served) as peer:
        for path, ready, expected in [
            ("/healthz", True, 200),
            ("/readyz?verbose", True, 200),
            ("/readyz", False, 503),
            ("/healthz", False, 200),
            ("/v1/sync/", False, 404),
            ("/", False, 404),
        ]:
            served.ready = ready
            peer.writer.write(get(path))
            assert (await answer(peer))[0] == expected, path


async def test_metrics_are_those_of_the_registry() -> None:
    async with serving() as served, Peer.tcp(served) as peer:
        served.requests.inc(3)
        peer.writer.write(get("/metrics"))
        status, body = await answer(peer)
        assert status == 200
        assert b"requests_total 3.0" in body


async def test_a_connection_serves_requests_that_come_in_one_segment_or_in_pieces() -> None:
    async with serving() as served, Peer.tcp(served) as peer:
        peer.writer.write(get("/healthz") + get("/readyz"))
        assert [await answer(peer), await answer(peer)] == [(200, b"ok\n"), (200, b"ready\n")]
        for byte in get("/healthz", connection="close"):
            peer.writer.write(bytes((byte,)))
            await peer.writer.drain()
        assert await answer(peer) == (200, b"ok\n")
        assert await peer.at_end() == b""


async def test_what_is_no_http_is_answered_by_http() -> None:
    async with serving() as served, Peer.tcp(served) as peer:
        peer.writer.write(b"nonsense\r\n\r\n")
        assert (await peer.at_end()).startswith(b"HTTP/1.1 400 ")


async def test_an_upgrade_elsewhere_is_no_websocket() -> None:
    async with serving() as served, Peer.tcp(served) as peer:
        assert (await peer.upgrade("/elsewhere")).startswith(b"HTTP/1.1 404 ")
        assert not served.sink.connections


async def test_a_slow_second_request_has_a_deadline() -> None:
    async with serving(TransportOptions(http_lifetime_s=0.05)) as served, Peer.tcp(served) as peer:
        peer.writer.write(get("/healthz") + b"GET /hea")
        assert (await answer(peer))[0] == 200
        assert await peer.at_end() == b""


async def test_shutdown_ends_http_connections_after_the_request_that_they_answer() -> None:
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def slow(request: Request) -> Response:
        asked.set()
        await go_on.wait()
        return PlainTextResponse("done")

    app = Starlette(routes=[Route("/slow", slow), Route("/fast", lambda _: PlainTextResponse("done"))])
    async with serving(app=app) as served, Peer.tcp(served) as idle, Peer.tcp(served) as busy:
        idle.writer.write(get("/other"))
        assert (await answer(idle))[0] == 404
        busy.writer.write(get("/slow"))
        await asked.wait()
        served.listener.stop_accepting()
        served.listener.close_all(1012, "shutting_down")
        assert await idle.at_end() == b""
        go_on.set()
        assert await answer(busy) == (200, b"done")
        await served.listener.wait_closed(within_s=5)


async def test_shutdown_does_not_wait_for_ever_for_a_request() -> None:
    asked = asyncio.Event()

    async def endless(request: Request) -> Response:
        asked.set()
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    async with serving(app=Starlette(routes=[Route("/", endless)])) as served, Peer.tcp(served) as peer:
        peer.writer.write(get("/"))
        await asked.wait()
        served.listener.stop_accepting()
        served.listener.close_all(1012, "shutting_down")
        await served.listener.wait_closed(within_s=0.05)
        assert await peer.at_end() == b""


# --- TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A self-signed certificate for localhost, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    directory = tmp_path_factory.mktemp("tls")
    certificate_path, key_path = directory / "cert.pem", directory / "key.pem"
    certificate_path.write_bytes(built.public_bytes(serialization.Encoding.PEM))
    key_path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return certificate_path, key_path


@pytest.fixture
def server_side(certificate: tuple[Path, Path]) -> ssl.SSLContext:
    return server_tls(*certificate)


@pytest.fixture
def client_side(certificate: tuple[Path, Path]) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=certificate[0])


async def test_websockets_and_http_share_the_port_under_tls(
    server_side: ssl.SSLContext, client_side: ssl.SSLContext
) -> None:
    async with serving(tls=server_side, sink=RecordingSink(echo=True)) as served:
        async with Peer.tcp(served, client_side) as peer:
            peer.writer.write(get("/healthz") + get("/healthz"))
            assert [await answer(peer), await answer(peer)] == [(200, b"ok\n")] * 2
        host, port = served.listener.address
        async with websockets.asyncio.client.connect(
            f"wss://{host}:{port}{PATH}", ssl=client_side, server_hostname="localhost"
        ) as client:
            for message in (b"small", bytes(200_000)):
                await client.send(message)
                assert await client.recv() == message
        assert client.close_code == 1000


async def test_closing_under_tls(server_side: ssl.SSLContext, client_side: ssl.SSLContext) -> None:
    async with serving(tls=server_side) as served, Peer.websocket(served, client_side) as peer:
        connection = served.sink.connections[1]
        connection.send(encode_message(b"before"))
        connection.close(1012, "shutting_down")
        assert await peer.message() == b"before"
        assert await peer.closed_with() == (1012, "shutting_down")
        peer.send(close_frame(1012))
        assert await peer.at_end() == b""
        await wait_until(lambda: served.sink.closed == [1])
        assert served.listener.counters.connections_aborted == 0


async def test_a_slow_reader_under_tls_is_reported_and_cut(
    server_side: ssl.SSLContext, client_side: ssl.SSLContext
) -> None:
    options = TransportOptions(outbox_drained_bytes=1 << 16, outbox_bytes_max=1 << 18, outbox_bytes_cap=1 << 20)
    async with serving(options, tls=server_side) as served, Peer.websocket(served, client_side) as peer:
        peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
        connection, sink = served.sink.connections[1], served.sink
        frame = encode_message(bytes(1 << 16))
        while not sink.overfull:
            connection.send(frame)
            await wait_until(lambda: connection._queued_bytes == 0)
        connection.await_drain()
        peer.writer.transport.resume_reading()  # type: ignore[attr-defined]
        while not sink.drained:
            assert (await peer.frame()).opcode is Opcode.BINARY
        peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
        while not sink.closed:
            connection.send(frame)
            await wait_until(lambda: connection._queued_bytes == 0)
        assert served.listener.counters.connections_aborted == 1


async def test_old_tls_and_no_tls_are_refused(server_side: ssl.SSLContext) -> None:
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    async with serving(tls=server_side) as served:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await asyncio.open_connection(*served.listener.address, ssl=old)
        async with Peer.tcp(served) as peer:
            peer.writer.write(get("/healthz"))
            assert b"HTTP" not in await peer.at_end()


def test_what_is_wrong_with_certificate_or_key_is_said_of_its_option(
    certificate: tuple[Path, Path], tmp_path: Path
) -> None:
    good_certificate, good_key = certificate
    other_key, locked_key, nothing = (tmp_path / name for name in ("other.pem", "locked.pem", "nothing.pem"))
    other = ec.generate_private_key(ec.SECP256R1())
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    other_key.write_bytes(other.private_bytes(pem, pkcs8, serialization.NoEncryption()))
    locked_key.write_bytes(other.private_bytes(pem, pkcs8, serialization.BestAvailableEncryption(b"locked")))
    for given_certificate, given_key, option, says in [
        (nothing, good_key, "--tls-cert", "No such file"),
        (tmp_path, good_key, "--tls-cert", "directory"),
        (good_key, good_key, "--tls-cert", "no certificate"),
        (good_certificate, nothing, "--tls-key", "No such file"),
        (good_certificate, good_certificate, "--tls-key", "no private key"),
        (good_certificate, other_key, "--tls-key", "is not the key of"),
        (good_certificate, locked_key, "--tls-key", "encrypted"),
    ]:
        with pytest.raises(BadSetting) as refused:
            server_tls(given_certificate, given_key)
        assert str(refused.value).startswith(f"{option} or SYNCLINE_")
        assert says in str(refused.value)


async def test_tls_is_modern(server_side: ssl.SSLContext, client_side: ssl.SSLContext) -> None:
    async with serving(tls=server_side) as served:
        for version, spoken in ((None, "TLSv1.3"), (ssl.TLSVersion.TLSv1_2, "TLSv1.2")):
            if version is not None:
                client_side.maximum_version = version
            async with Peer.tcp(served, client_side) as peer:
                encrypted: ssl.SSLObject = peer.writer.get_extra_info("ssl_object")
                assert (encrypted.version(), encrypted.compression()) == (spoken, None)
                cipher = encrypted.cipher()
                assert cipher is not None
                assert spoken == "TLSv1.3" or cipher[0].startswith("ECDHE-")
    assert server_side.options & ssl.OP_NO_RENEGOTIATION


async def test_who_negotiates_no_tls_waits_in_the_lobby_too(server_side: ssl.SSLContext) -> None:
    async with (
        serving(TransportOptions(unverified_max=2, open_timeout_s=0.2), tls=server_side) as served,
        Peer.tcp(served) as first,
        Peer.tcp(served),
        Peer.tcp(served),
    ):
        assert await first.at_end() == b""
        assert served.listener.counters.crowded_out == 1
        await wait_until(lambda: served.listener.counters.handshakes_refused == 2)


# --- what every answer to plain HTTP carries


@pytest.mark.parametrize("path", ["/healthz", "/metrics", "/elsewhere", PATH, f"{PATH}?access_token=x"])
async def test_answers_are_kept_by_nobody_and_taken_for_what_they_say(path: str) -> None:
    async with serving() as served, Peer.tcp(served) as peer:
        peer.writer.write(get(path))
        head = (await peer.reader.readuntil(b"\r\n\r\n")).lower()
        assert b"\r\ncache-control: no-store\r\n" in head
        assert b"\r\nx-content-type-options: nosniff\r\n" in head
        assert b"\r\nserver:" not in head
