"""Slow readers, and readers that we are slow for: what waits has a bound, and the sink is told in time."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from websockets.frames import Frame, Opcode

from server.runtime import silence
from server.runtime.connection import Connection
from server.runtime.silence import unsent_bytes
from server.runtime.transport import Socket, TransportOptions
from server.runtime.wire import encode_message
from tests.integration.transport_peers import Peer, RecordingSink, Served, close_frame, request, serving
from tests.support import wait_until

KIB = 1 << 10
OPTIONS = TransportOptions(
    outbox_drained_bytes=64 * KIB, outbox_bytes_max=256 * KIB, outbox_bytes_cap=1024 * KIB, close_timeout_s=0.05
)
FRAME = encode_message(bytes(16 * KIB))


@asynccontextmanager
async def deaf_peer(
    served: Served, kernel_bytes: int = 16 * KIB, their_kernel_bytes: int = 16 * KIB
) -> AsyncIterator[Peer]:
    """A WebSocket whose peer reads nothing until it is told to, behind a small receive buffer.

    The kernel holds about `kernel_bytes` on our side.
    """
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, their_kernel_bytes)
    raw.setblocking(False)
    await asyncio.get_running_loop().sock_connect(raw, served.listener.address)
    reader, writer = await asyncio.open_connection(sock=raw, limit=16 * KIB)
    peer = Peer(reader, writer)
    try:
        await peer.upgrade()
        _server_buffer(served.sink.connections[1]).setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, kernel_bytes)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        yield peer
    finally:
        writer.transport.abort()


def _server_buffer(connection: Connection) -> socket.socket:
    raw: socket.socket = connection._transport.get_extra_info("socket")
    return raw


async def send_until(connection: Connection, buffered_bytes: int) -> None:
    """Let frames queue up, a few in each turn of the loop."""
    while connection.buffered_bytes <= buffered_bytes:
        connection.send(FRAME)
        await wait_until(lambda: connection._queued_bytes == 0)


async def test_a_slow_reader_is_reported_once_and_again_after_it_has_caught_up() -> None:
    async with serving(OPTIONS) as served, deaf_peer(served) as peer:
        connection, sink = served.sink.connections[1], served.sink
        for n in (1, 2):
            await send_until(connection, OPTIONS.outbox_bytes_max)
            await wait_until(lambda n=n: sink.overfull == [1] * n)  # type: ignore[misc]
            await send_until(connection, OPTIONS.outbox_bytes_max + 64 * KIB)
            assert sink.overfull == [1] * n
            connection.await_drain()
            peer.writer.transport.resume_reading()  # type: ignore[attr-defined]
            while len(sink.drained) < n:
                await peer.message()
            assert sink.drained == [1] * n
            peer.writer.transport.pause_reading()  # type: ignore[attr-defined]


async def test_drained_is_told_at_once_but_never_from_inside_the_call() -> None:
    async with serving(OPTIONS) as served, Peer.websocket(served):
        connection, sink = served.sink.connections[1], served.sink
        connection.await_drain()
        assert sink.drained == []
        await wait_until(lambda: sink.drained == [1])
        connection.send(FRAME)
        connection.await_drain()
        await wait_until(lambda: sink.drained == [1, 1])
        assert sink.overfull == []


async def test_a_reader_that_takes_nothing_is_cut_at_the_cap() -> None:
    async with serving(OPTIONS) as served, deaf_peer(served):
        connection = served.sink.connections[1]
        most = 0
        while not served.sink.closed:
            connection.send(FRAME)
            most = max(most, connection.buffered_bytes)
            await wait_until(lambda: connection._queued_bytes == 0)
        assert most <= OPTIONS.outbox_bytes_cap + len(FRAME)
        assert connection.buffered_bytes == 0
        assert served.listener.counters.connections_aborted == 1


async def test_the_cap_holds_within_a_turn_too() -> None:
    async with serving(OPTIONS) as served, Peer.websocket(served):
        connection = served.sink.connections[1]
        for _ in range(1000):
            connection.send(FRAME)
            assert connection._queued_bytes <= OPTIONS.outbox_bytes_cap
        await wait_until(lambda: served.sink.closed == [1])


async def test_pongs_count_too() -> None:
    options = TransportOptions(outbox_drained_bytes=KIB, outbox_bytes_max=4 * KIB, outbox_bytes_cap=64 * KIB)
    async with serving(options) as served, deaf_peer(served) as peer:
        served.sink.connections[1].accept_large_messages()
        peer.send(*[Frame(Opcode.PING, bytes(125))] * 5000)
        await wait_until(lambda: served.sink.closed == [1])
        assert served.listener.counters.connections_aborted == 1


async def test_closing_on_a_reader_that_takes_nothing_ends_in_time() -> None:
    async with serving(OPTIONS) as served, deaf_peer(served):
        connection = served.sink.connections[1]
        await send_until(connection, OPTIONS.outbox_bytes_max)
        connection.close(4409, "superseded")
        await wait_until(lambda: served.sink.closed == [1])


async def test_a_slow_reader_that_takes_bytes_outlives_a_ping_stuck_behind_them() -> None:
    options = TransportOptions(outbox_drained_bytes=16 * KIB, ping_interval_s=0.05, ping_timeout_s=0.2)
    async with serving(options) as served, deaf_peer(served) as peer:
        connection, loop = served.sink.connections[1], asyncio.get_running_loop()
        await send_until(connection, 512 * KIB)
        peer.writer.transport.resume_reading()  # type: ignore[attr-defined]
        started_at = loop.time()
        while loop.time() - started_at < 4 * options.ping_timeout_s:
            at = loop.time()
            frame = await peer.frame()  # answers no ping
            assert frame.opcode in (Opcode.BINARY, Opcode.PING)
            connection.send(FRAME)
            await wait_until(lambda at=at: loop.time() - at > 0.02)  # type: ignore[misc]
        assert served.sink.closed == []


async def test_a_slow_reader_outlives_a_ping_behind_what_the_kernel_holds_for_it() -> None:
    """Nothing waits with us, so nobody calls it slow."""
    options = TransportOptions(ping_interval_s=0.05, ping_timeout_s=0.2)
    async with serving(options) as served, deaf_peer(served, 1024 * KIB) as peer:
        connection, loop = served.sink.connections[1], asyncio.get_running_loop()
        for _ in range(40):
            connection.send(FRAME)
        await wait_until(lambda: connection.buffered_bytes == 0)
        peer.writer.transport.resume_reading()  # type: ignore[attr-defined]
        frames = 0
        while frames < 40:
            at = loop.time()
            frame = await peer.frame()
            frames += frame.opcode is Opcode.BINARY
            await wait_until(lambda at=at: loop.time() - at > 0.02)  # type: ignore[misc]
        assert served.sink.closed == []


async def test_a_reader_outlives_a_ping_behind_what_its_own_kernel_has_taken() -> None:
    options = TransportOptions(ping_interval_s=0.05, ping_timeout_s=0.05)
    async with serving(options) as served, deaf_peer(served, their_kernel_bytes=1024 * KIB) as peer:
        connection, loop = served.sink.connections[1], asyncio.get_running_loop()
        for _ in range(40):
            connection.send(FRAME)
        await wait_until(lambda: unsent_bytes(connection._transport) == 0)
        began_s = loop.time()
        await wait_until(lambda: loop.time() - began_s > 0.3)
        assert served.sink.closed == []
        peer.writer.transport.resume_reading()  # type: ignore[attr-defined]
        while (await peer.frame()).opcode is not Opcode.PING:
            pass
        peer.send(Frame(Opcode.PONG, b""))


async def test_a_reader_that_takes_nothing_is_gone_however_much_the_kernel_holds_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(silence, "PATIENCE_S", 0.2)
    options = TransportOptions(ping_interval_s=0.05, ping_timeout_s=0.1)
    async with serving(options) as served, deaf_peer(served, 1024 * KIB):
        connection = served.sink.connections[1]
        for _ in range(40):
            connection.send(FRAME)
        await wait_until(lambda: served.sink.closed == [1])


# --- reading


class Pausing(RecordingSink):
    """Pauses after each message."""

    def messages_received(self, session: int, messages: list[bytes]) -> None:
        super().messages_received(session, messages)
        self.connections[session].pause_reading()


async def test_paused_means_not_one_message_more() -> None:
    async with serving(sink=Pausing()) as served, Peer.websocket(served) as peer:
        messages = [b"%d" % n for n in range(5)]
        peer.say(*messages)
        await wait_until(lambda: served.sink.messages)
        for n in range(1, 5):
            assert served.sink.messages == messages[:n]
            served.sink.connections[1].resume_reading()
            assert served.sink.messages == messages[:n], "never from inside the call"
            await wait_until(lambda n=n: len(served.sink.messages) == n + 1)  # type: ignore[misc]


async def test_while_paused_the_peer_can_not_fill_our_memory() -> None:
    async with serving(sink=Pausing()) as served, Peer.websocket(served) as peer:
        peer.say(b"pause")
        await wait_until(lambda: served.sink.messages)
        read_before = served.listener.counters.bytes_received
        peer.say(*[bytes(64 * KIB)] * 1000)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await peer.writer.drain()
        assert served.listener.counters.bytes_received - read_before <= 1024 * KIB


async def test_a_peer_is_not_judged_silent_while_we_do_not_read() -> None:
    options = TransportOptions(ping_interval_s=0.02, ping_timeout_s=0.02)
    async with serving(options) as served, Peer.websocket(served) as peer:
        loop, connection = asyncio.get_running_loop(), served.sink.connections[1]
        connection.pause_reading()
        paused_at = loop.time()
        await wait_until(lambda: loop.time() - paused_at > 0.2)
        assert served.sink.closed == []
        peer.say(b"still here")
        connection.resume_reading()
        await wait_until(lambda: served.sink.messages == [b"still here"])


async def test_a_paused_connection_can_be_closed() -> None:
    async with serving(sink=Pausing()) as served, Peer.websocket(served) as peer:
        peer.say(b"first", b"kept back")
        await wait_until(lambda: served.sink.messages)
        served.sink.connections[1].close(4429, "rate_limited")
        assert await peer.closed_with() == (4429, "rate_limited")
        peer.send(close_frame(4429))
        assert await peer.at_end() == b""
        await wait_until(lambda: served.sink.closed == [1])
        assert served.sink.messages == [b"first"]
        assert served.listener.counters.connections_aborted == 0


async def test_what_the_sink_raises_about_a_full_outbox_closes_that_connection() -> None:
    class Failing(RecordingSink):
        def outbox_drained(self, session: int) -> None:
            raise RuntimeError("drained")

    async with serving(sink=Failing()) as served, Peer.websocket(served) as peer:
        served.sink.connections[1].await_drain()
        assert await peer.closed_with() == (1011, "internal")
        assert [str(error) for error in served.errors] == ["drained"]


async def test_messages_in_the_segment_of_the_request_wait_for_a_sink_that_pauses_at_once() -> None:
    class Shy(RecordingSink):
        def socket_opened(self, connection: Socket, bearer: str | None) -> int:
            connection.pause_reading()
            return super().socket_opened(connection, bearer)

    async with serving(sink=Shy()) as served, Peer.tcp(served) as peer:
        hello = Frame(Opcode.BINARY, b"hello").serialize(mask=True)
        peer.writer.write(request() + hello)
        await peer.reader.readuntil(b"\r\n\r\n")
        assert served.sink.messages == []
        served.sink.connections[1].resume_reading()
        await wait_until(lambda: served.sink.messages == [b"hello"])
