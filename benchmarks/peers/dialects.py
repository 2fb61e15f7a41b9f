"""What devices and each kind of server say to each other, as far as a device needs it that makes load.

The peers speak the Yjs sync protocol (y-protocols): `0 0 sv` asks, `0 1 update` answers, `0 2 update` is an edit.
Hocuspocus puts the document's name before each message, wants a token first, and answers every edit with a status.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import msgpack

from crdt.protocol import frames
from crdt.protocol.codec import decode_server_frame, decode_updates, encode
from crdt.update import EMPTY_STATE_VECTOR

SYNC, ANSWER_TO_SYNC, SYNC_STATUS = 0, 4, 8
STEP_1, STEP_2, UPDATE = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Opened:
    """The device's document is open. `updates` bring it current; None: they follow in pieces."""

    updates: tuple[bytes, ...] | None
    handle: int = 0
    cursor: frames.Cursor | None = None


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of what brings the device current, which has `total` bytes."""

    data: bytes
    total: int


@dataclass(frozen=True, slots=True)
class Asked:
    """The server asks for what it lacks."""

    state_vector: bytes


@dataclass(frozen=True, slots=True)
class Changes:
    """Edits of others, or of the device itself, which the peers echo."""

    updates: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Acked:
    """The device's ops up to `op` are acknowledged; None: one more than before."""

    op: int | None


Said = Opened | Piece | Asked | Changes | Acked


@dataclass(frozen=True, slots=True)
class Place:
    """Who connects and where: document number `room`, the name of the device, its token ("" where none is asked)."""

    room: int
    device: str
    token: str


@dataclass(frozen=True, slots=True)
class Known:
    """What a device has already."""

    state_vector: bytes = EMPTY_STATE_VECTOR
    cursor: frames.Cursor | None = None


class Dialect(Protocol):
    """One server's language. Messages are the payloads of WebSocket messages."""

    subprotocol: str | None
    acknowledges: bool
    asks: bool
    """Whether a server asks each device for what it lacks."""

    def path(self, room: int) -> str: ...
    def greeting(self, place: Place, known: Known) -> tuple[bytes, ...]:
        """The messages that open the document."""
        ...

    def edit(self, room: int, handle: int, op: int, update: bytes) -> bytes: ...
    def answer(self, room: int, update: bytes) -> bytes:
        """What answers Asked."""
        ...

    def read(self, payload: bytes) -> Said | None: ...


class Yjs:
    """y-websocket and pycrdt-websocket: the document is the path, nothing is acknowledged."""

    subprotocol: str | None = None
    acknowledges = False
    asks = True

    def path(self, room: int) -> str:
        return f"/document-{room}"

    def greeting(self, place: Place, known: Known) -> tuple[bytes, ...]:
        return (_sync(STEP_1, known.state_vector),)

    def edit(self, room: int, handle: int, op: int, update: bytes) -> bytes:
        return _sync(UPDATE, update)

    def answer(self, room: int, update: bytes) -> bytes:
        return _sync(STEP_2, update)

    def read(self, payload: bytes) -> Said | None:
        return _said(payload, 0)


class Hocuspocus:
    """Every message begins with the document's name, and every edit is answered by a status."""

    subprotocol: str | None = None
    acknowledges = True
    asks = True

    def path(self, room: int) -> str:
        return "/"

    def greeting(self, place: Place, known: Known) -> tuple[bytes, ...]:
        name = _named(place.room)
        return name + b"\x02\x00" + _sized(b"benchmark"), name + _sync(STEP_1, known.state_vector)

    def edit(self, room: int, handle: int, op: int, update: bytes) -> bytes:
        return _named(room) + _sync(UPDATE, update)

    def answer(self, room: int, update: bytes) -> bytes:
        return _named(room) + _sync(STEP_2, update)

    def read(self, payload: bytes) -> Said | None:
        length, start = read_uint(payload, 0)
        return _said(payload, start + length)


class Syncline:
    """The protocol of docs/PROTOCOL.md."""

    subprotocol: str | None = frames.SUBPROTOCOL
    acknowledges = True
    asks = False

    def path(self, room: int) -> str:
        return "/v1/sync"

    def greeting(self, place: Place, known: Known) -> tuple[bytes, ...]:
        opening = frames.Open(1, "main", known.cursor, known.state_vector)
        return (encode(frames.Hello(1, place.token, place.device, "bench", {}, (opening,))),)

    def edit(self, room: int, handle: int, op: int, update: bytes) -> bytes:
        return encode(frames.Push(handle, op, (update,)))

    def answer(self, room: int, update: bytes) -> bytes:
        raise AssertionError("Syncline asks for nothing: what a device has to say it pushes")

    def read(self, payload: bytes) -> Said | None:
        fields = msgpack.unpackb(payload)
        match fields[0]:
            case frames.Delta.TYPE:
                return Changes(tuple(fields[3]))
            case frames.Ack.TYPE:
                return Acked(fields[2])
            case frames.Chunk.TYPE:
                return Piece(fields[4], fields[3])
            case frames.Opened.TYPE:
                opened = decode_server_frame(payload)
                assert isinstance(opened, frames.Opened)
                return Opened(None if opened.more else opened.updates, opened.handle, opened.cursor)
            case frames.Error.TYPE:
                raise ConnectionError(f"the server says {fields[1:]}")
            case _:
                return None


def joined(pieces: bytes) -> tuple[bytes, ...]:
    """The updates that came in pieces."""
    return tuple(decode_updates(pieces, deflated=False))


def read_uint(data: bytes, at: int) -> tuple[int, int]:
    """A variable-length integer of lib0 at `at`, and where what follows begins."""
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def _uint(value: int) -> bytes:
    written = bytearray()
    while value > 0x7F:
        written.append(0x80 | value & 0x7F)
        value >>= 7
    written.append(value)
    return bytes(written)


def _sized(data: bytes) -> bytes:
    return _uint(len(data)) + data


def _sync(step: int, data: bytes) -> bytes:
    return bytes((SYNC, step)) + _sized(data)


def _named(room: int) -> bytes:
    return _sized(f"document-{room}".encode())


def _said(payload: bytes, at: int) -> Said | None:
    """What a message of the Yjs protocols says that begins at `at`; None for presence and the like."""
    if payload[at] == SYNC_STATUS:
        return Acked(None)
    if payload[at] not in (SYNC, ANSWER_TO_SYNC):
        return None
    length, start = read_uint(payload, at + 2)
    data = payload[start : start + length]
    match payload[at + 1]:
        case 0:
            return Asked(data)
        case 1:
            return Opened((data,))
        case _:
            return Changes((data,))
