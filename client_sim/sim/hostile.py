"""A device that does not keep the protocol: with a token of its own, of a guest, or of nobody who may read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

import msgpack

from client_sim.core.roots import Roots
from client_sim.sim.handset import Surroundings
from client_sim.sim.link import DeviceEnd, Link
from crdt.errors import PeerError
from crdt.ids import DocumentId
from crdt.protocol import frames
from crdt.protocol.codec import decode_server_frame, encode
from crdt.protocol.frames import Cursor, Opened
from crdt.replica import Replica
from crdt.update import read_update
from crdt.update.ranges import Ranges
from server.core import arrivals

EPOCH = b"anything"


@dataclass(slots=True)
class Intruder:
    """One at a time connects, sends what it likes, and is thrown out. It reads only what helps it."""

    world: Surroundings
    user: str
    name: str
    document: DocumentId
    rng: Random
    connect: Callable[[DeviceEnd], Link | None]
    link: Link | None = None
    handle: int = 1
    cursor: Cursor | None = None
    next_op: int = 1
    heard: list[bytes] = field(default_factory=list)
    """Updates of others that it was sent."""
    _refs: int = 0
    _poison: bytes | None = None
    """What it pushes as soon as it has the document open."""

    @property
    def label(self) -> str:
        return f"{self.user}/{self.name}"

    # --- its end of the link

    def connected(self) -> None:
        token = self.world.token(self.user, self.name)
        hello = frames.Hello(1, token, self.name, "nice app/1.0", {}, (self._open(),))
        self._send(encode(hello))

    def received(self, data: bytes) -> None:
        try:
            frame = decode_server_frame(data)
        except PeerError:
            return
        if isinstance(frame, Opened):
            self.handle, self.cursor, self.next_op = frame.handle, frame.cursor, frame.acked_op + 1
            self._push_poison()
        if isinstance(frame, Opened | frames.Delta):
            self.heard = [*self.heard, *frame.updates][-8:]

    def lost(self, code: int | None, reason: str) -> None:
        self.link = None

    def _open(self) -> frames.Open:
        self._refs += 1
        return frames.Open(self._refs, str(self.document), None, b"\x00")

    def _send(self, data: bytes) -> None:
        if self.link is not None:
            self.link.send_up(data)

    # --- what it does

    def act(self, rng: Random) -> None:
        """One thing that no honest device does."""
        if self.link is None:
            self.link = self.connect(self)
            return
        kind = rng.choice(tuple(_TRICKS))
        self.world.history.note(self.label, "hostile", kind)
        self.world.history.counts[f"hostile {kind}"] += 1
        for data in _TRICKS[kind](self, rng):
            self._send(data)

    def poison(self, rng: Random) -> None:
        """Push what kills whoever applies it: large enough to be tried before."""
        writer = Replica(1 + rng.getrandbits(31))
        size = arrivals.TURN_BYTES + rng.randrange(100)
        self._poison = writer.edit(lambda doc: Roots(doc).text("body").insert(0, "x" * size))
        assert self._poison is not None
        self.world.truth.deadly.add(self._poison)
        if self.link is None:
            self.link = self.connect(self)
        else:
            self._push_poison()

    def _push_poison(self) -> None:
        if self._poison is not None:
            self.world.history.counts["hostile deadly push"] += 1
            self._send(_push(self, self._poison))
            self._poison = None

    def some_update(self, rng: Random) -> bytes:
        """An update as others make them, or one that was."""
        entries = self.world.truth.of(self.document).entries
        updates = [update for entry in entries[-5:] for update in entry.updates] or [b"\x00\x00"]
        return rng.choice(updates)


def _garbage(intruder: Intruder, rng: Random) -> list[bytes]:
    return [rng.randbytes(rng.choice((0, 1, 3, 40, 400)))]


def _wrong_fields(intruder: Intruder, rng: Random) -> list[bytes]:
    values: list[object] = [rng.choice((None, -1, "x", b"x", [], {}, 1 << 62, True)) for _ in range(rng.randrange(6))]
    return [msgpack.packb([rng.choice((1, 2, 3, 4, 5, 6, 8, 9, 10, 63, 64, 127, 200)), *values])]


def _bad_update(intruder: Intruder, rng: Random) -> list[bytes]:
    """An honest update with some bytes turned over, cut off, or with more behind it."""
    update = bytearray(intruder.some_update(rng))
    match rng.randrange(3):
        case 0:
            for _ in range(rng.choice((1, 1, 3))):
                update[rng.randrange(len(update))] ^= 1 << rng.randrange(8)
        case 1:
            del update[rng.randrange(len(update)) :]
        case _:
            update += rng.randbytes(rng.choice((1, 8)))
    return [_push(intruder, bytes(update))]


def _push(intruder: Intruder, *updates: bytes, first_op: int | None = None, heal: bool = False) -> bytes:
    return encode(frames.Push(intruder.handle, intruder.next_op if first_op is None else first_op, updates, heal))


def _stale(intruder: Intruder, rng: Random) -> list[bytes]:
    """What is in the log already, or was sent a moment ago, under numbers old and new."""
    update = intruder.some_update(rng)
    first_op = rng.choice((0, 1, intruder.next_op, intruder.next_op + 7, 1 << 40))
    again = _push(intruder, update, first_op=first_op, heal=rng.random() < 0.3)
    return [again] * rng.choice((1, 2, 10))


def _misfit(intruder: Intruder, rng: Random) -> list[bytes]:
    """Updates that build on what nobody has."""
    client = rng.getrandbits(32)
    struct = bytes((1, 1)) + _varint(client) + bytes((5,)) + b"\x04\x01\x01b\x01x" + b"\x00"
    return [_push(intruder, struct)] * rng.choice((1, 30))


def _halves(intruder: Intruder, rng: Random) -> list[bytes]:
    """Something between the two halves of somebody's emoji, or one of the halves deleted."""
    entries = intruder.world.truth.of(intruder.document).entries
    pairs = [pair for entry in entries for update in entry.updates for pair in read_update(update).pairs]
    if not pairs:
        return []
    client, second = rng.choice(pairs)
    if rng.random() < 0.3:
        half = second - rng.randrange(2)
        return [_push(intruder, Ranges([(client, half, half + 1)]).as_deletion())]
    neighbours = _varint(client) + _varint(second - 1) + _varint(client) + _varint(second)
    content = rng.choice(("x", "😀")).encode()
    struct = b"\x01\x01" + _varint(rng.getrandbits(32)) + b"\x00\xc4" + neighbours + _varint(len(content)) + content
    return [_push(intruder, struct + b"\x00")]


def _open_much(intruder: Intruder, rng: Random) -> list[bytes]:
    names = ("alice/main", "alice/secret", "../etc", "", "bob/main", "x" * 200, intruder.user + "/own")
    opens = []
    for _ in range(rng.choice((1, 5, 30))):
        intruder._refs += 1
        opens.append(encode(frames.Open(intruder._refs, rng.choice(names), None, b"\x00")))
    return opens


def _bad_state(intruder: Intruder, rng: Random) -> list[bytes]:
    vector = rng.choice((b"", b"\xff" * 9, b"\x01\x05", rng.randbytes(30), b"\x00" * 5000))
    cursor = rng.choice((None, Cursor(EPOCH, 1 << 40), intruder.cursor))
    return [encode(frames.Resync(intruder.handle, cursor, vector))]


def _ahead(intruder: Intruder, rng: Random) -> list[bytes]:
    """A cursor of things to come."""
    cursor = Cursor(intruder.cursor.epoch if intruder.cursor else EPOCH, 1 << 40)
    return [encode(frames.Resync(intruder.handle, cursor, b"\x00"))]


def _presence(intruder: Intruder, rng: Random) -> list[bytes]:
    payload = rng.randbytes(rng.choice((0, 10, 5000)))
    return [encode(frames.Presence(intruder.handle, payload))] * rng.choice((1, 20))


def _others(intruder: Intruder, rng: Random) -> list[bytes]:
    """Frames that are fine, out of place: of other documents, of another user, twice."""
    token = intruder.world.token("alice", "phone") + rng.choice(("", "x"))
    return [
        rng.choice(
            (
                encode(frames.Auth(token)),
                encode(frames.Hello(1, token, "phone", "again", {}, ())),
                encode(frames.Leave(rng.choice((intruder.handle, 9999)))),
                encode(frames.Audit(intruder.handle, 1 << 30, bytes(16))),
                encode(frames.Report({"x": "y" * rng.choice((1, 5000))})),
                _push(intruder, b"\x00\x00", first_op=1),
            )
        )
    ]


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*out, value))


_TRICKS: dict[str, Callable[[Intruder, Random], list[bytes]]] = {
    "garbage": _garbage,
    "wrong fields": _wrong_fields,
    "bad update": _bad_update,
    "stale push": _stale,
    "misfit": _misfit,
    "half an emoji": _halves,
    "opens": _open_much,
    "bad state vector": _bad_state,
    "cursor ahead": _ahead,
    "presence": _presence,
    "out of place": _others,
}
