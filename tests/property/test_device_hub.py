"""Devices and the hub itself, without sockets: any interleaving of edits, commits, cuts and kills comes to one text."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Sequence
from random import Random
from typing import Protocol

from hypothesis import given, settings
from hypothesis import strategies as st

from client_sim.core import events as device_events
from client_sim.core.device import Device
from client_sim.core.driving import drive
from client_sim.core.effects import CloseConnection, Connect, Effect, FetchToken, Problem, Send
from client_sim.core.ports import DeviceStore
from client_sim.core.status import State
from client_sim.store import MemoryStore
from crdt.protocol.codec import encode
from crdt.update import read_update
from crdt.update.ranges import Ranges
from server.core import events
from tests.unit.server.core.lab import MAIN, Lab, token

SOAK = "SYNCLINE_SOAK" in os.environ
NAMES = ("phone", "laptop", "tablet")

Step = tuple[str, int, int]
KINDS = [*["edit", "up", "down", "answer"] * 2, "cut", "kill", "time", "fail", "fail_durable", "server_kill"]
STEPS = st.lists(
    st.tuples(st.sampled_from(KINDS), st.integers(0, len(NAMES) - 1), st.integers(0, 5)),
    max_size=80,
)


class Home(Protocol):
    """Where a device's store lives on when its process is gone."""

    def reopened(self) -> DeviceStore: ...


class MemoryHome:
    def __init__(self, store: MemoryStore | None = None) -> None:
        self.store = store or MemoryStore()

    def reopened(self) -> DeviceStore:
        self.store = self.store.restarted()
        return self.store


class Side:
    """One device, its store, and its end of the wire."""

    def __init__(self, world: World, name: str, seed: int, home: Home | None = None) -> None:
        self.world = world
        self.name = name
        self.rng = Random(seed)
        self.home = home or MemoryHome()
        self.session: int | None = None
        self.up: deque[bytes] = deque()
        self.boot()

    def boot(self) -> None:
        self.unplug()
        self.store = self.home.reopened()
        self.device = self.new_device()
        self.feed(device_events.OpenRequested("main"))
        self.feed(device_events.Started())

    def new_device(self) -> Device:
        return Device(self.name, self.store, self.rng)

    def feed(self, event: device_events.Event) -> None:
        drive(self.device, event, self.world.lab.now, self.execute)

    def execute(self, effect: Effect) -> None:
        match effect:
            case FetchToken(device):
                self.feed(device_events.TokenFetched(device, token("alice", device)))
            case Connect():
                self.session = self.world.lab.connect()
                self.feed(device_events.ConnectionMade())
            case Send(data):
                self.up.append(data)
            case CloseConnection():
                self.unplug()
            case Problem("device_forked"):
                self.world.forks += 1
            case _:
                pass

    def unplug(self) -> None:
        self.up.clear()
        if self.session is not None:
            session, self.session = self.session, None
            self.world.lab.feed(events.SocketClosed(session))

    def lose(self, code: int | None = None, reason: str = "") -> None:
        if self.session is not None:
            self.unplug()
            self.feed(device_events.ConnectionLost(code, reason))

    def deliver_up(self) -> bool:
        if not self.up or self.session is None:
            return False
        self.world.lab.feed(events.MessagesReceived(self.session, [self.up.popleft()]))
        return True

    def deliver_down(self) -> bool:
        if self.session is None:
            return False
        lab = self.world.lab
        if lab.inbox[self.session]:
            self.feed(device_events.MessageReceived(encode(lab.inbox[self.session].pop(0), deflate=True)))
            return True
        if closed := lab.closed.get(self.session):
            self.lose(*closed)
            return True
        return False

    @property
    def text(self) -> str:
        return str(self.device.document("main").values().get("body", ""))


class World:
    def __init__(self, names: Sequence[str] = NAMES) -> None:
        self.lab = Lab()
        self.written: list[str] = []
        self.forks = 0
        self.sides = [Side(self, name, seed) for seed, name in enumerate(names)]

    def step(self, kind: str, side: Side, amount: int) -> None:
        match kind:
            case "edit":
                self.edit(side, at_end=bool(amount % 2))
            case "up":
                for _ in range(amount + 1):
                    side.deliver_up()
            case "down":
                for _ in range(amount + 1):
                    side.deliver_down()
            case "cut":
                side.lose()
            case "kill":
                side.boot()
            case "time":
                self.pass_time(float(amount))
            case _:
                self.serve(kind)

    def serve(self, kind: str) -> None:
        """What happens on the server alone. All commits that it has told of are kept; what it has not may be lost."""
        match kind:
            case "answer":
                self.lab.turn()
                if self.lab.held:
                    self.lab.answer()
            case "fail" | "fail_durable":
                self.lab.turn()
                if self.lab.held:
                    self.lab.fail(durable=kind == "fail_durable")
            case "server_kill":
                self.lab.start()
                for each in self.sides:
                    each.session, lost = None, each.session
                    each.up.clear()
                    if lost is not None:
                        each.feed(device_events.ConnectionLost())
            case _:
                raise AssertionError(kind)

    def edit(self, side: Side, *, at_end: bool) -> None:
        word = f"<{len(self.written)}>"
        self.written.append(word)
        if at_end:
            side.feed(device_events.Edited("main", lambda roots: roots.text("body").append(word)))
        else:
            side.feed(device_events.Edited("main", lambda roots: roots.text("body").insert(0, word)))

    def pass_time(self, seconds: float) -> None:
        self.lab.now += seconds
        for side in self.sides:
            while (due := side.device.next_deadline()) is not None and due <= self.lab.now:
                side.feed(device_events.TimePassed())

    def settle(self) -> None:
        busy = True
        while busy:
            self.lab.settle()
            moved = [side.deliver_up() or side.deliver_down() for side in self.sides]
            busy = any(moved)

    def finish(self) -> None:
        for _ in range(4):
            self.pass_time(2.0)
            for side in self.sides:
                side.feed(device_events.NetworkBack())
            self.settle()


@settings(max_examples=2000 if SOAK else 50, deadline=None)
@given(steps=STEPS)
def test_devices_and_hub_converge_and_lose_nothing(steps: list[Step]) -> None:
    world = World()
    for kind, index, amount in steps:
        world.step(kind, world.sides[index], amount)
    world.finish()
    texts = [side.text for side in world.sides]
    assert texts == [texts[0]] * len(NAMES)
    for word in world.written:
        assert texts[0].count(word) == 1, f"{word} in {texts[0]}"
    for side in world.sides:
        assert side.device.status.state is State.CURRENT
        assert side.device.document("main").pending == 0
    assert world.forks == 0
    brought = [Ranges.inserted_by(read_update(update)) for entry in world.lab.durable(MAIN) for update in entry.updates]
    assert len(brought) <= len(world.written)
    assert sum(map(len, brought)) == len(Ranges(found for ranges in brought for found in ranges)), "nothing twice"
