"""A device of somebody: the real core, its app, its store, its clock, and whatever happens to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Protocol, assert_never

from client_sim.core import effects, events
from client_sim.core.backoff import asked_s
from client_sim.core.copy import EditTooBig
from client_sim.core.device import Device
from client_sim.core.driving import drive
from client_sim.core.ports import StoreError
from client_sim.core.reporting import About
from client_sim.core.salvage import Remains
from client_sim.core.status import Link as LinkState
from client_sim.core.status import State, Status
from client_sim.sim import editing
from client_sim.sim.damage import loss
from client_sim.sim.history import History
from client_sim.sim.keys import PocketKey
from client_sim.sim.link import DeviceEnd, Link, type_of
from client_sim.sim.timetable import Timetable
from client_sim.sim.truth import Truth, hold
from client_sim.sim.weather import Weather
from client_sim.store.memory import MemoryStore
from crdt.ids import DeviceId, DocumentId
from crdt.protocol.codec import decode_server_frame
from crdt.protocol.codes import Code
from crdt.protocol.frames import Error, Hello
from crdt.replica import Replica
from crdt.update import StateVector

FALSE_REFUSALS = (Code.BAD_UPDATE, Code.BAD_STATE, Code.BAD_FRAME, Code.TOO_EXPENSIVE, Code.INTERNAL)
"""What no server ever says to an honest device."""
HELLOS_KEPT = 3
ABOUT = About("other", "1.0")


class FlakyStore(MemoryStore):
    """A store that may fail at the end of a transaction, which then never was."""

    def __init__(self, fails: Callable[[], bool] = lambda: False) -> None:
        super().__init__()
        self._fails = fails

    @classmethod
    def of(cls, store: MemoryStore, fails: Callable[[], bool]) -> FlakyStore:
        """With what another store holds."""
        made = cls(fails)
        made._contents = made._before = store._contents
        made._salvage = store._salvage
        return made

    @contextmanager
    def transaction(self) -> Iterator[None]:
        with super().transaction():
            yield
            if self._fails():
                raise StoreError("the disk is full")


class Surroundings(Protocol):
    """What a handset needs of the world."""

    timetable: Timetable
    truth: Truth
    history: History
    weather: Weather

    @property
    def has_several_processes(self) -> bool: ...

    def connect(self, handset: Handset) -> Link | None:
        """A link to a server; None if none can be reached."""
        ...

    def token(self, user: str, device: str, key: PocketKey | None = None) -> str:
        """A fresh one, bound to the key where the app's token service does that now."""
        ...

    def lost_data(self) -> None:
        """A store has less than it had."""
        ...


@dataclass(slots=True)
class _End:
    """The device's end of one link: what comes of an earlier one is not fed."""

    handset: Handset
    life: int

    def connected(self) -> None:
        self.handset.feed(events.ConnectionMade())

    def received(self, data: bytes) -> None:
        self.handset.world.history.mix(self.handset.label, data)
        if self.handset.life == self.life and type_of(data) == Error.TYPE:
            self.handset.told(data)
        self.handset.feed(events.MessageReceived(data))

    def lost(self, code: int | None, reason: str) -> None:
        if self.handset.life == self.life:
            self.handset.lost(code, reason)


@dataclass(slots=True)
class Handset:
    """`label` names it in the history, for ever; the device may take another name. `name` is what the app calls it."""

    world: Surroundings
    label: str
    user: str
    name: str
    documents: tuple[DocumentId, ...]
    rng: Random
    base_s: float = 0.0
    rate: float = 1.0
    may_write: bool = True
    key: PocketKey | None = None
    said: list[bytes] = field(default_factory=list)
    """Its HELLOs, for those who listen."""
    store: MemoryStore = field(default_factory=MemoryStore)
    older: MemoryStore | None = None
    """A backup of its store."""
    device: Device | None = None
    """None while it is switched off."""
    wants_online: bool = False
    is_revoked: bool = False
    was_revoked: bool = False
    has_network: bool = True
    was_damaged: bool = False
    may_have_twin: bool = False
    """Another device has, or had, its name and other ops under the same numbers."""
    life: int = 0
    link: Link | None = None
    away_until_s: float = 0.0
    """A server that was overloaded told it not to come back sooner, on its own clock."""
    _attempt: int = 0
    _alarm_at: float | None = None
    _undone: list[str] = field(default_factory=list)

    # --- life

    def boot(self) -> None:
        """The app's process starts, with what its store has."""
        self.kill()
        self.store = FlakyStore.of(self.store.restarted(), self._store_fails)
        try:
            self.device = Device(self.name, self.store, self.rng, key=self.key, about=ABOUT)
            for document in self.documents:
                drive(self.device, events.OpenRequested(self._name_of(document)), self.now(), self._execute)
        except StoreError:
            self.device = None
            self.world.timetable.after(1.0, self._boot_again)
            return
        self.world.history.say(self.label, "state", lambda: State.OFFLINE)
        if self.wants_online:
            self.feed(events.Started())

    def _boot_again(self) -> None:
        if self.device is None:
            self.boot()

    def kill(self, *, without_last_write: bool = False) -> None:
        """The process ends, wherever it is; a disk may lose the last write that it said was done."""
        self.life += 1
        if self.device is not None:
            self.world.history.say(self.label, "state", lambda: "off")
        self.device, self._alarm_at, self.away_until_s = None, None, 0.0
        if self.link is not None:
            link, self.link = self.link, None
            link.hang_up(1006, "killed")
        if without_last_write:
            self.may_have_twin = True
            self.store = self.store.restarted(without_last_transaction=True)
            self.world.lost_data()

    def back_up(self) -> None:
        self.older = self.store.restarted()

    def restore(self) -> bool:
        """The store is what it was at the last backup; False if there is none."""
        if self.older is None:
            return False
        self.kill()
        self.may_have_twin = True
        self.store = self.older.restarted()
        self.world.lost_data()
        return True

    def spoil(self, rng: Random) -> None:
        """Part of its store can not be read any more. That shows at work, or when the app is started next."""
        self.may_have_twin = self.was_damaged = True
        lose, left = loss(Random(rng.getrandbits(32))), Remains()

        def losing(remains: Remains) -> Remains:
            nonlocal left
            left = lose(remains)
            return left

        self.store.damage(losing)
        if rng.random() < 0.5:
            self.reopen(rng)
        if self.store.is_damaged:
            self.boot()
        self._check_saved(left)
        self.world.lost_data()

    def _check_saved(self, left: Remains) -> None:
        """What could be read of the edits is in the store that took the damaged one's place."""
        for name, stored in left.documents.items():
            saved = [entry.update for entry in self.store.load(name).outbox] + self.store.aside(name)
            gone = [entry.position for entry in stored.outbox if entry.update not in saved]
            hold(not gone, "what can be read is saved", f"{self.label} had edits {gone} of {name}")

    def reinstall(self) -> None:
        """All that it had is gone, and the app is installed anew."""
        self.kill()
        self.store = MemoryStore()
        self.older = None
        if self.key is not None:
            self.key = PocketKey(self.rng)
        self.may_have_twin = True
        self.world.lost_data()

    def _store_fails(self) -> bool:
        probability = self.world.weather.store_fails
        return probability > 0.0 and self.rng.random() < probability

    # --- what it is

    def oversleep(self, seconds: float) -> None:
        """Its clock goes on by so much at once, and nothing that it sends or is sent arrives: it was asleep."""
        if self.link is not None:
            self.link.fall_silent()
        self.base_s += seconds
        self._alarm_at = None
        self.feed(events.TimePassed())

    def now(self) -> float:
        return self.base_s + self.rate * self.world.timetable.now

    def _name_of(self, document: DocumentId) -> str:
        return document.name if document.owner == self.user else str(document)

    @property
    def id(self) -> DeviceId:
        """What the server calls it now."""
        identity = self.store.identity()
        return DeviceId(self.user, identity.device if identity else self.name)

    def held(self, document: DocumentId) -> StateVector:
        """What its store has of a document."""
        stored = self.store.load(self._name_of(document))
        state = [stored.state] if stored.state is not None else []
        return Replica.load([*state, *stored.updates]).state_vector()

    def replica(self, document: DocumentId) -> Replica | None:
        """The copy that its app sees; None while it is switched off."""
        return self.device.document(self._name_of(document)).copy.replica if self.device else None

    def trouble(self, document: DocumentId) -> str | None:
        """Why it is not current, in words; None if it is."""
        if self.device is None:
            return "switched off"
        state = self.device.document(self._name_of(document))
        status = state.status()
        if self.device.link is not LinkState.OPEN:
            return f"link {self.device.link}, {self.device.status}"
        if not self.may_write and status == Status(State.BLOCKED, Code.FORBIDDEN):
            return None
        if status.state is not State.CURRENT or state.pending:
            return f"{status}, {state.pending} pending, {state.phase}"
        return None

    def is_clean(self, document: DocumentId) -> bool:
        """False if it shows edits that it may not make."""
        return self.may_write or not (self.device and self.device.document(self._name_of(document)).pending)

    # --- the app

    def start(self) -> None:
        self.wants_online = True
        self.away_until_s = 0.0
        if self.device is None:
            self.boot()
        elif self.device.link in (LinkState.IDLE, LinkState.STOPPED):
            self.feed(events.Started())

    def stop(self) -> None:
        self.wants_online = False
        self.feed(events.Stopped())

    def edit(self, rng: Random) -> None:
        if self.device is None:
            return
        document = self.documents[0] if rng.random() < 0.8 else rng.choice(self.documents)
        kind, change = editing.change(rng, self._undone)
        try:
            self.feed(events.Edited(self._name_of(document), change))
        except EditTooBig:
            self.world.history.note(self.label, "edit too big", kind)
            return
        except StoreError:
            self.world.history.note(self.label, "edit not stored", kind)
            return
        self._edited(kind, document)

    def sign(self, document: DocumentId) -> None:
        """The last edit of all."""
        self.about(document, lambda name: events.Edited(name, lambda roots: roots.text("body").append(self.label)))
        self._edited("signed", document)

    def _edited(self, kind: str, document: DocumentId) -> None:
        self.world.history.note(self.label, kind, str(document))
        self.world.history.counts["edits"] += 1
        counts = self.may_write and not self.is_revoked
        if counts and (replica := self.replica(document)) is not None:
            self.world.truth.of(document).owe(replica.state_vector())

    def about(self, document: DocumentId, make: Callable[[str], events.Event]) -> None:
        """Feed an event about a document."""
        if self.device is not None:
            self.tell_one(make(self._name_of(document)))

    def tell(self, make: Callable[[str], events.Event], rng: Random) -> None:
        """Feed an event about one of its documents, if the app runs."""
        self.about(rng.choice(self.documents), make)

    def reopen(self, rng: Random) -> None:
        """The app closes a document, and has it open again soon."""
        document = rng.choice(self.documents)
        if self.device is not None:
            self.tell_one(events.CloseRequested(self._name_of(document)))
            self.tell_one(events.OpenRequested(self._name_of(document)))

    def unblock(self) -> None:
        """The app has seen to what the server refused."""
        for document in self.documents:
            if self.device and self.device.document(self._name_of(document)).status().state is State.BLOCKED:
                self.tell_one(events.Unblocked(self._name_of(document)))
                self.world.lost_data()

    def tell_one(self, event: events.Event) -> None:
        try:
            self.feed(event)
        except StoreError:
            self.world.history.note(self.label, "store failed")
            self.boot()

    # --- events and effects

    def feed(self, event: events.Event) -> None:
        if self.device is None:
            return
        life = self.life

        def execute(effect: effects.Effect) -> None:
            if self.life == life:
                self._execute(effect)

        try:
            drive(self.device, event, self.now(), execute)
        finally:
            if self.life == life:
                self._set_alarm()

    def _set_alarm(self) -> None:
        assert self.device is not None
        due = self.device.next_deadline()
        if due is None or due == self._alarm_at:
            return
        self._alarm_at, life = due, self.life
        wait_s = max(0.0, (due - self.base_s) / self.rate - self.world.timetable.now) + 1e-6
        self.world.timetable.after(wait_s, lambda: self._ring(due, life))

    def _ring(self, due: float, life: int) -> None:
        if self.life == life and self._alarm_at == due:
            self._alarm_at = None
            self.feed(events.TimePassed())

    def told(self, data: bytes) -> None:
        """An ERROR has come."""
        error = decode_server_frame(data)
        if isinstance(error, Error) and error.code == Code.OVERLOADED:
            self.away_until_s = self.now() + asked_s(error.retry_after_ms)

    def lost(self, code: int | None, reason: str) -> None:
        self.link = None
        if code is None:
            self.world.history.counts[f"lost, {reason}"] += 1
        self.world.history.say(self.label, "lost its connection", lambda: f"{code} {reason}")
        self.feed(events.ConnectionLost(code, reason))

    def _execute(self, effect: effects.Effect) -> None:  # noqa: C901 - one line for each effect
        match effect:
            case effects.FetchToken(device):
                self._fetch_token(device)
            case effects.Connect():
                self._connect()
            case effects.Send(data):
                self._send(data)
            case effects.CloseConnection(code, reason):
                self._attempt += 1
                if self.link is not None:
                    link, self.link = self.link, None
                    link.hang_up(code, reason)
            case effects.Acknowledged(document, op):
                self.world.history.counts["acknowledged"] += 1
                self.world.history.say(self.label, "was acknowledged", lambda: f"op {op} of {document}")
            case effects.Problem():
                self._problem(effect)
            case effects.DataWiped():
                self.world.history.note(self.label, "wiped")
                hold(self.was_revoked, "only the revoked are wiped", self.label)
                self.world.lost_data()
            case effects.StatusChanged(document, status):
                if document is None:
                    self.world.history.say(self.label, "state", lambda: str(status.state))
                self.world.history.say(self.label, "is", lambda: f"{status} on {document or 'the whole'}")
            case effects.DocumentChanged() | effects.PresenceChanged() | effects.WindowClosed():
                pass
            case _:
                assert_never(effect)

    def _send(self, data: bytes) -> None:
        if self.key is not None and type_of(data) == Hello.TYPE:
            self.said = [*self.said, data][-HELLOS_KEPT:]
        if self.link is not None:
            self.link.send_up(data)

    def _problem(self, problem: effects.Problem) -> None:
        self.world.history.note(self.label, f"problem {problem.code}", problem.message)
        if problem.code == Code.DEVICE_FORKED:
            hold(self.may_have_twin, "nobody is taken for a clone", f"{self.label}: {problem.message}")
        is_false = problem.code in FALSE_REFUSALS and not self._gives_back_too_much(problem)
        hold(not is_false, "the honest are not refused", f"{self.label}: {problem}")

    def _gives_back_too_much(self, problem: effects.Problem) -> bool:
        """A guest's damaged store can not tell its own work from what others wrote, which this process may not know."""
        is_guest = problem.document is not None and not problem.document.startswith(f"{self.user}/")
        return self.was_damaged and is_guest and problem.reason == "not_owner" and self.world.has_several_processes

    def _fetch_token(self, device: str) -> None:
        weather, life = self.world.weather, self.life

        def answer() -> None:
            if self.life != life:
                return
            if self.rng.random() < weather.token_fails:
                self.feed(events.TokenFailed(device, "the app's own server is down", refused=False))
            else:
                self.feed(events.TokenFetched(device, self.world.token(self.user, device, self.key)))

        self.world.timetable.after(weather.token.draw(self.rng), answer)

    def _connect(self) -> None:
        early_s = self.away_until_s - self.now()
        hold(early_s <= 0, "who is sent away stays away", f"{self.label} comes back {early_s:.3f} s too early")
        self._attempt += 1
        self.link = self.world.connect(self) if self.has_network else None
        if self.link is None:
            attempt = (self.life, self._attempt)
            wait_s = self.world.weather.latency.draw(self.rng)
            self.world.timetable.after(wait_s, lambda: self._fail(attempt))

    def _fail(self, attempt: tuple[int, int]) -> None:
        if attempt == (self.life, self._attempt):
            self.feed(events.ConnectionLost(None, "nobody answers"))

    def end(self) -> DeviceEnd:
        return _End(self, self.life)
