"""Connections that prove nothing: too many, too slow, with too much. Who has a token comes in, and is not disturbed."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from ipaddress import ip_network
from pathlib import Path

import httpx
import pytest
from websockets.frames import Frame, Opcode

from crdt.protocol.frames import PATH, Ack, Push
from server.runtime.serve import DESCRIPTORS_RESERVED, raise_descriptor_limit, within_descriptors
from server.runtime.transport import TransportOptions
from tests.integration.honest_process import honest_pair, measured
from tests.integration.server_peers import WITHIN_S, raw_member, text_updates
from tests.integration.server_process import ServerProcess, server_process
from tests.integration.transport_peers import Peer, Served, masked, request, serving
from tests.support import wait_until

SOAK = bool(os.environ.get("SYNCLINE_SOAK"))
HALF_OPEN = 10_000
AT_ONCE = 100
UNVERIFIED_MAX = TransportOptions().unverified_max
HALF_A_MESSAGE = masked(Frame(Opcode.BINARY, bytes(50_000)))[:40_000]


@asynccontextmanager
async def connected(address: tuple[str, int], count: int, first: bytes = b"") -> AsyncIterator[list[socket.socket]]:
    """TCP connections on which so much was said; a few are opened at a time, as from a real network."""
    loop, sockets = asyncio.get_running_loop(), list[socket.socket]()

    async def connect() -> None:
        raw = socket.socket()
        sockets.append(raw)
        raw.setblocking(False)
        await loop.sock_connect(raw, address)
        await loop.sock_sendall(raw, first)

    try:
        for begin in range(0, count, AT_ONCE):
            await asyncio.gather(*(connect() for _ in range(min(AT_ONCE, count - begin))))
        yield sockets
    finally:
        for raw in sockets:
            raw.close()


async def metric(server: ServerProcess, name: str) -> float:
    async with httpx.AsyncClient(base_url=server.http, trust_env=False) as http:
        lines = (await http.get("/metrics")).text.splitlines()
    return next(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(f"{name} "))


# --- beside honest devices


@pytest.mark.parametrize("first", [b"", b"GET /v1/sync", b"GET / HTTP/1.1\r\nX: " + bytes(8000)][: 3 if SOAK else 1])
async def test_ten_thousand_half_open_connections_keep_nobody_out(tmp_path: Path, first: bytes) -> None:
    count = min(HALF_OPEN, raise_descriptor_limit() - DESCRIPTORS_RESERVED)
    async with server_process(tmp_path) as server, honest_pair(server.url) as honest, AsyncExitStack() as stack:

        async def attack() -> None:
            await stack.enter_async_context(connected(server.address, count, first))
            async with asyncio.timeout(WITHIN_S), raw_member(server.url, name="newcomer"):
                pass
            await stack.aclose()

        cost = await measured(server, honest, attack)
        cost.check(
            f"{count} half open, {len(first)} bytes each", grown_bytes_max=(64 << 20) + UNVERIFIED_MAX * len(first)
        )
        assert await metric(server, "syncline_connections_crowded_out_total") >= count - UNVERIFIED_MAX


async def test_slow_and_endless_requests_disturb_nobody(tmp_path: Path) -> None:
    async with (
        server_process(tmp_path, arguments=("--handshake-timeout-s", "1")) as server,
        honest_pair(server.url) as honest,
    ):

        async def attack() -> None:
            async with connected(server.address, 200, b"G") as drips:
                loop = asyncio.get_running_loop()
                for byte in request()[1:20]:
                    await asyncio.gather(*(loop.sock_sendall(raw, bytes((byte,))) for raw in drips))
                    await asyncio.sleep(0.02)
                answers = await asyncio.gather(*(loop.sock_recv(raw, 100) for raw in drips))
                assert all(answer.startswith(b"HTTP/1.1 408 ") for answer in answers)

        (await measured(server, honest, attack)).check("200 slow requests", grown_bytes_max=16 << 20)


async def test_a_server_without_descriptors_serves_those_it_has_and_accepts_again_later(tmp_path: Path) -> None:
    async with server_process(tmp_path) as server, raw_member(server.url) as (raw, opened):
        used = len(os.listdir(f"/proc/{server.pid}/fd"))
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (used + 20, used + 20))
        async with connected(server.address, 100):
            await wait_until(lambda: "accept_failed" in server.log.read_text())
            await raw.send(Push(opened.handle, 1, tuple(text_updates(5, ["kept"]))))
            await raw.expect(Ack)
        async with raw_member(server.url, name="newcomer"):
            pass
        assert server.is_running


# --- how many


async def test_beyond_the_limit_the_oldest_without_a_token_goes_and_nobody_else() -> None:
    async with serving(TransportOptions(unverified_max=3)) as served, AsyncExitStack() as stack:
        known = await stack.enter_async_context(Peer.websocket(served))
        served.sink.connections[1].accept_large_messages()
        upgraded = await stack.enter_async_context(Peer.websocket(served))
        probe = await stack.enter_async_context(Peer.tcp(served))
        probe.writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        await probe.reader.readuntil(b"ok\n")
        silent = await stack.enter_async_context(Peer.tcp(served))
        counters = served.listener.counters
        for others in range(1, 4):
            await stack.enter_async_context(Peer.tcp(served))
            await wait_until(lambda others=others: counters.crowded_out == others)  # type: ignore[misc]
        assert await upgraded.closed_with() == (1013, "overloaded")
        assert await probe.at_end() == await silent.at_end() == b""
        known.say(b"still here")
        await wait_until(lambda: served.sink.messages == [b"still here"])


async def test_one_address_crowds_out_itself_alone() -> None:
    async with serving(TransportOptions(unverified_max=3)) as served, AsyncExitStack() as stack:
        lonely = await stack.enter_async_context(Peer.tcp(served, source="127.0.0.2"))
        for _ in range(10):
            await stack.enter_async_context(Peer.tcp(served))
        await wait_until(lambda: served.listener.counters.crowded_out == 8)
        assert b" 101 " in await lonely.upgrade()


async def turned_away(served: Served, source: str | None = None) -> bool:
    """Whether a WebSocket from there is told to come back, and when."""
    async with Peer.tcp(served, source=source) as peer:
        answer = await peer.upgrade()
        assert b" 101 " in answer or (b" 503 " in answer and b"\r\nRetry-After: " in answer)
        return b" 503 " in answer


async def test_no_more_sockets_than_configured_are_up_and_probes_are_answered_still() -> None:
    async with serving(TransportOptions(sockets_max=2)) as served, Peer.websocket(served):
        async with Peer.websocket(served):
            assert await turned_away(served)
            async with Peer.tcp(served) as probe:
                probe.writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
                await probe.reader.readuntil(b"ok\n")
        await wait_until(lambda: served.listener.counters.sockets_closed == 1)
        assert not await turned_away(served)


@pytest.mark.parametrize(("proxies", "expected"), [((), True), ((ip_network("127.0.0.0/8"),), False)])
async def test_one_address_has_no_more_sockets_than_configured_unless_it_is_a_proxy(
    proxies: tuple[TransportOptions, ...], expected: bool
) -> None:
    options = TransportOptions(sockets_per_address_max=1, proxies=proxies)  # type: ignore[arg-type]
    async with serving(options) as served, Peer.websocket(served):
        assert await turned_away(served) is expected
        assert not await turned_away(served, "127.0.0.2")


# --- how much


async def test_messages_that_are_not_whole_have_a_bound_together_which_is_for_those_without_a_token() -> None:
    async with serving(TransportOptions(unverified_bytes_max=100_000)) as served, AsyncExitStack() as stack:
        peers = [await stack.enter_async_context(Peer.websocket(served)) for _ in range(5)]
        served.sink.connections[1].accept_large_messages()
        for peer in peers[:3]:
            peer.writer.write(HALF_A_MESSAGE)
        read_bytes = served.listener.counters.bytes_received
        await wait_until(lambda: served.listener.counters.bytes_received >= read_bytes + 3 * len(HALF_A_MESSAGE))
        peers[3].writer.write(HALF_A_MESSAGE)
        assert await peers[3].closed_with() == (1013, "overloaded")
        peers[4].say(b"a whole message")
        await wait_until(lambda: served.sink.messages == [b"a whole message"])
        peers[1].writer.write(masked(Frame(Opcode.BINARY, bytes(50_000)))[40_000:])
        await wait_until(lambda: len(served.sink.messages) == 2)
        async with Peer.websocket(served) as peer:
            peer.writer.write(HALF_A_MESSAGE)
            peer.say()
            assert not served.sink.closed or served.sink.closed == [4]


async def test_half_requests_have_that_bound_too() -> None:
    async with serving(TransportOptions(unverified_bytes_max=10_000)) as served, AsyncExitStack() as stack:
        peers = [await stack.enter_async_context(Peer.tcp(served)) for _ in range(2)]
        for peer in peers:
            peer.writer.write(b"GET /" + bytes(8000))
            await peer.writer.drain()
        answers = [await peer.at_end() for peer in peers[1:]]
        assert all(b" 503 " in answer for answer in answers)


# --- first requests


@pytest.mark.parametrize(
    ("said", "status"),
    [
        (request().replace(b"HTTP/1.1", b"HTTP/1.0"), 505),
        (request().replace(b"HTTP/1.1", b"HTTP/2.0"), 400),
        (request().replace(b"GET", b"POST"), 405),
        (request(f"{PATH}?{'x' * 9000}"), 414),
        (request(X="x" * 9000), 431),
        (request(X="x" * 20_000), 431),
        (request(**{f"X{n}": "x" for n in range(200)}), 431),
        (request(Content_Length="5") + b"hello", 400),
        (request(Transfer_Encoding="chunked"), 400),
        (request(Sec_WebSocket_Key="short"), 400),
        (request().replace(b"Host:", b"Ho st:"), 400),
        (request().replace(b"13\r\n", b"13\r\nSec-WebSocket-Version: 13\r\n"), 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (bytes(100), 400),
        (b"\r\n\r\n", 400),
        (b"GET\r\n\r\n", 400),
    ],
)
async def test_what_is_no_handshake_is_answered_and_closed(said: bytes, status: int) -> None:
    async with serving() as served, Peer.tcp(served) as peer:
        peer.writer.write(said)
        answer = await peer.at_end()
        assert answer.split(b" ", 2)[1] == b"%d" % status, answer
        assert not served.sink.connections


async def test_a_drip_of_bytes_is_no_excuse() -> None:
    async with serving(TransportOptions(open_timeout_s=0.2)) as served, Peer.tcp(served) as peer:
        started_s = asyncio.get_running_loop().time()
        for byte in request():
            peer.writer.write(bytes((byte,)))
            await asyncio.sleep(0.01)
            if peer.reader.at_eof() or peer.writer.transport.is_closing():
                break
        await peer.at_end()  # with or without an answer: what still comes may destroy it
        assert asyncio.get_running_loop().time() - started_s < 1


def test_connections_leave_descriptors_to_the_store() -> None:
    for descriptors in (200, 1024, 20_000, 1 << 20):
        fitted = within_descriptors(TransportOptions(sockets_max=20_000), descriptors)
        assert 0 < fitted.unverified_max <= UNVERIFIED_MAX
        assert 0 < fitted.sockets_max <= 20_000
        assert fitted.unverified_max + fitted.sockets_max <= descriptors - DESCRIPTORS_RESERVED
