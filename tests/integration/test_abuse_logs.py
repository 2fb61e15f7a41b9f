"""Everything that makes a server log, done with what no log may tell."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest
import structlog
from websockets.frames import Frame, Opcode

from crdt.protocol.frames import PATH, Hello, Open, Push
from server.runtime.telemetry import configure_logging
from tests.integration.server_peers import raw_device, raw_member, raw_socket, text_updates
from tests.integration.server_process import ServerProcess, server_process
from tests.integration.transport_peers import Peer, close_frame, request
from tests.log_watch import remember_text, told, watched_logs
from tests.server_fixture import make_token

MARKER = "what-nobody-else-may-read"


async def _bad_requests(server: ServerProcess, token: str) -> None:
    bearer = {"Authorization": f"Bearer {token}"}
    for said in (
        request(f"{PATH}?token={token}", **bearer),
        request(f"/{MARKER}?access_token={token}", **bearer),
        request(**bearer, Origin=f"https://{MARKER}"),
        request(**bearer, Sec_WebSocket_Key=MARKER),
        request(**bearer, Sec_WebSocket_Protocol=MARKER),
        request(f"{PATH}?{token * 40}", **bearer),
        request(**bearer).replace(b"GET", token.encode()),
        b"\x16\x03" + token.encode(),
        token.encode() + b"\r\n\r\n",
    ):
        async with Peer.at(server.address) as peer:
            peer.writer.write(said)
            await peer.at_end()


async def _bad_frames(server: ServerProcess, token: str) -> None:
    secret = f"{MARKER} {token[:60]}".encode()
    for frame in (
        Frame(Opcode.TEXT, secret),
        Frame(Opcode.CONT, secret),
        Frame(Opcode.BINARY, secret),
        Frame(Opcode.PING, secret),
        close_frame(4999, MARKER),
        Frame(Opcode.CLOSE, b"\x03\xe8\xff" + secret),
    ):
        async with Peer.at(server.address) as peer:
            await peer.upgrade(headers={"Authorization": f"Bearer {token}"})
            peer.send(frame, close_frame(1000, MARKER))
            await peer.at_end()


async def _bad_devices(server: ServerProcess, token: str) -> None:
    for bad in (MARKER, token + "x", token.rpartition(".")[0] + ".", make_token(MARKER, "raw", ttl_s=-1)):
        async with raw_socket(server.url) as raw:
            await raw.send(Hello(1, bad, "raw", MARKER, {MARKER: MARKER}, ()))
            await raw.rest()
    async with raw_device(server.url, Open(1, f"{MARKER}/theirs"), name="raw") as raw:
        await raw.say(MARKER.encode())
        await raw.rest()
    good = text_updates(5, [MARKER])[0]
    for update in (good[:-3], good + MARKER.encode(), MARKER.encode(), text_updates(6, ["x", MARKER])[1]):
        async with raw_member(server.url, name="raw") as (raw, opened):
            await raw.send(Push(opened.handle, 1, (update,)))
            await raw.receive()


@pytest.mark.parametrize("log_format", ["json", "console"])
async def test_no_log_tells_a_token_or_what_people_wrote(tmp_path: Path, log_format: str) -> None:
    remember_text(MARKER)
    token = make_token("alice", "raw")
    async with server_process(tmp_path, arguments=("--log-format", log_format)) as server:
        for misbehave in (_bad_requests, _bad_frames, _bad_devices):
            await misbehave(server, token)
        server.terminate()
        assert await server.exited() == 0
        log = server.log.read_text()
    assert "refused" in log
    assert told(log) == []


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_a_traceback_tells_no_values(
    log_format: Literal["json", "console"], capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(content: str) -> None:
        raise ZeroDivisionError(str(len(content)))

    with watched_logs():
        configure_logging(log_format, "info")
        log = structlog.get_logger("syncline.of_a_test")
        try:
            fail(MARKER)
        except ZeroDivisionError as error:
            log.error("sink_failed", exc_info=error)
    written = capsys.readouterr().err
    assert "ZeroDivisionError" in written
    assert MARKER not in written


@pytest.mark.parametrize(
    "leak", [lambda token: token, lambda token: token[:20], lambda token: token.rpartition(".")[2], lambda _: MARKER]
)
def test_a_leak_would_be_noticed(leak: Callable[[str], str]) -> None:
    remember_text(MARKER)
    token = make_token("alice", "phone")
    with pytest.raises(AssertionError), watched_logs():
        structlog.get_logger("syncline.of_a_test").warning("leaking", value=leak(token))
