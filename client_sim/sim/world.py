"""One run: everybody who is in it, what is done to them, and how it ends."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from random import Random
from typing import Any, TypeVar

from client_sim.core import events
from client_sim.core.roots import Roots
from client_sim.core.status import Link as LinkState
from client_sim.sim import bounds, editing, operators, phones
from client_sim.sim.bus import Bus
from client_sim.sim.database import Database
from client_sim.sim.guard import Guard
from client_sim.sim.handset import Handset
from client_sim.sim.history import History
from client_sim.sim.hostile import Intruder
from client_sim.sim.issuer import Issuer
from client_sim.sim.keys import PocketKey
from client_sim.sim.link import DeviceEnd, Link, Moment
from client_sim.sim.plan import Action, Deed, Plan
from client_sim.sim.process import Clock, ServerProcess
from client_sim.sim.thief import Loot, Thief
from client_sim.sim.timetable import Timetable
from client_sim.sim.truth import Truth
from client_sim.sim.weather import Span
from crdt.ids import DocumentId
from crdt.protocol.frames import EPOCH_BYTES
from crdt.replica import Replica
from server.core.events import ImportRequested
from server.core.records import LogEntry
from server.storage.memory import STORE_ID_BYTES, MemoryStorage

T = TypeVar("T")

EPOCH_S = 1_800_000_000.0
"""The true time at which worlds begin, in seconds since 1970."""
OWNER = "alice"
NAMES = ("phone", "laptop", "tablet")
READERS = ("carol",)
CLONES_MAX = 2
RASH = 40
"""One in so many edits is made by somebody who may only read."""
BACKUPS_MAX = 3
REFLECTION = Span(0.01, 10.0)
"""Between an operator's look at a document and what comes of it."""


def at_once(work: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that waits for nothing."""
    try:
        work.send(None)
    except StopIteration as stop:
        result: T = stop.value
        return result
    raise AssertionError("it waits")


class World:
    """Made of a plan; `play` it, and then see to its end (`ending.settle`)."""

    def __init__(self, plan: Plan, *, keep: bool = False) -> None:
        self.plan = plan
        self.place = plan.place
        self.weather = plan.weather
        self.timetable = Timetable()
        self.history = History(lambda: self.timetable.now, keep=keep)
        self.truth = Truth()
        self.is_set_back = self.is_restored = False
        """Readers keep what a restored store lost, and can not give it back."""
        self.issuer = Issuer(EPOCH_S)
        for guest, access in plan.place.grants.items():
            self.issuer.grants[guest] = {f"{OWNER}/main": access}
        self.issuer.grants["mallory"] = {f"{OWNER}/main": "rw"}
        self.issuer.grants["peter"] = {f"{OWNER}/main": "r"}
        self._rng = self.random("world")
        self.database = Database(self.random("database"), self.weather, self.truth, self.history)
        self._backups: list[tuple[MemoryStorage, dict[DocumentId, tuple[LogEntry, ...]]]] = []
        self.processes = [self._process(number) for number in range(plan.place.processes)]
        self.database.on_commit = Bus(self.random("bus"), self.timetable, self.processes).committed
        self.handsets = [self._handset(number) for number in range(plan.place.handsets)]
        self.handsets += [self._guest(guest) for guest in plan.place.guests]
        self.links: list[Link] = []
        self.intruders = [self._intruder(*who) for who in (("mallory", "pc"), ("eve", "pc"), ("peter", "pc"))]
        self.intruders.append(self._intruder(OWNER, "stolen"))
        self.thief = Thief(self, self.random("thief"), lambda end: self._link(end, "thief"), self._loot)

    def random(self, name: str) -> Random:
        """A generator of its own for each who draws."""
        return Random(f"{self.plan.seed} {name}")

    @property
    def has_several_processes(self) -> bool:
        return len(self.processes) > 1

    # --- who is there

    def _process(self, number: int) -> ServerProcess:
        name, rng = f"server-{number}", self.random(f"server {number}")
        proof = self.place.binds_from_s is not None or self.plan.seed % 2 == 0
        options = bounds.options(self.random("options"), tiny=self.place.tiny, long=self.place.days >= 1, proof=proof)
        process = ServerProcess(
            name=name,
            timetable=self.timetable,
            rng=rng,
            database=self.database,
            history=self.history,
            guard=Guard(name, self.truth, self.history, self.issuer, options.limits),
            options=options,
            clock=Clock(base_s=rng.uniform(0, 1e6), rate=1 + rng.uniform(-2e-4, 2e-4)),
            epoch_s=EPOCH_S,
            outbox=bounds.OUTBOX_TINY if self.place.tiny else bounds.OUTBOX,
            revocations_read_s=1.0 if self.place.days < 1 else 3600.0,
            clock_read_s=60.0 if self.place.days < 1 else 3600.0,
        )
        process.start()
        return process

    def _handset(self, number: int) -> Handset:
        documents = tuple(DocumentId(OWNER, name) for name in self.place.documents)
        return self._device(NAMES[number], OWNER, NAMES[number], documents)

    def _guest(self, user: str) -> Handset:
        handset = self._device(f"{user}'s phone", user, "phone", (DocumentId(OWNER, "main"),))
        handset.may_write = self.place.grants[user] == "rw"
        return handset

    def _device(self, label: str, user: str, name: str, documents: tuple[DocumentId, ...]) -> Handset:
        rng = self.random(f"device {label}")
        base_s, rate = rng.uniform(0, 1e6), 1 + rng.uniform(-2e-4, 2e-4)
        key = None if self.place.binds_from_s is None else PocketKey(self.random(f"key {label}"))
        return Handset(self, label, user, name, documents, rng, base_s, rate, key=key)

    def _intruder(self, user: str, name: str) -> Intruder:
        rng = self.random(f"intruder {user}")
        return Intruder(self, user, name, DocumentId(OWNER, "main"), rng, lambda end: self._link(end, f"{user}/{name}"))

    # --- what handsets need

    def connect(self, handset: Handset) -> Link | None:
        return self._link(handset.end(), handset.label, handset.key)

    def _link(self, end: DeviceEnd, name: str, key: PocketKey | None = None) -> Link | None:
        alive = [process for process in self.processes if process.alive]
        if not alive or self._rng.random() < self.weather.connect_fails:
            return None
        rng = self.random(f"link {len(self.links)}")
        thumbprint = key.thumbprint if key else None
        link = Link(self.timetable, rng, self.weather, end, self._rng.choice(alive), name, thumbprint)
        self.links.append(link)
        self.history.counts["connections"] += 1
        return link

    def token(self, user: str, device: str, key: PocketKey | None = None) -> str:
        from_s = self.place.binds_from_s
        binds = from_s is not None and key is not None and self.timetable.now >= from_s
        life_s = self.weather.token_life.draw(self._rng) * (2_000 if self.place.days >= 1 else 1)
        return self.issuer.token(user, device, self.timetable.now, life_s, key.thumbprint if key and binds else None)

    def _loot(self, rng: Random) -> Loot | None:
        """What a device said lately, if it says something of use to a thief."""
        said = [data for handset in self.handsets for data in handset.said]
        return Loot.of(rng.choice(said)) if said else None

    def lost_data(self) -> None:
        """Owed is what the log has, or a store of somebody who will bring it back. Who had a name may have another."""
        self._mark_revoked()
        for document, chronicle in self.truth.chronicles.items():
            chronicle.forgive(
                handset.held(document)
                for handset in self.handsets
                if document in handset.documents and handset.may_write and not handset.is_revoked
                if handset.user == OWNER or not self.is_set_back
            )

    # --- what happens

    def play(self) -> None:
        """The safety phase."""
        for handset in self.handsets:
            handset.boot()
        for action in self.plan.actions:
            self.timetable.run_until(action.at_s)
            self._do(action)
        self.timetable.run_until(max(self.timetable.now, self.plan.length_s))

    def _do(self, action: Action) -> None:
        handset = self.handsets[action.actor % len(self.handsets)]
        process = self.processes[action.actor % len(self.processes)]
        if action.deed is Deed.EDIT and not handset.may_write and action.salt % RASH:
            return
        if action.deed in _OF_HANDSETS:
            if action.deed not in _QUIET:
                self.history.note(handset.label, action.deed)
            _OF_HANDSETS[action.deed](handset, action.rng())
        elif action.deed in _OF_PROCESSES:
            self.history.note(process.name, action.deed)
            _OF_PROCESSES[action.deed](process, action.rng())
        else:
            _OF_WORLD[action.deed](self, action)

    def clone(self, action: Action) -> None:
        """A phone is set up from another's backup; both go on."""
        original = self.handsets[action.actor % len(self.handsets)]
        clones = sum(handset.label.startswith(f"{original.label}~") for handset in self.handsets)
        if not original.may_write:
            return  # without ops of their own two of one name never find out
        if len(self.handsets) - len(self.place.guests) - self.place.handsets >= CLONES_MAX:
            return
        self.history.note(original.label, "cloned")
        label = f"{original.label}~{clones + 1}"
        clone = self._device(label, original.user, original.name, original.documents)
        clone.store = original.store.restarted()
        clone.may_write, clone.wants_online = original.may_write, original.wants_online
        clone.may_have_twin = original.may_have_twin = True
        clone.is_revoked, clone.was_revoked = original.is_revoked, original.was_revoked
        self.handsets.append(clone)
        clone.boot()

    def fill_disk(self, action: Action) -> None:
        self.database.is_full = action.deed is Deed.DISK_FULL
        self.history.note("database", action.deed)

    def back_up(self, action: Action) -> None:
        logs = {document: tuple(chronicle.entries) for document, chronicle in self.truth.chronicles.items()}
        self._backups = [*self._backups, (self.database.copy(), logs)][-BACKUPS_MAX:]
        self.history.note("operator", action.deed)

    def restore(self, action: Action) -> None:
        """The store is what a backup was: by the tool that begins new epochs, or behind everybody's back."""
        if not self._backups or (action.deed is Deed.SET_BACK and self.place.guests):
            return  # what is shared is not promised to heal without a new epoch
        rng = action.rng()
        self.history.note("operator", action.deed)
        for process in self.processes:
            process.die()
        backup, logs = rng.choice(self._backups)
        self.database.disk = disk = Database.copy_of(backup)
        if action.deed is Deed.RESTORE:
            disk.store_id, disk.is_restored = rng.randbytes(STORE_ID_BYTES), True
            for info in at_once(disk.documents()):
                at_once(disk.begin_epoch(info.document, rng.randbytes(EPOCH_BYTES)))
        else:
            self.is_set_back = True
        for document, chronicle in self.truth.chronicles.items():
            stored = at_once(disk.load(document))
            chronicle.set_back(logs.get(document, ()), stored.ops(), stored.epoch)
        self.is_restored = True
        self.lost_data()
        for handset in self.handsets:
            handset.may_have_twin = handset.may_have_twin or self.is_set_back
        for process in self.processes:
            process.guard.may_differ = self.is_set_back
            process.guard.readers = READERS

    def revoke(self, action: Action) -> None:
        chosen = self.handsets[action.actor % len(self.handsets)]
        if chosen.id in at_once(self.database.disk.revoked_devices()):
            return
        self.history.note("operator", action.deed, str(chosen.id))
        at_once(self.database.disk.revoke_devices([chosen.id], 0))
        self.lost_data()

    def _mark_revoked(self) -> None:
        revoked = at_once(self.database.disk.revoked_devices())
        for handset in self.handsets:
            handset.is_revoked = handset.id in revoked
            handset.was_revoked = handset.was_revoked or handset.is_revoked

    def readmit(self, action: Action) -> None:
        """All who were shut out."""
        revoked = sorted(at_once(self.database.disk.revoked_devices()))
        at_once(self.database.disk.restore_devices(revoked))
        self.history.note("operator", action.deed)
        self._mark_revoked()

    def regrant(self, action: Action) -> None:
        """A guest may do more, less or nothing, as soon as there is another token."""
        for guest in self.place.guests:
            access = action.rng().choice(("rw", "r", None)) if self.place.grants[guest] == "rw" else "r"
            self.issuer.grants[guest] = {f"{OWNER}/main": access} if access else {}
            self.history.note("operator", action.deed, f"{guest}: {access}")

    def intrude(self, action: Action) -> None:
        self.intruders[action.actor % len(self.intruders)].act(action.rng())

    def poison(self, action: Action) -> None:
        """By one of the two who may write."""
        self.intruders[action.actor % 2 * 3].poison(action.rng())

    def spoil(self, action: Action) -> None:
        """A document's rows are damaged, or mended, or an operator has it opened again whether it is mended or not."""
        document = DocumentId(OWNER, self.place.documents[action.actor % len(self.place.documents)])
        match action.deed:
            case Deed.ROT:
                self.database.unreadable[document] = None
            case Deed.MEND:
                self.database.unreadable.pop(document, None)
            case _:
                at_once(self.database.disk.release(document))
        self.history.note("operator" if action.deed is Deed.RELEASE else "database", action.deed, str(document))

    def excise(self, action: Action) -> None:
        """An operator finds out what a device did, and takes it out a moment later, whatever has come in meanwhile."""
        document, rng = DocumentId(OWNER, "main"), action.rng()
        history = at_once(self.database.disk.history(document))
        if not (devices := operators.culprits(history)):
            return
        culprit = rng.choice(devices)
        self.history.note("operator", action.deed, f"of {culprit} in {document}")
        update = operators.excision(history, culprit, rng)
        if update is not None:
            process = self.processes[action.actor % len(self.processes)]
            event = ImportRequested(rng.getrandbits(32), document, update)
            self.timetable.after(REFLECTION.draw(rng), lambda: process.feed(event))

    def import_note(self, document: DocumentId) -> None:
        """An operator adds a word, by the first process."""
        rng = self.random(f"note {document}")
        update = operators.note(at_once(self.database.disk.history(document)), rng)
        self.history.note("operator", "note", str(document))
        self.processes[0].feed(ImportRequested(rng.getrandbits(32), document, update))


def _cut(handset: Handset, rng: Random) -> None:
    if handset.link is None:
        return
    if rng.random() < 0.3:
        handset.link.cut()
    else:
        handset.link.arm(rng.random() < 0.5, rng.choice(tuple(Moment)))


def _silence(handset: Handset, rng: Random) -> None:
    if handset.link is not None:
        handset.link.fall_silent()


def _slow(handset: Handset, rng: Random) -> None:
    if handset.link is not None:
        handset.link.down.bandwidth = rng.choice((20.0, 100.0, 1_000.0))


def _network(handset: Handset, *, on: bool) -> None:
    handset.has_network = on
    if not on and handset.link is not None:
        handset.link.fall_silent()
    elif on and handset.device is not None and handset.device.link is LinkState.WAITING:
        handset.feed(events.NetworkBack())


def _audit(handset: Handset, rng: Random) -> None:
    handset.tell(events.AuditRequested, rng)


def _presence(handset: Handset, rng: Random) -> None:
    payload = rng.choice((None, b"here", bytes(30)))
    handset.tell(lambda name: events.PresenceSet(name, payload), rng)


def _restore_store(handset: Handset, rng: Random) -> None:
    if handset.restore():
        handset.boot()


def _restart(handset: Handset, rng: Random) -> None:
    handset.kill()
    handset.boot()


def _restart_lossy(handset: Handset, rng: Random) -> None:
    handset.kill(without_last_write=True)
    handset.boot()


def _reinstall(handset: Handset, rng: Random) -> None:
    handset.reinstall()
    handset.boot()


def _crash(process: ServerProcess, rng: Random) -> None:
    if rng.random() < 0.6:
        process.effects_left = rng.choice((1, 2, 3, 5, 9))
    else:
        process.die(silently=rng.random() < 0.3)


def _import(process: ServerProcess, rng: Random) -> None:
    """An operator puts in an update that was made elsewhere."""
    replica = Replica(rng.getrandbits(32))
    _, change = editing.change(rng, [])
    update = replica.edit(lambda doc: change(Roots(doc)))
    if update is not None:
        process.feed(ImportRequested(rng.getrandbits(32), DocumentId(OWNER, "main"), update))


def _oversleep(handset: Handset, rng: Random) -> None:
    handset.oversleep(Span(1.0, 20_000.0).draw(rng))


def _set_clock(process: ServerProcess, rng: Random) -> None:
    process.set_clock(rng.choice((3.0, -3.0, 90.0, -90.0, 5_000.0, -5_000.0)))


def _phone(draw: Callable[[Random], events.Event]) -> Callable[[Handset, Random], object]:
    return lambda handset, rng: handset.tell_one(draw(rng))


_QUIET = (Deed.EDIT, Deed.PRESENCE)
_OF_HANDSETS: dict[Deed, Callable[[Handset, Random], object]] = {
    Deed.START: lambda handset, _: handset.start(),
    Deed.STOP: lambda handset, _: handset.stop(),
    Deed.EDIT: Handset.edit,
    Deed.PRESENCE: _presence,
    Deed.AUDIT: _audit,
    Deed.REOPEN: Handset.reopen,
    Deed.UNBLOCK: lambda handset, _: handset.unblock(),
    **{deed: _phone(draw) for deed, draw in phones.DRAWS.items()},
    Deed.KILL: _restart,
    Deed.KILL_LOSSY: _restart_lossy,
    Deed.BACK_UP_STORE: lambda handset, _: handset.back_up(),
    Deed.RESTORE_STORE: _restore_store,
    Deed.REINSTALL: _reinstall,
    Deed.SPOIL: Handset.spoil,
    Deed.OVERSLEEP: _oversleep,
    Deed.CUT: _cut,
    Deed.SILENCE: _silence,
    Deed.SLOW: _slow,
    Deed.NETWORK_OFF: lambda handset, _: _network(handset, on=False),
    Deed.NETWORK_ON: lambda handset, _: _network(handset, on=True),
}
_OF_PROCESSES: dict[Deed, Callable[[ServerProcess, Random], object]] = {
    Deed.CRASH: _crash,
    Deed.SERVER_UP: lambda process, _: process.start_if_dead(),
    Deed.DRAIN: lambda process, _: process.drain(),
    Deed.SERVER_CLOCK: _set_clock,
    Deed.IMPORT: _import,
    Deed.CLOCK_RIGHT: lambda process, _: process.set_clock(0.0),
    Deed.PRESSURE: lambda process, _: process.set_load(is_heavy=True),
    Deed.RELIEF: lambda process, _: process.set_load(is_heavy=False),
    Deed.COMPACT: lambda process, _: process.compact_by_hand(DocumentId(OWNER, "main")),
}
_OF_WORLD: dict[Deed, Callable[[World, Action], None]] = {
    Deed.CLONE: World.clone,
    Deed.DISK_FULL: World.fill_disk,
    Deed.DISK_FREED: World.fill_disk,
    Deed.BACK_UP: World.back_up,
    Deed.RESTORE: World.restore,
    Deed.SET_BACK: World.restore,
    Deed.REVOKE: World.revoke,
    Deed.READMIT: World.readmit,
    Deed.REGRANT: World.regrant,
    Deed.HOSTILE: World.intrude,
    Deed.THIEF: lambda world, action: world.thief.act(action.rng()),
    Deed.DEADLY: World.poison,
    Deed.ROT: World.spoil,
    Deed.MEND: World.spoil,
    Deed.RELEASE: World.spoil,
    Deed.EXCISE: World.excise,
}
