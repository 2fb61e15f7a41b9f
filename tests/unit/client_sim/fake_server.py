"""A small, correct server in memory: no storage, no tokens, no limits. Tests script its answers where they need to."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from crdt.chain import extend
from crdt.ids import DocumentId
from crdt.limits import Limits
from crdt.protocol import codec
from crdt.protocol.frames import (
    CHAIN_START,
    SERVER_REF,
    Access,
    Ack,
    Audit,
    Audited,
    Chunk,
    Cursor,
    Delta,
    DeviceFrame,
    DevicePresence,
    Error,
    Hello,
    Leave,
    Mode,
    Open,
    Opened,
    Ping,
    Pong,
    Presence,
    Push,
    Resync,
    ServerFrame,
    Welcome,
)
from crdt.replica import Replica
from crdt.update import read_update


@dataclass(frozen=True, slots=True)
class Entry:
    device: str
    last_op: int
    updates: tuple[bytes, ...]


@dataclass(slots=True)
class Room:
    """One document: a log, and where each device's ops are."""

    handle: int
    epoch: bytes
    log: list[Entry] = field(default_factory=list)
    first_seq: int = 1
    """Of the oldest log entry kept; a cursor before it gets a diff."""
    ops: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    replica: Replica = field(default_factory=Replica)

    @property
    def head(self) -> int:
        return len(self.log)

    def rewind(self, seq: int) -> None:
        """Forget all entries after `seq`, as a server restored from a backup does."""
        self.log = self.log[:seq]
        self.replica = Replica.load(update for entry in self.log for update in entry.updates)
        self.ops = {}
        for entry in self.log:
            _, chain = self.ops.get(entry.device, (0, CHAIN_START))
            self.ops[entry.device] = (entry.last_op, extend(chain, entry.updates))


Script = Callable[["Session", DeviceFrame], bool]
"""Called with each frame; True if it has dealt with it."""


class FakeServer:
    def __init__(self) -> None:
        self.rooms: dict[str, Room] = {}
        self.sessions: list[Session] = []
        self.script: Script | None = None
        self.limits: dict[str, int] = {}
        self.token_expires_ms = 0
        self.heartbeat_ms = 25_000
        self.access = Access.WRITE
        self.chunk_bytes = 1 << 30
        """Answers of more than this come in chunks of this size."""
        self.payload_count = 0
        self.payloads: dict[bytes, tuple[Opened, bytes]] = {}

    def connect(self, user: str = "alice") -> Session:
        session = Session(self, user)
        self.sessions.append(session)
        return session

    def room(self, name: str, user: str = "alice") -> Room:
        key = str(DocumentId.parse(name, user))
        if key not in self.rooms:
            self.rooms[key] = Room(len(self.rooms) + 1, epoch=len(self.rooms).to_bytes(8, "big"))
        return self.rooms[key]

    def write(self, room: Room, device: str, updates: tuple[bytes, ...]) -> int:
        """One entry of `device`; the ops after its last one. Its seq."""
        op, chain = room.ops.get(device, (0, CHAIN_START))
        room.ops[device] = (op + len(updates), extend(chain, updates))
        room.log.append(Entry(device, op + len(updates), updates))
        room.replica.apply(updates)
        for session in self.sessions:
            if room.handle in session.members and session.device_id != device:
                session.send(Delta(room.handle, room.head, updates))
        return room.head

    def new_epoch(self, name: str, epoch: bytes) -> None:
        room = self.room(name)
        room.epoch, room.ops = epoch, {}


class Session:
    """One connection. What it has to say waits in `outgoing`, messages in order."""

    def __init__(self, server: FakeServer, user: str) -> None:
        self.server = server
        self.user = user
        self.device_id = ""
        self.members: dict[int, Room] = {}
        self.outgoing: deque[bytes] = deque()
        self.received: list[DeviceFrame] = []
        self.closed: tuple[int, str] | None = None

    def send(self, frame: ServerFrame) -> None:
        self.outgoing.append(codec.encode(frame, deflate=True))

    def close(self, code: int, reason: str = "") -> None:
        self.closed = (code, reason)
        self.leave()

    def leave(self) -> None:
        if self in self.server.sessions:
            self.server.sessions.remove(self)

    def receive(self, data: bytes) -> None:
        frame = codec.decode_device_frame(data, Limits())
        assert frame is not None
        self.received.append(frame)
        if self.server.script is None or not self.server.script(self, frame):
            self.serve(frame)

    def serve(self, frame: DeviceFrame) -> None:
        match frame:
            case Hello():
                self._welcome(frame)
            case Open():
                self.open(frame)
            case Push():
                self.push(frame)
            case Leave(handle):
                self.members.pop(handle, None)
            case Ping(n):
                self.send(Pong(n, 0))
            case _:
                self._serve_member(frame)

    def _serve_member(self, frame: DeviceFrame) -> None:
        match frame:
            case Resync(handle, cursor, state_vector):
                self.answer(self.members[handle], SERVER_REF, cursor, state_vector, with_state_vector=True)
            case Presence(handle, payload):
                for session in self.server.sessions:
                    if session is not self and handle in session.members:
                        session.send(DevicePresence(handle, self.device_id, payload))
            case Audit(handle, seq, digest):
                room = self.members[handle]
                self.send(Audited(handle, seq, seq != room.head or room.replica.digest() == digest))
            case _:
                pass

    def _welcome(self, hello: Hello) -> None:
        self.device_id = f"{self.user}/{hello.device}"
        for older in [session for session in self.server.sessions if session.device_id == self.device_id]:
            if older is not self:
                older.send(Error(None, None, "superseded", "", "never"))
                older.close(4409, "superseded")
        limits, expires = self.server.limits, self.server.token_expires_ms
        self.send(Welcome(1, "session", self.user, 0, dict(limits), self.server.heartbeat_ms, expires))
        for opened in hello.opens:
            self.open(opened)

    def open(self, opened: Open) -> None:
        room = self.server.room(opened.doc, self.user)
        self.members[room.handle] = room
        resumed = self.server.payloads.get(opened.resume.payload_id) if opened.resume else None
        if resumed is not None and opened.resume is not None:
            answer, payload = resumed
            self.send(Opened(opened.ref, *[getattr(answer, name) for name in Opened.__slots__[1:]]))
            self._send_chunks(room.handle, payload, opened.resume.offset)
        else:
            self.answer(room, opened.ref, opened.cursor, opened.state_vector)

    def answer(
        self,
        room: Room,
        ref: int,
        cursor: Cursor | None,
        state_vector: bytes | None,
        *,
        with_state_vector: bool = False,
    ) -> None:
        other_epoch = cursor is not None and cursor.epoch != room.epoch
        valid = cursor is not None and not other_epoch and room.first_seq - 1 <= cursor.seq <= room.head
        updates: tuple[bytes, ...] = ()
        if cursor is not None and valid:
            entries = room.log[cursor.seq :]
            mode = Mode.TAIL if entries else Mode.CURRENT
            updates = tuple(u for entry in entries if entry.device != self.device_id for u in entry.updates)
        elif state_vector is None:
            mode = Mode.NEED_SV
        else:
            mode, updates = Mode.DIFF, (room.replica.diff(state_vector),)
        sv = room.replica.state_vector_bytes() if with_state_vector or other_epoch else None
        op, chain = room.ops.get(self.device_id, (0, CHAIN_START))
        opened = Opened(
            ref, room.handle, mode, Cursor(room.epoch, room.head), updates, op, sv, self.server.access, False, chain
        )
        self._send_opened(room, opened)

    def _send_opened(self, room: Room, opened: Opened) -> None:
        payload = codec.deflate_raw(codec.encode_updates(opened.updates))
        if len(payload) <= self.server.chunk_bytes:
            self.send(opened)
            return
        self.server.payload_count += 1
        payload_id = self.server.payload_count.to_bytes(16, "big")
        fields = {name: getattr(opened, name) for name in Opened.__slots__}
        announced = Opened(**{**fields, "updates": (), "more": True, "payload_id": payload_id})
        self.server.payloads[payload_id] = (announced, payload)
        self.send(announced)
        self._send_chunks(room.handle, payload, 0)

    def _send_chunks(self, handle: int, payload: bytes, start: int) -> None:
        size = self.server.chunk_bytes
        for offset in range(start, len(payload), size):
            self.send(Chunk(handle, offset, len(payload), payload[offset : offset + size]))

    def push(self, push: Push) -> None:
        room = self.members[push.handle]
        op, chain = room.ops.get(self.device_id, (0, CHAIN_START))
        known = op - push.first_op + 1
        if known < 0:
            self.refuse(push, "op_gap", "after_resync", expected=op + 1)
            return
        fresh = push.updates[known:]
        if not fresh:
            self.send(Ack(push.handle, op, 0, chain))
            return
        state_vector = room.replica.state_vector()
        for index, update in enumerate(fresh):
            read = read_update(update)
            if read.missing(state_vector):
                sv = room.replica.state_vector_bytes()
                self.refuse(push, "missing_deps", "after_resync", op=op + 1 + index, sv=sv)
                fresh = fresh[:index]
                break
            read.advance(state_vector)
        if fresh:
            seq = self.server.write(room, self.device_id, fresh)
            self.send(Ack(push.handle, *room.ops[self.device_id][:1], seq, room.ops[self.device_id][1]))

    def refuse(self, push: Push, code: str, retry: str, **detail: object) -> None:
        self.send(Error(None, push.handle, code, "", retry, None, {"op": push.first_op, **detail}))
