"""One server process: a real hub, its driver in virtual time, and a guard at its door who knows the truth."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from random import Random
from typing import Any, assert_never, cast

from client_sim.sim.database import Database
from client_sim.sim.guard import Guard
from client_sim.sim.history import History
from client_sim.sim.issuer import AUTHORITY
from client_sim.sim.link import Link
from client_sim.sim.meter import SilentMeter
from client_sim.sim.timetable import Sleep, Timetable, Work
from client_sim.sim.truth import hold
from client_sim.sim.weather import Span
from crdt.errors import BadUpdate, PeerError, ReplicaBroken
from crdt.ids import DocumentId
from crdt.protocol.codes import Code
from crdt.protocol.frames import Cursor
from server.core import effects, events
from server.core.effects import Effect
from server.core.hub import Hub
from server.core.options import CoreOptions
from server.core.ports import CorruptDocument, Meter, StorageError
from server.core.records import Snapshot, StoredDocument
from server.core.rehearsal import document_digest, packed_inspector, rehearse
from server.storage.compaction import CompactionError, compact

RESTARTED = Span(0.2, 60.0)
"""How soon a supervisor starts a process that has died."""
HEAVY_LAG_S = 9.0
DYING = Span(0.05, 20.0)
"""How long a worker takes to die of a push; the longest is when it is killed."""
TURN_S = 0.002
"""A turn of the loop: what comes within it is committed together."""


class WorkerDied(CompactionError):
    """The process that did the work died, or took too long."""


class WorkerMissing(WorkerDied):
    """No process could be started for the work."""


@dataclass(slots=True)
class Clock:
    """A process's own: it drifts, and its wall clock is set now and then. `wall_error_s` is against true time."""

    base_s: float = 0.0
    rate: float = 1.0
    wall_error_s: float = 0.0

    def read(self, now: float) -> float:
        return self.base_s + self.rate * now

    def when(self, reading: float) -> float:
        """The world's time at which it shows `reading`."""
        return (reading - self.base_s) / self.rate


@dataclass(slots=True)
class ServerProcess:
    """Alive from `start` to `die`. `epoch_s` is the true wall clock at the world's beginning, since 1970."""

    name: str
    timetable: Timetable
    rng: Random
    database: Database
    history: History
    guard: Guard
    options: CoreOptions
    clock: Clock
    epoch_s: float
    outbox: tuple[int, int] = (1 << 20, 16 << 20)
    revocations_read_s: float = 1.0
    clock_read_s: float = 60.0
    alive: bool = False
    is_retired: bool = False
    draining: bool = False
    effects_left: int | None = None
    """It dies after so many more effects: between what one event asks for, if need be."""
    _links: dict[int, Link] = field(default_factory=dict)
    _works: dict[int, Work] = field(default_factory=dict)
    _ids: count[int] = field(default_factory=count)
    _turn_is_due: bool = False
    _life: int = 0
    _alarm_at: float | None = None
    _hub: Hub | None = None

    # --- life and death

    def start(self) -> None:
        hold(not self.alive, "the world is sound", f"{self.name} runs already")
        self._life += 1
        self.alive, self.draining, self.effects_left = True, False, None
        self._alarm_at = None
        self._turn_is_due = False
        self._hub = Hub(self.options, AUTHORITY, cast("Meter", SilentMeter()), self.rng.randbytes)
        self.history.say(self.name, "state", lambda: "up")
        self.guard.started()
        self.read_clock()
        self._spawn(self._watch_revocations())
        self._spawn(self._watch_clock())

    def start_if_dead(self) -> None:
        if not (self.alive or self.is_retired):
            self.start()

    def die(self, *, silently: bool = False) -> None:
        """kill -9: what is in memory is gone, and what was asked of the database is on its way or not.

        `silently`: its machine is gone too, and no peer is told. Its supervisor starts it again.
        """
        if not self.alive:
            return
        self.alive = False
        self._hub = None
        if not self.draining:
            self.history.counts["killed"] += 1
        self.history.say(self.name, "state", lambda: "down")
        if not self.is_retired:
            self.timetable.after(RESTARTED.draw(self.rng), self.start_if_dead)
        for work in self._works.values():
            work.cancel()
        links, self._links, self._works = list(self._links.values()), {}, {}
        for link in links:
            if silently:
                link.fall_silent()
            link.server_died()

    def drain(self) -> None:
        if self.alive and not self.draining:
            self.draining = True
            self.history.say(self.name, "state", lambda: "draining")
            self.feed(events.DrainRequested())

    def set_clock(self, wall_error_s: float) -> None:
        self.clock.wall_error_s = wall_error_s
        self.read_clock()

    def set_load(self, *, is_heavy: bool) -> None:
        """Its loop is late from now on, or no longer: one late turn is nothing yet, two in a row count."""
        if not self.alive:
            return
        for _ in range(2):
            self.feed(events.PressureMeasured(HEAVY_LAG_S if is_heavy else 0.0, 0))
        self.guard.is_under_load = is_heavy

    def read_clock(self) -> None:
        self.feed(events.ClockRead(self.epoch_s + self.timetable.now + self.clock.wall_error_s))

    @property
    def resident_bytes(self) -> int:
        return self._hub.levels().resident_bytes if self._hub else 0

    # --- events in, effects out

    def feed(self, event: events.Event) -> None:
        if self._hub is None:
            return
        for effect in self._hub.handle(event, self.clock.read(self.timetable.now)):
            self._execute(effect)
            if self._is_hit():
                return
        if not self._turn_is_due:
            self._turn_is_due = True
            self._later(TURN_S * self.rng.random(), self._end_turn)

    def _is_hit(self) -> bool:
        """True if it died just now."""
        if self.effects_left is not None:
            self.effects_left -= 1
            if self.effects_left <= 0:
                self.history.note(self.name, "crashed", "between two effects")
                self.die()
        return not self.alive

    def _later(self, seconds: float, act: Callable[[], None]) -> None:
        """`act` happens unless the process has died by then."""
        life = self._life
        self.timetable.after(seconds, lambda: act() if self.alive and self._life == life else None)

    def _end_turn(self) -> None:
        self._turn_is_due = False
        assert self._hub is not None
        self.guard.check_queue(self._hub.levels().queued_bytes, self.options)
        deadline = self._hub.next_deadline()
        if deadline is None:
            return
        if deadline <= self.clock.read(self.timetable.now):
            self.feed(events.TimePassed())
        elif deadline != self._alarm_at:
            self._alarm_at = deadline
            self._later(max(0.0, self.clock.when(deadline) - self.timetable.now) + 1e-6, lambda: self._ring(deadline))

    def _ring(self, deadline: float) -> None:
        if self._alarm_at == deadline:
            self._alarm_at = None
            self.feed(events.TimePassed())

    def _execute(self, effect: Effect) -> None:  # noqa: C901 - one line for each effect
        match effect:
            case effects.Send(sessions, data):
                for session in sessions:
                    self._send(session, data)
            case effects.Publish():
                self._publish(effect)
            case effects.Append():
                self.guard.appending(effect)
                self._spawn(self._append(effect))
            case effects.Load(document):
                self._spawn(self._load(document))
            case effects.Close(session, code, reason):
                self.guard.parted(session)
                self._with_link(session, lambda link: link.close(code, reason))
            case effects.AwaitDrain(session):
                self._with_link(session, Link.await_drain)
            case effects.PauseReading(session):
                self._with_link(session, Link.pause)
            case effects.GiveBack():
                raise AssertionError("messages come one at a time here")
            case effects.ResumeReading(session):
                self._with_link(session, Link.resume)
            case effects.HelloAccepted(session):
                self.guard.accepted(session)
            case effects.Compact(document):
                self._spawn(self._compact(document))
            case effects.Rehearse(document, updates):
                self._spawn(self._rehearse(document, updates))
            case effects.Inspect(document):
                self._spawn(self._inspect(document))
            case effects.ReadDigest(document):
                self._spawn(self._read_digest(document))
            case effects.BeginEpoch(document, epoch):
                self._spawn(self._begin_epoch(document, epoch))
            case effects.Quarantine(document, reason):
                self.guard.quarantined(document)
                self._spawn(self._quarantine(document, reason))
            case effects.Drained():
                self._later(0.5, self._exit)
            case effects.Log(level, event, fields):
                self.guard.logged(level, event, fields)
            case effects.ImportFinished(_, seq, error):
                self.history.note(self.name, "imported" if error is None else "import failed", error or str(seq))
            case effects.DeviceSeen() | effects.DoubtKeys():
                pass
            case _:
                assert_never(effect)

    def _send(self, session: int, data: bytes) -> None:
        link = self._links.get(session)
        if link is not None:
            self.guard.sending(session, data)
            link.send_down(data)

    def _publish(self, publish: effects.Publish) -> None:
        for session in publish.receivers:
            for data in publish.for_receiver(session, list(publish.deltas), lambda ack: ack):
                self._send(session, data)

    def _with_link(self, session: int, act: Callable[[Link], None]) -> None:
        if link := self._links.get(session):
            act(link)

    def _exit(self) -> None:
        self.history.note(self.name, "drained")
        self.die()

    def told(self, news: events.LogGrew) -> None:
        """Word of a commit, its own or another's."""
        self.history.counts["heard of commits"] += 1
        self.feed(news)

    # --- its end of the links

    def opened(self, link: Link) -> None:
        if not self.alive:
            link.server_died()
            return
        link.session = next(self._ids) + 1
        link.outbox_max, link.outbox_cap = self.outbox
        link.silence_s = 2 * self.options.heartbeat_s
        self._links[link.session] = link
        self.guard.opened(link.session, link.name, link.thumbprint)
        self.feed(events.SocketOpened(link.session))

    def received(self, link: Link, data: bytes) -> None:
        if len(data) > self.guard.message_bytes_max(link.session):
            link.close(1009, "")
            return
        self.guard.receiving(link.session, data)
        self.history.mix(self.name, data)
        self.feed(events.MessagesReceived(link.session, [data]))

    def lost(self, link: Link) -> None:
        if self._links.pop(link.session, None) is not None:
            self.guard.parted(link.session)
            self.feed(events.SocketClosed(link.session))

    def drained(self, link: Link) -> None:
        if link.session in self._links:
            self.guard.drained(link.session)
            self.feed(events.OutboxDrained(link.session))

    def overfull(self, link: Link) -> None:
        if link.session in self._links:
            self.history.note(self.name, "reader overfull")
            self.guard.overfull(link.session)
            self.feed(events.OutboxOverfull(link.session))

    # --- what takes time

    def _spawn(self, coroutine: Any) -> None:
        if not self.alive:
            coroutine.close()
            return
        works = self._works = {at: work for at, work in self._works.items() if not work.is_done}
        works[next(self._ids)] = self.timetable.spawn(coroutine)

    async def _append(self, effect: effects.Append) -> None:
        try:
            results = await self.database.append(effect.batch)
        except StorageError:
            self.guard.append_failed(effect)
            self.feed(events.AppendFailed())
        else:
            self.feed(events.Appended(tuple(results)))

    async def _load(self, document: DocumentId) -> None:
        try:
            stored = await self.database.load(document)
        except StorageError:
            self.feed(events.LoadFailed(document, corrupt=None))
        except CorruptDocument as exc:
            self.guard.loaded(document, str(exc))
            self.feed(events.LoadFailed(document, corrupt=str(exc)))
        else:
            self.guard.loaded(document, stored.quarantine)
            self.feed(events.DocumentLoaded(document, stored))
            if self.alive:
                self.guard.settled(document, stored.epoch)

    async def _compact(self, document: DocumentId) -> None:
        snapshot = await self.fold(document)
        if snapshot is None:
            self.feed(events.CompactionFailed(document))
        else:
            self.feed(events.Compacted(document, snapshot.seq, len(snapshot.state)))

    async def fold(self, document: DocumentId) -> Snapshot | None:
        """Compact; None if it did not work, or was not needed. Nothing but a disk or a worker is an excuse."""
        time_ms = int((self.epoch_s + self.timetable.now + self.clock.wall_error_s) * 1000)
        try:
            return await compact(self.database, document, self._work, time_ms)  # type: ignore[arg-type]
        except (StorageError, WorkerDied):
            return None
        except CorruptDocument as exc:
            hold(document in self.guard.truth.rotten, "documents load", str(exc))
            return None
        except CompactionError as exc:
            hold(False, "compaction keeps the document", f"{document}: {exc}")
            raise

    async def _work(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """In a worker process, which takes its time, and may die of something else. Raises WorkerDied."""
        await Sleep(self.database.weather.compact.draw(self.rng))
        if self._is_out_of_workers():
            self.history.note(self.name, "worker died")
            raise WorkerDied("out of memory")
        return function(*args, **kwargs)

    def _is_out_of_workers(self) -> bool:
        dies = self.database.weather.worker_dies
        return dies > 0.0 and self.rng.random() < dies

    def compact_by_hand(self, document: DocumentId) -> None:
        """As an operator does: the hub is not told."""

        async def work() -> None:
            await self.fold(document)

        self._spawn(work())

    async def _rehearse(self, document: DocumentId, updates: tuple[bytes, ...]) -> None:
        try:
            stored = await self.database.load(document)
            tried, error = await self._rehearsed(stored, updates)
        except (StorageError, CorruptDocument, WorkerMissing):
            tried, error = 0, PeerError(Code.NOT_SAVED, "the push could not be tried: send it again")
        except WorkerDied:
            tried, error = 0, PeerError(Code.TOO_EXPENSIVE, "the push takes more time or memory than is allowed")
        self.feed(events.Rehearsed(document, tried, error))

    async def _rehearsed(self, stored: StoredDocument, updates: tuple[bytes, ...]) -> tuple[int, PeerError | None]:
        """Only what is deadly kills a worker here: its push is refused, which no honest device's ever is."""
        if self._is_out_of_workers():
            self.history.note(self.name, "no worker")
            raise WorkerMissing("no process is left")
        if any(update in self.guard.truth.deadly for update in updates):
            await Sleep(DYING.draw(self.rng))
            self.history.note(self.name, "worker died", "of a push")
            raise WorkerDied("it took too long")
        return rehearse(stored, updates, lambda: 0.0)

    async def _inspect(self, document: DocumentId) -> None:
        cursor, packed = None, b""
        with suppress(StorageError, CorruptDocument, WorkerDied):
            stored = await self.database.load(document)
            packed = await self._work(packed_inspector, stored)
            cursor = Cursor(stored.epoch, stored.head_seq)
        self.feed(events.Inspected(document, cursor, packed))

    async def _read_digest(self, document: DocumentId) -> None:
        cursor = digest = None
        try:
            stored = await self.database.load(document)
            digest = await self._work(document_digest, stored)
            cursor = Cursor(stored.epoch, stored.head_seq)
        except (StorageError, CorruptDocument, WorkerDied):
            pass
        except (ReplicaBroken, BadUpdate):
            self.history.note(self.name, "digest impossible")
        self.feed(events.DigestRead(document, cursor, digest))

    async def _quarantine(self, document: DocumentId, reason: str) -> None:
        with suppress(StorageError):
            await self.database.quarantine(document, reason)

    async def _begin_epoch(self, document: DocumentId, epoch: bytes) -> None:
        try:
            await self.database.begin_epoch(document, epoch)
        except StorageError:
            self.feed(events.EpochFailed(document))
        else:
            self.feed(events.EpochBegun(document))

    async def _watch_revocations(self) -> None:
        known: frozenset[Any] = frozenset()
        while True:
            revoked = await self.database.revoked_devices()
            if revoked != known:
                known = revoked
                self.guard.revoked = revoked
                self.feed(events.RevocationsRead(revoked))
            await Sleep(self.revocations_read_s)

    async def _watch_clock(self) -> None:
        while True:
            await Sleep(self.clock_read_s)
            self.read_clock()
