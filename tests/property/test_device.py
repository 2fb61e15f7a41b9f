"""Any interleaving of edits, messages, cuts and kills, of several devices with a correct server, comes to one text."""

from __future__ import annotations

import os
from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from client_sim.core import events
from client_sim.core.effects import Acknowledged
from client_sim.core.pacing import Policy
from client_sim.core.status import State
from crdt.protocol import codec
from crdt.protocol.frames import SERVER_REF, Cursor, Delta
from tests.unit.client_sim.fake_server import FakeServer
from tests.unit.client_sim.rig import Rig

SOAK = "SYNCLINE_SOAK" in os.environ
DEVICES = 3

EVENTS = (
    "cut", "kill", "start", "compact", "back", "audit", "drain",
    "policy", "network", "network_back", "suspend", "window", "hurry", "time",
)  # fmt: skip

Step = tuple[str, int, int]

STEPS = st.lists(
    st.tuples(
        st.sampled_from([*["edit", "up", "down"] * 2, *EVENTS]),
        st.integers(0, DEVICES - 1),
        st.integers(0, 5),
    ),
    max_size=80,
)


class World:
    """Devices of one user, and what each has promised to its app."""

    def __init__(self, chunk_bytes: int, *, set_back: bool) -> None:
        self.server = FakeServer()
        self.server.chunk_bytes = chunk_bytes
        self.rigs = [Rig(self.server, f"device{index}", seed=index) for index in range(DEVICES)]
        self.written: list[str] = []
        self.epochs = 0
        self.can_be_set_back = set_back
        for rig in self.rigs:
            rig.begin()

    def edit(self, rig: Rig, amount: int) -> None:
        word = f"<{len(self.written)}>"
        self.written.append(word)
        if amount % 2:
            rig.type(word)
        else:
            rig.edit(lambda roots: roots.text("body").insert(0, word))

    def up(self, rig: Rig, amount: int) -> None:
        for _ in range(amount + 1):
            rig.deliver_up()

    def down(self, rig: Rig, amount: int) -> None:
        for _ in range(amount + 1):
            rig.deliver_down()

    def cut(self, rig: Rig, amount: int) -> None:
        if rig.session is not None:
            rig.lose()

    def kill(self, rig: Rig, amount: int) -> None:
        rig.kill().begin()

    def start(self, rig: Rig, amount: int) -> None:
        rig.feed(events.Started())

    def audit(self, rig: Rig, amount: int) -> None:
        rig.audit()

    def policy(self, rig: Rig, amount: int) -> None:
        policy = (None, *Policy)[amount % 4]
        rig.feed(events.PolicyChosen(policy, (None, 5.0, 100.0)[amount % 3]))

    def network(self, rig: Rig, amount: int) -> None:
        rig.feed(events.NetworkChanged(("home", "cell")[amount % 2], metered=amount % 3 == 0))

    def network_back(self, rig: Rig, amount: int) -> None:
        rig.feed(events.NetworkBack())

    def suspend(self, rig: Rig, amount: int) -> None:
        rig.feed(events.Suspended())

    def window(self, rig: Rig, amount: int) -> None:
        rig.feed(events.WindowOpened(10.0, (300, 1_000, 1 << 20)[amount % 3]))

    def hurry(self, rig: Rig, amount: int) -> None:
        rig.feed(events.Hurried())

    def time(self, rig: Rig, amount: int) -> None:
        """To what the device wants to do next, whatever it is."""
        if rig.device.next_deadline() is not None:
            rig.wait()

    def drain(self, rig: Rig, amount: int) -> None:
        """A slow reader: entries that wait for it are thrown away, and an OPENED takes their place."""
        session = rig.session
        if session is None or not session.outgoing:
            return
        waiting = [codec.decode_server_frame(message) for message in session.outgoing]
        if all(isinstance(frame, Delta) for frame in waiting) and isinstance(first := waiting[0], Delta):
            room = self.server.room("main")
            session.outgoing.clear()
            session.answer(room, SERVER_REF, Cursor(room.epoch, first.seq - 1), None)

    def compact(self, rig: Rig, amount: int) -> None:
        room = self.server.room("main")
        room.first_seq = max(room.first_seq, room.head - amount)

    def back(self, rig: Rig, amount: int) -> None:
        """The server is restored from a backup: all are cut off, and a new epoch begins."""
        if not self.can_be_set_back:
            return
        for each in self.rigs:
            self.cut(each, 0)
        room = self.server.room("main")
        room.rewind(max(0, room.head - amount))
        room.first_seq = 1
        self.epochs += 1
        self.server.new_epoch("main", self.epochs.to_bytes(8, "little"))
        self.server.payloads.clear()

    def finish(self) -> None:
        for rig in self.rigs:
            rig.feed(events.PolicyChosen(Policy.INTERACTIVE))
            rig.feed(events.Started())
        for _ in range(3):
            for rig in self.rigs:
                rig.settle()


def run(steps: list[Step], chunk_bytes: int, *, set_back: bool) -> World:
    world = World(chunk_bytes, set_back=set_back)
    for name, index, amount in steps:
        step: Callable[[Rig, int], None] = getattr(world, name)
        step(world.rigs[index], amount)
    world.finish()
    return world


def check(world: World) -> None:
    texts = [rig.text for rig in world.rigs]
    assert texts == [texts[0]] * DEVICES
    assert world.server.room("main").replica.values().get("body", "") == texts[0]
    for word in world.written:
        assert texts[0].count(word) == 1, f"{word} in {texts[0]}"
    for rig in world.rigs:
        assert rig.device.status.state is State.CURRENT
        assert rig.document.pending == 0
        assert rig.device.name == rig.name, "it took itself for a clone"
        assert rig.document.copy.replica.digest() == world.server.room("main").replica.digest()


@settings(max_examples=2000 if SOAK else 60, deadline=None)
@given(steps=STEPS, chunk_bytes=st.sampled_from([30, 1 << 20]))
def test_devices_converge_and_lose_nothing(steps: list[Step], chunk_bytes: int) -> None:
    world = run(steps, chunk_bytes, set_back=False)
    check(world)
    for rig in world.rigs:
        acked = [effect.op for effect in rig.told if isinstance(effect, Acknowledged)]
        assert acked == sorted(set(acked))


@settings(max_examples=2000 if SOAK else 40, deadline=None)
@given(steps=STEPS, chunk_bytes=st.sampled_from([30, 1 << 20]))
def test_devices_give_back_what_a_restored_server_lost(steps: list[Step], chunk_bytes: int) -> None:
    check(run(steps, chunk_bytes, set_back=True))
