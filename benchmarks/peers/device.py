"""A device that costs the generator next to nothing: raw sockets, updates made and framed beforehand."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import cast

from benchmarks.client import client_frame
from benchmarks.peers import wire
from benchmarks.peers.dialects import Acked, Asked, Dialect, Known, Opened, Piece, Place, joined
from benchmarks.peers.servers import Server

OPENS_WITHIN_S = 30
RETRY_S = 1.0
CLOSED = "the server closed a connection"
clock = time.perf_counter


class Device(asyncio.Protocol):
    """One connection with one document open.

    Until the document is open it reads what comes; then `on_data(device, data)` gets every piece of the stream, uncut.
    """

    def __init__(self, server: Server, dialect: Dialect, place: Place, known: Known) -> None:
        loop = asyncio.get_running_loop()
        self.opened: asyncio.Future[Opened] = loop.create_future()
        self.asked: asyncio.Future[Asked] = loop.create_future()
        self.on_data: Callable[[Device, bytes], None] | None = None
        self.lost = False
        self.messages = wire.Messages()
        self.sent_at: list[float] = []
        self.bytes_in = 0
        """Payloads of messages, until the document was open."""
        self.bytes_out = 0
        """The same of what the device said, without its token."""
        self._dialect = dialect
        self._room = place.room
        self._request = wire.upgrade(server.host, server.port, dialect.path(place.room), dialect.subprotocol)
        self._greeting = dialect.greeting(place, known)
        self.bytes_out -= len(place.token)
        self._head: bytes | None = b""
        self._pieces = bytearray()
        self._first: Opened | None = None
        self._edits: Sequence[bytes] = ()

    @property
    def sent(self) -> int:
        return len(self.sent_at)

    def load(self, updates: Sequence[bytes]) -> None:
        """The updates to send, in order, each framed here and now."""
        handle = self.opened.result().handle
        self._edits = [
            client_frame(self._dialect.edit(self._room, handle, op, update)) for op, update in enumerate(updates, 1)
        ]

    @property
    def left(self) -> int:
        """Updates that it could still send."""
        return len(self._edits) - self.sent

    def push(self, count: int = 1) -> None:
        """Send the next `count` updates of those that are left, a message each. Raises ConnectionError."""
        if self.lost:
            raise ConnectionError(CLOSED)
        edits = self._edits[self.sent : self.sent + count]
        assert len(edits) == count, "make more updates beforehand"
        self.sent_at.extend([clock()] * count)
        self._transport.write(b"".join(edits))

    def answer(self, update: bytes) -> None:
        self._say(self._dialect.answer(self._room, update))

    def close(self) -> None:
        """What was written is still sent."""
        self._transport.close()

    # --- the event loop's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(self._request)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        if not self.opened.done():
            self.opened.set_exception(ConnectionError(f"{CLOSED}: {exc}"))

    def data_received(self, data: bytes) -> None:
        if self.on_data is not None:
            if data[0] == wire.PING and (pong := wire.pong_to(data)):
                self._transport.write(pong)
            self.on_data(self, data)
        elif self._head is not None:
            self._upgrading(data)
        else:
            self._opening(data)

    def _upgrading(self, data: bytes) -> None:
        assert self._head is not None
        head, end, rest = (self._head + data).partition(b"\r\n\r\n")
        if not end:
            self._head = head
            return
        self._head = None
        if b" 101 " not in head:
            self.opened.set_exception(ConnectionError(head.decode(errors="replace")))
            return
        for said in self._greeting:
            self._say(said)
        if rest:
            self._opening(rest)

    def _opening(self, data: bytes) -> None:
        for payload in self.messages.feed(data):
            self.bytes_in += len(payload)
            match self._dialect.read(payload):
                case Opened() as opened if opened.updates is None:
                    self._first = opened
                case Opened() as opened if not self.opened.done():
                    self.opened.set_result(opened)
                case Piece(piece, total):
                    self._pieces += piece
                    if len(self._pieces) == total and self._first is not None:
                        first, updates = self._first, joined(bytes(self._pieces))
                        self.opened.set_result(Opened(updates, first.handle, first.cursor))
                case Asked() as asked if not self.asked.done():
                    self.asked.set_result(asked)
                case Acked() | _:
                    pass

    def _say(self, payload: bytes) -> None:
        self.bytes_out += len(payload)
        self._transport.write(client_frame(payload))


async def connected(server: Server, dialect: Dialect, room: int, name: str, known: Known | None = None) -> Device:
    """A device whose document is open. One that is turned away comes back, as devices do."""
    place = Place(room, name, server.token(f"user{room}", name))
    loop = asyncio.get_running_loop()
    deadline = clock() + OPENS_WITHIN_S
    while True:
        _, device = await loop.create_connection(
            lambda: Device(server, dialect, place, known or Known()), server.host, server.port
        )
        try:
            await asyncio.wait_for(asyncio.shield(device.opened), OPENS_WITHIN_S)
        except ConnectionError:
            if clock() > deadline:
                raise
            await asyncio.sleep(RETRY_S)
        else:
            return device
