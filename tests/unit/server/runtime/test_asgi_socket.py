"""A WebSocket of another ASGI server keeps the bounds that our own connections keep."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, MutableMapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from server.runtime.asgi_socket import AsgiSocket
from server.runtime.transport import Shared, Socket, TransportOptions
from server.runtime.wire import encode_fragment, encode_message
from tests.support import wait_until

OPTIONS = TransportOptions(
    hello_bytes_max=100, message_bytes_max=1_000, outbox_drained_bytes=1_000, outbox_bytes_max=4_000,
    outbox_bytes_cap=16_000, close_timeout_s=0.05, ping_interval_s=0.02,
)  # fmt: skip


@dataclass
class Sink:
    """Keeps what it is told; `fails` is the method that has a bug."""

    told: list[str] = field(default_factory=list)
    messages: list[bytes] = field(default_factory=list)
    closed: int = 0
    pauses: bool = False
    fails: str = ""
    socket: Socket | None = None

    def socket_opened(self, connection: Socket, bearer: str | None) -> int:
        self.socket = connection
        return 1

    def messages_received(self, session: int, messages: list[bytes]) -> None:
        if self.fails == "messages":
            raise RuntimeError(self.fails)
        self.messages += messages
        if self.pauses and self.socket is not None:
            self.socket.pause_reading()

    def socket_closed(self, session: int) -> None:
        self.closed += 1

    def outbox_overfull(self, session: int) -> None:
        self.told.append("overfull")

    def outbox_drained(self, session: int) -> None:
        self.told.append("drained")


@dataclass
class Host:
    """The ASGI server: `comes` is what the client says; `takes` is whether the client takes anything."""

    socket: AsgiSocket
    sink: Sink
    shared: Shared
    errors: list[Exception]
    comes: asyncio.Queue[dict[str, Any]]
    sent: list[MutableMapping[str, Any]]
    takes: asyncio.Event
    running: asyncio.Task[None] | None = None

    def say(self, message: bytes) -> None:
        self.comes.put_nowait({"type": "websocket.receive", "bytes": message})

    @property
    def close_code(self) -> int | None:
        return next((event["code"] for event in self.sent if event["type"] == "websocket.close"), None)

    @property
    def messages(self) -> list[bytes]:
        return [event["bytes"] for event in self.sent if event["type"] == "websocket.send"]


@asynccontextmanager
async def hosted(sink: Sink | None = None, sign_of_life: bytes = b"") -> AsyncIterator[Host]:
    """Ends with what is always so: each session is closed once, and nothing is counted any more."""
    sink = sink or Sink()
    errors: list[Exception] = []
    shared = Shared.of(sink, OPTIONS, errors.append)
    comes, sent, takes = asyncio.Queue[dict[str, Any]](), list[MutableMapping[str, Any]](), asyncio.Event()
    takes.set()

    async def send(event: MutableMapping[str, Any]) -> None:
        await takes.wait()
        sent.append(event)

    socket = AsgiSocket(shared, sink, "127.0.0.1/32", comes.get, send)
    host = Host(socket, sink, shared, errors, comes, sent, takes)
    host.running = asyncio.create_task(socket.run(None, sign_of_life))
    await wait_until(lambda: sink.socket is not None)
    try:
        yield host
    finally:
        comes.put_nowait({"type": "websocket.disconnect", "code": 1000})
        socket.resume_reading()
        await host.running
    assert sink.closed == 1
    assert not shared.members.all()
    assert not len(shared.lobby)
    assert shared.counters.sockets_opened == shared.counters.sockets_closed == 1
    socket.send(encode_message(b"late"))
    socket.close(1000)
    socket.await_drain()


async def test_messages_go_both_ways_in_order() -> None:
    async with hosted() as host:
        for number in range(200):
            host.say(bytes([number]))
        await wait_until(lambda: len(host.sink.messages) == 200)
        assert host.sink.messages == [bytes([number]) for number in range(200)]
        large = bytes(70_000 // 10)
        framed = encode_message(b"a") + encode_message(bytes(126)) + encode_message(large)
        host.socket.send(framed)
        host.socket.send(encode_fragment(b"in ", is_first=True, is_last=False))
        host.socket.send(encode_fragment(b"pieces", is_first=False, is_last=True) + encode_message(b""))
        await wait_until(lambda: len(host.messages) == 5)
        assert host.messages == [b"a", bytes(126), large, b"in pieces", b""]


async def test_nothing_is_received_while_reading_is_paused() -> None:
    async with hosted(Sink(pauses=True)) as host:
        for message in (b"1", b"2", b"3"):
            host.say(message)
        await wait_until(lambda: host.sink.messages)
        host.socket.send(encode_message(b"still there"))
        await wait_until(lambda: host.messages)
        assert host.sink.messages == [b"1"]
        assert host.comes.qsize() == 2
        host.sink.pauses = False
        host.socket.give_back([b"1b", b"1c"])
        host.socket.resume_reading()
        await wait_until(lambda: len(host.sink.messages) == 5)
        assert host.sink.messages == [b"1", b"1b", b"1c", b"2", b"3"]


async def test_a_slow_reader_is_told_of_once_and_again_after_it_has_drained() -> None:
    async with hosted() as host:
        for _ in range(2):
            host.takes.clear()
            for _ in range(6):
                host.socket.send(encode_message(bytes(1_000)))
            host.socket.await_drain()
            await wait_until(lambda: "overfull" in host.sink.told)
            assert host.sink.told == ["overfull"]
            host.takes.set()
            await wait_until(lambda: "drained" in host.sink.told)
            host.sink.told.clear()


async def test_a_reader_that_takes_nothing_is_cut() -> None:
    async with hosted() as host:
        host.takes.clear()
        while not host.shared.counters.connections_aborted:
            host.socket.send(encode_message(bytes(1_000)))
        await wait_until(lambda: host.sink.closed)
        assert not host.sent


async def test_what_was_sent_before_a_close_goes_out_before_it() -> None:
    async with hosted() as host:
        host.socket.send(encode_message(b"last words"))
        host.socket.close(4401, "token_expired")
        host.socket.send(encode_message(b"nothing more"))
        await wait_until(lambda: host.sink.closed)
        assert [event["type"] for event in host.sent] == ["websocket.send", "websocket.close"]
        assert host.close_code == 4401


async def test_a_reader_that_takes_no_close_is_not_waited_for() -> None:
    async with hosted() as host:
        host.takes.clear()
        host.socket.close(1000)
        await wait_until(lambda: host.sink.closed)
        assert not host.sent


async def test_messages_have_their_bounds_before_and_after_the_token() -> None:
    async with hosted() as host:
        host.say(bytes(100))
        await wait_until(lambda: host.sink.messages)
        assert len(host.shared.lobby) == 1
        host.socket.accept_large_messages()
        assert len(host.shared.lobby) == 0
        host.say(bytes(1_000))
        await wait_until(lambda: len(host.sink.messages) == 2)
        host.say(bytes(1_001))
        await wait_until(lambda: host.close_code == 1009)


async def test_text_is_no_message() -> None:
    async with hosted() as host:
        host.comes.put_nowait({"type": "websocket.receive", "text": "hello"})
        await wait_until(lambda: host.close_code == 4400)


async def test_a_bug_ends_the_one_socket() -> None:
    async with hosted(Sink(fails="messages")) as host:
        host.say(b"x")
        await wait_until(lambda: host.close_code == 1011)
        assert [str(error) for error in host.errors] == ["messages"]


async def test_whoever_hears_nothing_else_hears_a_sign_of_life() -> None:
    async with hosted(sign_of_life=b"alive") as host:
        await wait_until(lambda: host.messages == [b"alive"] * 3)


async def test_a_newcomer_takes_the_place_of_one_without_a_token() -> None:
    async with hosted() as host:
        host.socket.give_way()
        await wait_until(lambda: host.close_code == 1013)
        assert host.shared.counters.crowded_out == 1
