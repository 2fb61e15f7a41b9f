"""A whole server without sockets, a device that sends anything, and honest ones that must not notice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from random import Random

from crdt.errors import ReplicaBroken
from crdt.ids import DocumentId
from crdt.protocol import frames
from crdt.protocol.codes import CLOSE, CLOSE_AFTER_OFFENCES
from crdt.replica import Replica
from crdt.update import read_update, root_kinds
from server.core import effects, events
from tests.fuzz.findings import Finding
from tests.fuzz.hub_devices import Honest, Hostile
from tests.fuzz.trial import Step
from tests.unit.server.core.lab import Lab, now_of

STEPS = frozenset(("socket", "message", "edit", "settle", "answer", "advance", "hang up", "overfull", "fail", "close"))

_CODES = {*CLOSE.values(), *CLOSE_AFTER_OFFENCES.values(), 1000, 1001, 1012, 1013}
_GRANTS = {"alice/main": "rw"}
_ROUNDS_MAX = 30


class World:
    """The hostile device has a document with Alice's devices; Bob's have one of their own."""

    def __init__(self, note: Callable[[Step], None], outcomes: Counter[str]) -> None:
        self._note = note
        self.lab = Lab()
        self.outcomes = outcomes
        self.hostile: list[int] = []
        self.honest = [
            Honest(self.lab, "alice", "phone", "main", 901),
            Honest(self.lab, "alice", "tablet", "main", 902),
            Honest(self.lab, "bob", "phone", "other", 903),
            Honest(self.lab, "bob", "tablet", "other", 904),
        ]
        for device in self.honest:
            device.connect()
        self._settle()

    def take(self, step: Step) -> None:
        """Take a step that was noted. Raises Finding, or whatever the hub raised."""
        self._note(step)
        name, *arguments = step
        getattr(self, f"_{name.replace(' ', '_')}")(*arguments)

    # --- steps

    def _socket(self) -> None:
        self.hostile.append(self.lab.connect())

    def _message(self, index: int, data: str) -> None:
        if self.is_open(index) and self.hostile[index] not in self.lab.paused:
            self.outcomes["messages"] += 1
            self.lab.feed(events.MessagesReceived(self.hostile[index], [bytes.fromhex(data)]))
            self._count(self.hostile[index])

    def _edit(self, index: int, seed: str) -> None:
        self.honest[index].edit(Random(seed))

    def _settle(self) -> None:
        """Storage answers, and honest devices read what came, until nothing moves."""
        for _ in range(_ROUNDS_MAX):
            self.lab.settle()
            if not sum(device.read() for device in self.honest):
                return

    def _answer(self) -> None:
        self.lab.turn()
        if self.lab.held:
            self.lab.answer()

    def _advance(self, seconds: float) -> None:
        self.lab.now += seconds
        self.lab.turn()

    def _hang_up(self, index: int) -> None:
        if self.hostile[index] not in self.lab.gone:
            self.lab.disconnect(self.hostile[index])

    def _overfull(self, index: int) -> None:
        session = self.hostile[index]
        if self.is_open(index):
            self.lab.feed(events.OutboxOverfull(session))
            self._settle()
            if session in self.lab.awaiting_drain and self.is_open(index):
                self.lab.drain(session)

    def _fail(self, *, durable: bool = False) -> None:
        self.lab.turn()
        if self.lab.held and isinstance(self.lab.held[0], effects.Append):
            self.lab.fail(durable=durable)

    def _close(self) -> None:
        """Everybody comes back, and has the same."""
        self._settle()
        for device in self.honest:
            device.reconnect()
        for _ in range(3):
            self._settle()
            self.lab.now += 120.0
        for pair in (self.honest[:2], self.honest[2:]):
            self._check_converged(pair)
        for code, reason in self.lab.closed.values():
            if code not in _CODES or not reason:
                raise Finding("close", f"session closed with {code} {reason}")

    # --- what must hold

    def is_open(self, index: int) -> bool:
        return self.hostile[index] not in self.lab.closed and self.hostile[index] not in self.lab.gone

    def _count(self, session: int) -> None:
        for frame in self.lab.inbox[session]:
            if isinstance(frame, frames.Error):
                self.outcomes[frame.code] += 1
        if session in self.lab.closed:
            self.outcomes[f"closed {self.lab.closed[session][0]}"] += 1

    def _check_converged(self, pair: list[Honest]) -> None:
        stored = now_of(self.lab.storage.load(DocumentId(pair[0].user, pair[0].document)))
        try:
            replica = Replica.load(stored.state_updates())
        except ReplicaBroken as exc:
            raise Finding("stored", str(exc)) from exc
        self.outcomes["hostile entries in the log"] += sum(
            entry.device.name in ("evil", "other") for entry in stored.entries
        )
        state = replica.state()
        kinds = {name: str(kind) for name, kind in root_kinds(read_update(state)).items()}
        for device in pair:
            if device.outbox:
                raise Finding("honest", f"{len(device.outbox)} edits were never acknowledged")
            if device.state_vector() != replica.state_vector():
                raise Finding("honest", "a device has not what the server has")
        if len({device.phone.shown(kinds) for device in pair}) > 1:
            raise Finding("honest", "two devices see different documents")


class Drill:
    """Draws the steps of a case."""

    def __init__(self, random: Random, world: World) -> None:
        self.random = random
        self.world = world
        self.devices: list[Hostile] = []

    def run(self) -> None:
        self._new_socket()
        for _ in range(self.random.choice((20, 60, 100))):
            self._next()
        self.world.take(["close"])

    def _new_socket(self) -> None:
        self.world.take(["socket"])
        self.devices.append(Hostile(self.random, self.world.lab, self.world.hostile[-1], _GRANTS))

    def _next(self) -> None:
        random = self.random
        choice = random.random()
        if choice < 0.68:
            self._message()
        elif choice < 0.80:
            self.world.take(["edit", random.randrange(4), f"{random.getrandbits(32)}"])
        elif choice < 0.88:
            self.world.take(["settle"])
        elif choice < 0.92:
            self.world.take(["answer"])
        elif choice < 0.95:
            self.world.take(["advance", random.choice((0.01, 1.0, 5.0, 60.0, 400.0))])
        elif choice < 0.97:
            self.world.take([random.choice(("hang up", "overfull")), random.randrange(len(self.devices))])
        elif choice < 0.98:
            self.world.take(["fail"])
        else:
            self._new_socket()

    def _message(self) -> None:
        usable = [index for index in range(len(self.devices)) if self.world.is_open(index)]
        if not usable:
            self._new_socket()
            return
        index = self.random.choice(usable)
        data = self.devices[index].message(self.world.honest[0].atlas)
        self.world.take(["message", index, data.hex()])


def case(random: Random, world: World) -> None:
    """Raises Finding."""
    Drill(random, world).run()


def replay(steps: list[Step], note: Callable[[Step], None]) -> None:
    world = World(note, Counter())
    for step in steps:
        if not (step[0] in ("message", "hang up", "overfull") and step[1] >= len(world.hostile)):
            world.take(step)
