"""Light devices that come back: they open documents with what they have of them, and count what that takes.

What counts as frames is the payload of each WebSocket message both ways, NONCE, HELLO and WELCOME included, less the
token. Beside it come 2 to 14 bytes a message for WebSocket, and once the HTTP upgrade (`wire_bytes` has them all).
"""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

from benchmarks.client import client_frame, pong
from benchmarks.figures import WorkloadFailed
from benchmarks.server_process import ServerProcess
from crdt.protocol import frames
from crdt.protocol.codec import decode_server_frame, decode_updates, encode
from crdt.protocol.frames import PATH, SUBPROTOCOL, Cursor, Mode, Open, ServerFrame
from crdt.update import EMPTY_STATE_VECTOR

AGENT = "app/1.0"
_PING, _BINARY, _CLOSE = 0x89, 0x82, 0x88
_SWITCHED = b"HTTP/1.1 101 "


class TurnedAway(WorkloadFailed):
    """The server said no, which fails what does not expect it. `retry_after_s`: when to come back, if it said so."""

    def __init__(self, code: str, retry_after_s: float | None) -> None:
        super().__init__(f"{code}, come back after {retry_after_s} s")
        self.code = code
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True)
class Place:
    """What a device has of a document: all of the log up to `cursor`, which makes `state_vector`."""

    cursor: Cursor | None = None
    state_vector: bytes = EMPTY_STATE_VECTOR


NOTHING = Place()


@dataclass(frozen=True, slots=True)
class CaughtUp:
    """How a device was brought current. `mode` is that of the answer that did it."""

    mode: Mode
    updates: tuple[bytes, ...]
    cursor: Cursor
    acked_op: int


class Visit:
    """One document of a visitor. `deltas` are the updates that came since it was current."""

    def __init__(self, document: str, place: Place) -> None:
        self.document = document
        self.place = place
        self.handle = 0
        self.acked = 0
        self.acked_seq = 0
        self.deltas: list[bytes] = []
        self.caught_up: asyncio.Future[CaughtUp] = asyncio.get_running_loop().create_future()
        self._ack_waiter: tuple[int, asyncio.Future[None]] | None = None
        self._answer: frames.Opened | None = None
        self._chunks = bytearray()

    def opening(self, ref: int) -> Open:
        """As the reference device opens: a state vector goes along only where there is no cursor."""
        cursor = self.place.cursor
        return Open(ref, self.document, cursor, None if cursor else self.place.state_vector)

    async def acknowledged(self, op: int) -> None:
        """Returns once the ops up to `op` are acknowledged. One caller at a time."""
        if self.acked < op:
            waiter = asyncio.get_running_loop().create_future()
            self._ack_waiter = (op, waiter)
            await waiter

    def opened(self, opened: frames.Opened) -> None:
        self.handle = opened.handle
        self.acked = max(self.acked, opened.acked_op)
        if opened.more:
            self._answer = opened
            self._chunks.clear()
        else:
            self._current(opened, opened.updates)

    def chunk(self, chunk: frames.Chunk) -> None:
        assert self._answer is not None
        self._chunks += chunk.data
        if len(self._chunks) == chunk.total:
            self._current(self._answer, decode_updates(bytes(self._chunks), deflated=True))

    def _current(self, opened: frames.Opened, updates: tuple[bytes, ...]) -> None:
        if not self.caught_up.done():
            self.caught_up.set_result(CaughtUp(opened.mode, updates, opened.cursor, opened.acked_op))

    def ack(self, ack: frames.Ack) -> None:
        self.acked, self.acked_seq = ack.op, ack.seq
        if self._ack_waiter is not None and self.acked >= self._ack_waiter[0]:
            _, waiter = self._ack_waiter
            self._ack_waiter = None
            if not waiter.done():
                waiter.set_result(None)

    def fail(self, error: Exception) -> None:
        for waiter in (self.caught_up, self._ack_waiter[1] if self._ack_waiter else None):
            if waiter is not None and not waiter.done():
                waiter.set_exception(error)
                waiter.exception()  # whoever has gone by now need not hear of it


class Visitor(asyncio.Protocol):
    """One connection of a device, with any number of documents. Offers deflate, as devices do; answers pings."""

    def __init__(self, token: str, device: str, visits: Sequence[Visit]) -> None:
        self.visits: list[Visit] = []
        self.wire_bytes = 0
        self.frame_bytes_up = -len(token)
        self.frame_bytes_down = 0
        self.on_frame: Callable[[ServerFrame], None] | None = None
        self.welcomed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.left: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done once the connection is gone."""
        self._by_ref: dict[int, Visit] = {}
        self._by_handle: dict[int, Visit] = {}
        self._buffer = bytearray()
        self._upgraded = False
        self._why: Exception | None = None
        opens = tuple(self._asking(visit) for visit in visits)
        self._hello = frames.Hello(1, token, device, AGENT, {"deflate": True}, opens)

    @property
    def frame_bytes(self) -> int:
        """Both ways, less the token."""
        return self.frame_bytes_up + self.frame_bytes_down

    async def open(self, visit: Visit) -> CaughtUp:
        """Open one more document. Raises TurnedAway and ConnectionError."""
        self.send(self._asking(visit))
        return await visit.caught_up

    def push(self, visit: Visit, first_op: int, updates: Sequence[bytes]) -> None:
        """Ops `first_op`, ... in one message, deflated where that is worth it."""
        self.send(frames.Push(visit.handle, first_op, tuple(updates)), deflate=True)

    def send(self, frame: frames.DeviceFrame, *, deflate: bool = False) -> None:
        payload = encode(frame, deflate=deflate)
        self.frame_bytes_up += len(payload)
        self._write(client_frame(payload))

    def close(self) -> None:
        self._transport.close()

    def _asking(self, visit: Visit) -> Open:
        self.visits.append(visit)
        ref = len(self.visits)
        self._by_ref[ref] = visit
        return visit.opening(ref)

    # --- the event loop's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._write(_UPGRADE)
        self.send(self._hello)

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(self._why or ConnectionError(f"the server closed the connection: {exc}"))
        self.left.set_result(None)

    def data_received(self, data: bytes) -> None:
        self.wire_bytes += len(data)
        self._buffer += data
        if not self._upgraded and not self._upgrade():
            return
        at = 0
        while (message := _next_message(self._buffer, at)) is not None:
            opcode, start, at = message
            self._message(opcode, bytes(self._buffer[start:at]))
        del self._buffer[:at]

    def _write(self, data: bytes) -> None:
        self.wire_bytes += len(data)
        self._transport.write(data)

    def _upgrade(self) -> bool:
        head, end, _ = bytes(self._buffer).partition(b"\r\n\r\n")
        if not end:
            return False
        if not head.startswith(_SWITCHED):
            self._why = _refused_by_http(head)
            self._transport.close()
            return False
        del self._buffer[: len(head) + len(end)]
        self._upgraded = True
        return True

    def _message(self, opcode: int, payload: bytes) -> None:
        if opcode == _PING:
            self._write(pong(payload))
        elif opcode == _CLOSE:
            self._transport.close()
        elif opcode == _BINARY:
            self.frame_bytes_down += len(payload)
            frame = decode_server_frame(payload)
            assert frame is not None
            self._frame(frame)

    def _frame(self, frame: ServerFrame) -> None:
        match frame:
            case frames.Welcome():
                self.welcomed.set_result(None)
            case frames.Opened():
                self._opened(frame)
            case frames.Chunk():
                self._by_handle[frame.handle].chunk(frame)
            case frames.Ack():
                self._by_handle[frame.handle].ack(frame)
            case frames.Delta():
                self._by_handle[frame.handle].deltas.extend(frame.updates)
            case frames.Error():
                self._error(frame)
            case frames.GoAway(retry_after_ms=wait_ms):
                self._why = TurnedAway("shutting_down", wait_ms / 1000)
            case _:
                pass
        if self.on_frame is not None:
            self.on_frame(frame)

    def _opened(self, opened: frames.Opened) -> None:
        visit = self._by_ref[opened.ref] if opened.ref else self._by_handle[opened.handle]
        self._by_handle[opened.handle] = visit
        if opened.mode is Mode.NEED_SV:
            cursor, vector = visit.place.cursor, visit.place.state_vector
            same_epoch = cursor is not None and cursor.epoch == opened.cursor.epoch
            self.send(frames.Resync(opened.handle, cursor if same_epoch else None, vector))
        else:
            visit.opened(opened)

    def _error(self, error: frames.Error) -> None:
        wait_ms = error.retry_after_ms
        refused = TurnedAway(error.code, None if wait_ms is None else wait_ms / 1000)
        if error.ref:
            self._by_ref[error.ref].fail(refused)
        elif error.handle is not None:
            self._by_handle[error.handle].fail(refused)
        else:
            self._why = refused

    def _fail(self, error: Exception) -> None:
        if not self.welcomed.done():
            self.welcomed.set_exception(error)
            self.welcomed.exception()
        for visit in self.visits:
            visit.fail(error)


async def visit(
    server: ServerProcess,
    token: str,
    device: str,
    visits: Sequence[Visit] = (),
    *,
    source: str | None = None,
) -> Visitor:
    """A device that is let in; its visits go on by themselves. `source` is a loopback address to come from.

    Raises TurnedAway and OSError.
    """
    _, visitor = await asyncio.get_running_loop().create_connection(
        lambda: Visitor(token, device, visits),
        server.host,
        server.port,
        local_addr=(source, 0) if source else None,
    )
    await visitor.welcomed
    return visitor


async def caught_up(visitor: Visitor) -> list[CaughtUp]:
    """The answers to all that it has open. Raises TurnedAway and ConnectionError."""
    return [await each.caught_up for each in visitor.visits]


_UPGRADE = (
    f"GET {PATH} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    f"Sec-WebSocket-Key: {b64encode(bytes(16)).decode()}\r\nSec-WebSocket-Version: 13\r\n"
    f"Sec-WebSocket-Protocol: {SUBPROTOCOL}\r\n\r\n"
).encode()


def _next_message(buffer: bytearray, at: int) -> tuple[int, int, int] | None:
    """First byte, and start and end of the payload, of the message at `at`; None if it is not all there."""
    if len(buffer) - at < 2:
        return None
    length, start = buffer[at + 1], at + 2
    if length >= 126:
        start += 2 if length == 126 else 8
        length = int.from_bytes(buffer[at + 2 : start], "big")
    return None if len(buffer) < start + length else (buffer[at], start, start + length)


def _refused_by_http(head: bytes) -> TurnedAway:
    status, *lines = head.decode("latin-1").split("\r\n")
    fields: dict[str, Any] = {}
    for line in lines:
        name, _, value = line.partition(":")
        fields[name.lower()] = value.strip()
    wait_s = fields.get("retry-after")
    return TurnedAway(status, None if wait_s is None else float(wait_s))
