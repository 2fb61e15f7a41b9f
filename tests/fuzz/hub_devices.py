"""Devices of a hub: honest ones, that keep the protocol, and one that sends what it likes."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from random import Random

from crdt.protocol import codec, frames
from crdt.protocol.codes import Code, Retry
from crdt.protocol.frames import Cursor, DeviceFrame, Mode, Open, Push
from crdt.update import StateVector, read_state_vector
from tests.fuzz import contents, grammar, mutation
from tests.fuzz import frames as messages
from tests.fuzz.atlas import Atlas
from tests.fuzz.findings import Finding
from tests.fuzz.honest import Phone
from tests.fuzz.raw import parse
from tests.unit.server.core.lab import Lab, token

OWN_ROOTS = {"notes": "text", "board": "map", "tasks": "array", "page": "xml"}
"""Nobody else writes into these: who puts a text into what an app takes for XML makes the library panic in that app."""

TTL_S = 1e6


class Honest:
    """One document on one device. What it may not send yet waits."""

    def __init__(self, lab: Lab, user: str, device: str, document: str, client: int) -> None:
        self.lab = lab
        self.user = user
        self.device = device
        self.document = document
        self.phone = Phone(client)
        self.atlas = Atlas(frozenset(OWN_ROOTS))
        self.outbox: list[tuple[int, bytes]] = []
        self._ops = 0
        self._handle: int | None = None
        self._session = 0
        self._cursor: Cursor | None = None
        self._uplink: deque[DeviceFrame] = deque()
        self._chunks = b""
        self._waits_for: frames.Opened | None = None

    def connect(self) -> None:
        self._handle, self._waits_for = None, None
        self._uplink.clear()
        opened = Open(1, self.document, self._cursor, self.phone.doc.get_state())
        self._session = self.lab.hello(self.user, self.device, opened, ttl_s=TTL_S)

    def reconnect(self) -> None:
        if self._session not in self.lab.closed:
            self.lab.disconnect(self._session)
        self.connect()

    def state_vector(self) -> StateVector:
        return read_state_vector(self.phone.doc.get_state())

    def edit(self, random: Random) -> None:
        update = self.phone.edit(random, OWN_ROOTS)
        if update is None:
            return
        self.atlas.add(parse(update))
        self._ops += 1
        self.outbox.append((self._ops, update))
        if self._handle is not None:
            self._uplink.append(Push(self._handle, self._ops, (update,)))
        self._send()

    def read(self) -> bool:
        """Take in what came, and send what may be sent. False if there was nothing to do."""
        if self._session in self.lab.closed:
            code, reason = self.lab.closed[self._session]
            if reason not in (Code.RATE_LIMITED, Code.OVERLOADED):
                raise Finding("honest", f"its connection was closed: {code} {reason}")
            self.connect()
            return True
        received = self.lab.received(self._session)
        for frame in received:
            self._receive(frame)
        return self._send() or bool(received)

    def _send(self) -> bool:
        sent = False
        while self._uplink and self._session not in self.lab.paused and self._session not in self.lab.closed:
            self.lab.send(self._session, self._uplink.popleft())
            sent = True
        return sent

    def _receive(self, frame: frames.ServerFrame) -> None:
        match frame:
            case frames.Opened():
                self._opened(frame)
            case frames.Chunk(data=data):
                self._chunk(data, frame.total)
            case frames.Delta(_, seq, updates):
                self._take(updates)
                if self._cursor is not None:
                    self._cursor = Cursor(self._cursor.epoch, seq)
            case frames.Ack(_, op, seq, _):
                self.outbox = [(number, update) for number, update in self.outbox if number > op]
                if self._cursor is not None and seq:
                    self._cursor = Cursor(self._cursor.epoch, seq)
            case frames.Error():
                self._refused(frame)
            case _:
                pass

    def _opened(self, opened: frames.Opened) -> None:
        self._handle = opened.handle
        if opened.mode is Mode.NEED_SV:
            self._resync()
        elif opened.more:
            self._chunks, self._waits_for = b"", opened
        else:
            self._brought_current(opened, opened.updates)

    def _chunk(self, data: bytes, total: int) -> None:
        self._chunks += data
        if self._waits_for is not None and len(self._chunks) >= total:
            opened, self._waits_for = self._waits_for, None
            self._brought_current(opened, codec.decode_updates(self._chunks, deflated=False))

    def _brought_current(self, opened: frames.Opened, updates: tuple[bytes, ...]) -> None:
        self._take(updates)
        if self._cursor is not None and self._cursor.epoch != opened.cursor.epoch:
            self.outbox = list(enumerate((update for _, update in self.outbox), opened.acked_op + 1))
            self._ops = opened.acked_op + len(self.outbox)
        self._cursor = opened.cursor
        self.outbox = [(number, update) for number, update in self.outbox if number > opened.acked_op]
        self._push_all()

    def _push_all(self) -> None:
        assert self._handle is not None
        if self.outbox:
            updates = tuple(update for _, update in self.outbox)
            self._uplink.append(Push(self._handle, self.outbox[0][0], updates))

    def _resync(self) -> None:
        assert self._handle is not None
        self._uplink.append(frames.Resync(self._handle, None, self.phone.doc.get_state()))

    def _take(self, updates: tuple[bytes, ...]) -> None:
        for update in updates:
            self.phone.receive(update)
            self.atlas.add(parse(update))

    def _refused(self, error: frames.Error) -> None:
        match Code(error.code).retry:
            case Retry.AFTER_RESYNC:
                self._resync()
            case Retry.NOW | Retry.LATER:
                self._push_all()
            case _:
                raise Finding("honest", f"it was told {error.code}: {error.message}")


class Hostile:
    """One socket. It has a token of its own, reads what it is told, and uses some of it."""

    def __init__(self, random: Random, lab: Lab, session: int, grants: Mapping[str, str]) -> None:
        self.random = random
        self.lab = lab
        self.session = session
        self.grants = dict(grants)
        self.device = random.choice(("evil", "evil", "other"))
        self.user = random.choice(("mallory", "mallory", "alice"))
        self.handles: list[int] = []
        self.cursor = Cursor(bytes(8), 0)
        self.next_op = 1
        self._greeted = False

    def message(self, atlas: Atlas) -> bytes:
        """The next message: mostly a frame that could be right."""
        self._read()
        random = self.random
        if random.random() < 0.05:
            return messages.make(random)
        if not self._greeted and random.random() < 0.97:
            self._greeted = True
            data = codec.encode(self._hello())
        else:
            data = codec.encode(self._frame(atlas), deflate=random.random() < 0.1)
        return mutation.bytes_changed(random, data, [data]) if random.random() < 0.01 else data

    def _read(self) -> None:
        for frame in self.lab.received(self.session):
            match frame:
                case frames.Opened():
                    self.handles.append(frame.handle)
                    self.cursor, self.next_op = frame.cursor, frame.acked_op + 1
                case frames.Ack(_, op, _, _):
                    self.next_op = max(self.next_op, op + 1)
                case frames.Error(detail={"op": int(op)}):
                    self.next_op = op
                case _:
                    pass

    def _frame(self, atlas: Atlas) -> DeviceFrame:
        random = self.random
        if not self.handles and random.random() < 0.9:
            return self._open()
        handle = (
            random.choice(self.handles) if random.random() < 0.95 and self.handles else random.choice((0, 1, 1 << 40))
        )
        return self._push(handle, atlas) if random.random() < 0.6 else self._other_frame(handle)

    def _other_frame(self, handle: int) -> DeviceFrame:
        random = self.random
        seen = random.choice((0, self.cursor.seq, 1 << 50))
        presence = random.choice((None, b"", b"x" * 4000, b"x" * 4000, b"x" * 5000))
        data = random.choice(({}, {"a": 1}, {"a": float("nan")}, {"b": "x" * 4000}, {"c": 10**18}))
        return random.choice(
            (
                self._hello() if random.random() < 0.1 else frames.Ping(0),
                self._open(),
                self._open(),
                frames.Leave(handle),
                frames.Presence(handle, presence),
                frames.Auth(self._token()),
                frames.Ping(random.choice((0, 1, (1 << 63) - 1))),
                frames.Resync(handle, random.choice((None, self._cursor())), self._vector()),
                frames.Audit(handle, seen, random.randbytes(16)),
                frames.Report(data),
            )
        )

    def _hello(self) -> frames.Hello:
        options = self.random.choice(({}, {}, {"deflate": True}, {"deflate": 1}, {"proof": b"", "key": b""}))
        opens = tuple(self._open() for _ in range(self.random.choice((0, 1, 1, 1, 1, 3, 20))))
        device = self.device if self.random.random() < 0.95 else "phone"
        version = 1 if self.random.random() < 0.97 else 2
        return frames.Hello(version, self._token(), device, "\x1b[31m\n", options, opens)

    def _token(self) -> str:
        random = self.random
        match random.randrange(50):
            case 0:
                return token(self.user, self.device, ttl_s=random.choice((-1, 1, 30)), docs=self.grants)
            case 1:
                return random.choice(("", "a.b.c", "e30.e30.", "x" * 9000, token("bob", "evil", docs=self.grants)))
            case 2:
                return token(self.user, self.device, docs={"alice/main": "r"}, ttl_s=TTL_S)
            case _:
                return token(self.user, self.device, docs=self.grants, ttl_s=TTL_S)

    def _open(self) -> Open:
        random = self.random
        names = ["alice/main"] * 12 + ["main", "bob/other", "/", "", "x" * 200, "mallory/own", "😀"]
        resume = frames.Resume(random.randbytes(16), random.choice((0, 1, 1 << 40))) if random.random() < 0.1 else None
        cursor = random.choice((None, self._cursor()))
        return Open(random.choice((1, 2, 0, 1 << 50)), random.choice(names), cursor, self._vector(), resume)

    def _cursor(self) -> Cursor:
        seq = max(0, self.cursor.seq + self.random.choice((-5, -1, 0, 0, 1, 1 << 40)))
        return Cursor(self.random.choice((self.cursor.epoch, bytes(8))), seq)

    def _vector(self) -> bytes:
        if self.random.random() < 0.03:
            return self.random.choice((b"\x00\x00", b"", b"\xff\xff"))
        return self.random.choice((b"\x00", b"\x00", b"\x01\x01\x05", b"\x01\x85\x07\x02", b"\x01\x87\x07\xff\x01"))

    def _push(self, handle: int, atlas: Atlas) -> Push:
        random = self.random
        first = self.next_op if random.random() < 0.95 else max(0, self.next_op + random.choice((-1, 1, 1 << 40)))
        updates = tuple(self._update(atlas) for _ in range(random.choice((0, 1, 1, 1, 1, 2, 5))))
        self.next_op += len(updates)
        return Push(handle, first, updates, heal=random.random() < 0.05)

    def _update(self, atlas: Atlas) -> bytes:
        random = self.random
        raw = grammar.compose(random, atlas, (50, 51, 52))
        if random.random() < 0.1:
            raw = mutation.fields_changed(random, raw, [raw])
        if random.random() < 0.03:
            return random.choice((b"", b"\x00\x00", b"\x00" * 12, contents.bad_value(random), random.randbytes(20)))
        return raw.encode()
