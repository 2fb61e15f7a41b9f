"""A hub without sockets or disks: messages go in by hand, storage answers when the test says so."""

from __future__ import annotations

from collections import deque
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar, assert_never

import jwt
from pycrdt import Text

from crdt import chain
from crdt.errors import BadUpdate, ReplicaBroken
from crdt.ids import DeviceId, DocumentId
from crdt.limits import Limits
from crdt.protocol import frames
from crdt.protocol.codec import decode_server_frame, encode
from crdt.protocol.frames import CHAIN_START, Ack, Cursor, DeviceFrame, Error, Push, ServerFrame
from crdt.replica import Replica
from crdt.update import read_update
from server.core import effects, events
from server.core.admission import AdmissionPolicy
from server.core.auth import Authority, VerificationKey
from server.core.effects import Effect
from server.core.events import Event
from server.core.hub import Hub
from server.core.options import CoreOptions
from server.core.ports import CorruptDocument, StorageError
from server.core.records import AppendResult, LogEntry
from server.runtime.rehearsal import document_digest, packed_inspector, rehearse
from server.storage.compaction import verified_snapshot
from server.storage.memory import MemoryStorage

T = TypeVar("T")
F = TypeVar("F", bound=ServerFrame)

SECRET = b"a secret of at least thirty-two bytes"
AUTHORITY = Authority((VerificationKey("HS256", SECRET),), audience="syncline", issuer="test")
WALL_S = 1_800_000_000.0
MAIN = DocumentId("alice", "main")


def token(user: str, device: str, *, ttl_s: float = 3600, docs: Mapping[str, str] | None = None, **claims: Any) -> str:
    payload = {
        "sub": user, "did": device, "iat": WALL_S, "exp": WALL_S + ttl_s,
        "aud": "syncline", "iss": "test", "jti": f"{user}-{device}", "docs": dict(docs or {}),
    }  # fmt: skip
    return jwt.encode(payload | claims, SECRET, algorithm="HS256")


def now_of(work: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that waits for nothing."""
    try:
        work.send(None)
    except StopIteration as stop:
        result: T = stop.value
        return result
    raise AssertionError("it waits")


class CountingMeter:
    """Remembers what it was told, by name."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[Any, ...]]] = []

    def __getattr__(self, name: str) -> Any:
        return lambda *args: self.calls.append((name, args))

    def of(self, name: str) -> list[tuple[Any, ...]]:
        return [args for called, args in self.calls if called == name]


@dataclass
class Writer:
    """Makes a device's updates: types into one text under its own client id."""

    client: int
    replica: Replica = field(init=False)
    ops: int = 0
    chain: bytes = CHAIN_START

    def __post_init__(self) -> None:
        self.replica = Replica(self.client)

    def type(self, text: str, root: str = "t") -> bytes:
        update = self.replica.edit(lambda doc: doc.get(root, type=Text).insert(0, text))
        assert update is not None
        self.ops += 1
        self.chain = chain.extend(self.chain, (update,))
        return update


class Lab:
    """`held` effects wait until `settle` or `answer`; frames wait in `inbox`, closes in `closed`.

    Two labs with one `storage` are two server processes; `entropy` makes their epochs differ.
    """

    def __init__(
        self, *, wall_s: float = WALL_S, storage: MemoryStorage | None = None, entropy: int = 0, **options: Any
    ) -> None:
        self.meter = CountingMeter()
        self.storage = storage or MemoryStorage(b"s" * 16)
        self.options = CoreOptions(**{"admission": AdmissionPolicy(hellos_per_turn=1_000_000)} | options)
        self.now = 100.0
        self.sessions = 0
        self.inbox: dict[int, list[ServerFrame]] = {}
        self.nonces: dict[int, bytes] = {}
        self.seen: list[effects.DeviceSeen] = []
        self.closed: dict[int, tuple[int, str]] = {}
        self.gone: list[int] = []
        """Sessions whose sockets are closed."""
        self.paused: list[int] = []
        self.given_back: dict[int, list[bytes]] = {}
        """What the hub did not look at of a read, by session."""
        self.later: list[Event] = []
        self.awaiting_drain: list[int] = []
        self.imports: dict[int, effects.ImportFinished] = {}
        self.drained = 0
        self.held: deque[Effect] = deque()
        self.log: list[effects.Log] = []
        self._bytes = entropy
        self._wall_s = wall_s
        self.start()

    def start(self) -> None:
        """A server process begins (again); what the old one had in memory is gone, its sockets too."""
        self.hub = Hub(self.options, AUTHORITY, self.meter, self._entropy)
        self.held.clear()
        self.paused.clear()
        self.awaiting_drain.clear()
        self.gone = list(self.inbox)
        self.read_clock(self._wall_s)

    def read_clock(self, wall_s: float) -> None:
        """The wall clock shows `wall_s` plus what has passed since the lab was made."""
        self._wall_s = wall_s
        self.feed(events.ClockRead(wall_s + self.now - 100.0))

    def _entropy(self, size: int) -> bytes:
        self._bytes += 1
        return self._bytes.to_bytes(size, "big")

    # --- events

    def feed(self, event: Event) -> None:
        for effect in self.hub.handle(event, self.now):
            self._execute(effect)
        if self.later:
            self.feed(self.later.pop(0))

    def _execute(self, effect: Effect) -> None:  # noqa: C901 - one line for each effect
        match effect:
            case effects.Send(sessions, data):
                for session in sessions:
                    self._deliver(session, data)
            case effects.Publish(_, receivers, _):
                for session in receivers:
                    for data in effect.for_receiver(session, list(effect.deltas), lambda ack: ack):
                        self._deliver(session, data)
            case effects.Close(session, code, reason):
                assert session not in self.closed, "closed twice"
                self.closed[session] = (code, reason)
                self.paused = [other for other in self.paused if other != session]
            case (
                effects.Load() | effects.Append() | effects.Compact() | effects.BeginEpoch()
                | effects.Rehearse() | effects.Inspect() | effects.ReadDigest() | effects.Quarantine()
            ):  # fmt: skip
                self.held.append(effect)
            case effects.Log():
                self.log.append(effect)
            case effects.AwaitDrain(session):
                self.awaiting_drain.append(session)
            case effects.PauseReading(session):
                assert session not in self.paused, "paused twice"
                self.paused.append(session)
            case effects.GiveBack(session, messages):
                assert session in self.paused
                self.given_back[session] = [*messages, *self.given_back.get(session, ())]
            case effects.ResumeReading(session):
                self.paused.remove(session)
                for data in self.given_back.pop(session, ()):
                    self.later.append(events.MessagesReceived(session, [data]))
            case effects.ImportFinished(request):
                assert request not in self.imports, "answered twice"
                self.imports[request] = effect
            case effects.Drained():
                self.drained += 1
            case effects.DeviceSeen():
                self.seen.append(effect)
            case effects.HelloAccepted() | effects.DoubtKeys():
                pass
            case _:
                assert_never(effect)

    def _deliver(self, session: int, data: bytes) -> None:
        frame = decode_server_frame(data)
        assert frame is not None
        assert session not in self.closed, f"{frame} after the close"
        assert session not in self.gone, f"{frame} to nobody"
        if isinstance(frame, frames.Nonce):
            assert not self.inbox[session], "the nonce comes first"
            self.nonces[session] = frame.nonce
        else:
            self.inbox[session].append(frame)

    def turn(self) -> None:
        """The event loop is idle: what is due happens."""
        while (deadline := self.hub.next_deadline()) is not None and deadline <= self.now:
            self.feed(events.TimePassed())

    def advance(self, seconds: float) -> None:
        self.now += seconds
        self.settle()

    def settle(self) -> None:
        """Let storage answer until nothing is under way."""
        self.turn()
        for _ in range(10_000):
            if not self.held:
                return
            self.answer()
            self.turn()
        raise AssertionError("it never comes to rest")

    def answer(self) -> None:
        """Let storage answer the oldest request."""
        effect = self.held.popleft()
        if isinstance(effect, effects.Quarantine):
            now_of(self.storage.quarantine(effect.document, effect.reason))
            return
        self.feed(now_of(self._answer(effect)))

    def answer_last(self) -> None:
        """Let storage answer the newest request."""
        self.held.rotate(1)
        self.answer()

    async def _answer(self, effect: Effect) -> Event:  # noqa: C901 - one case for each effect
        match effect:
            case effects.Load(document):
                try:
                    return events.DocumentLoaded(document, await self.storage.load(document))
                except CorruptDocument as exc:
                    return events.LoadFailed(document, corrupt=str(exc))
                except StorageError:
                    return events.LoadFailed(document, corrupt=None)
            case effects.Append(batch):
                return events.Appended(tuple(await self.storage.append(batch)))
            case effects.Rehearse(document, updates):
                return events.Rehearsed(document, *rehearse(await self.storage.load(document), updates))
            case effects.Inspect(document):
                stored = await self.storage.load(document)
                return events.Inspected(document, Cursor(stored.epoch, stored.head_seq), packed_inspector(stored))
            case effects.ReadDigest(document):
                stored = await self.storage.load(document)
                try:
                    digest = document_digest(stored)
                except (BadUpdate, ReplicaBroken):
                    return events.DigestRead(document, None, None)
                return events.DigestRead(document, Cursor(stored.epoch, stored.head_seq), digest)
            case effects.BeginEpoch(document, epoch):
                await self.storage.begin_epoch(document, epoch)
                return events.EpochBegun(document)
            case effects.Compact(document):
                snapshot = verified_snapshot(await self.storage.load(document), int(WALL_S * 1000))
                await self.storage.save_snapshot(document, snapshot)
                return events.Compacted(document, snapshot.seq, len(snapshot.state))
            case _:
                raise AssertionError(effect)

    def drain(self, session: int) -> None:
        """The session's reader has caught up, if the hub asked to be told."""
        self.awaiting_drain.remove(session)
        self.feed(events.OutboxDrained(session))

    def fail(self, *, durable: bool = False) -> None:
        """Let storage fail the oldest request; `durable`: what it should append is in all the same."""
        effect = self.held.popleft()
        match effect:
            case effects.Append(batch):
                if durable:
                    now_of(self.storage.append(batch))
                self.feed(events.AppendFailed())
            case effects.Load(document):
                self.feed(events.LoadFailed(document, corrupt=None))
            case effects.BeginEpoch(document, _):
                self.feed(events.EpochFailed(document))
            case effects.Compact(document):
                self.feed(events.CompactionFailed(document))
            case _:
                raise AssertionError(effect)

    # --- devices

    def connect(self) -> int:
        self.sessions += 1
        self.inbox[self.sessions] = []
        self.feed(events.SocketOpened(self.sessions))
        return self.sessions

    def disconnect(self, session: int) -> None:
        self.gone.append(session)
        self.paused = [other for other in self.paused if other != session]
        self.awaiting_drain = [other for other in self.awaiting_drain if other != session]
        self.feed(events.SocketClosed(session))

    def send(self, session: int, frame: DeviceFrame) -> None:
        self.feed(events.MessagesReceived(session, [encode(frame)]))

    def hello(self, user: str = "alice", device: str = "phone", *opens: frames.Open, **claims: Any) -> int:
        options = claims.pop("options", {})
        session = self.connect()
        self.send(session, frames.Hello(1, token(user, device, **claims), device, "test", options, opens))
        return session

    def join(self, user: str = "alice", device: str = "phone", doc: str = "main", **claims: Any) -> tuple[int, int]:
        """A device that has opened a document: its session, and the handle."""
        session = self.hello(user, device, frames.Open(1, doc, None, b"\x00"), **claims)
        self.settle()
        return session, self.take(session, frames.Opened).handle

    def push(self, session: int, handle: int, first_op: int, *updates: bytes) -> None:
        self.send(session, Push(handle, first_op, updates))

    def take(self, session: int, kind: type[F]) -> F:
        """The oldest frame, which must be of this kind, after any WELCOME."""
        inbox = self.inbox[session]
        while inbox and isinstance(inbox[0], frames.Welcome) and kind is not frames.Welcome:
            inbox.pop(0)
        assert inbox, f"no {kind.__name__} came"
        frame = inbox.pop(0)
        assert isinstance(frame, kind), f"expected {kind.__name__}, got {frame}"
        return frame

    def received(self, session: int) -> list[ServerFrame]:
        """What has come since it was last asked for, without WELCOME."""
        inbox, self.inbox[session] = self.inbox[session], []
        return [frame for frame in inbox if not isinstance(frame, frames.Welcome)]

    def durable(self, document: DocumentId = MAIN) -> list[LogEntry]:
        return list(now_of(self.storage.load(document)).entries)

    def epoch(self, document: DocumentId = MAIN) -> bytes:
        return now_of(self.storage.load(document)).epoch


def values(entries: list[LogEntry]) -> dict[str, Any]:
    """What a log says, taken in order: every update fits when its turn comes."""
    replica = Replica()
    for entry in entries:
        for update in entry.updates:
            assert read_update(update).missing(replica.state_vector()) is None, f"entry {entry.seq} comes too early"
            replica.apply((update,))
    return replica.values()


def phone(user: str = "alice", name: str = "phone") -> DeviceId:
    return DeviceId(user, name)


__all__ = [
    "AUTHORITY", "MAIN", "WALL_S", "AppendResult", "CountingMeter", "Cursor", "Lab", "Limits", "Writer", "now_of",
    "phone", "token", "values",
]  # fmt: skip


def refused_ops(lab: Lab, session: int) -> list[tuple[str, object]]:
    found = [frame for frame in lab.received(session) if isinstance(frame, Error)]
    return [(error.code, (error.detail or {}).get("op")) for error in found]


def acked_ops(lab: Lab, session: int) -> list[tuple[int, int]]:
    return [(frame.op, frame.seq) for frame in lab.received(session) if isinstance(frame, Ack)]
