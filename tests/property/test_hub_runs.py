"""However ops of several devices interleave and lean on one another, the log can be taken in order (I4)."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pycrdt import Text

from crdt.replica import Replica
from server.core import effects
from tests.unit.server.core.lab import Lab, values

SOAK = "SYNCLINE_SOAK" in os.environ
DEVICES = ("phone", "laptop", "tablet")


@dataclass(frozen=True)
class Step:
    """`client` writes, seeing all that `sees` wrote if it is given, and `device` pushes the update.

    Devices may push what another one wrote (a copied store), or, with `whole`, all that the client has.
    """

    client: int
    device: int
    sees: int | None
    deletes: bool
    whole: bool
    then: str
    """What happens before the next step: nothing, a commit begins, or the storage answers as well."""


STEPS = st.lists(
    st.builds(
        Step,
        client=st.integers(0, 2),
        device=st.integers(0, 2),
        sees=st.none() | st.integers(0, 2),
        deletes=st.booleans(),
        whole=st.sampled_from([False, False, False, True]),
        then=st.sampled_from(["", "", "", "", "begin", "settle"]),
    ),
    min_size=1,
    max_size=25,
)


@dataclass
class World:
    lab: Lab = field(default_factory=Lab)
    replicas: list[Replica] = field(default_factory=lambda: [Replica(client + 1) for client in range(3)])
    ops: dict[int, int] = field(default_factory=lambda: dict.fromkeys(range(3), 0))

    def __post_init__(self) -> None:
        joined = [self.lab.join(device=name) for name in DEVICES]
        self.sessions = [session for session, _ in joined]
        self.handle = joined[0][1]

    def step(self, step: Step) -> None:
        replica = self.replicas[step.client]
        if step.sees is not None and step.sees != step.client:
            replica.apply([self.replicas[step.sees].diff(replica.state_vector_bytes())])
        update = replica.edit(lambda doc: _change(doc.get("t", type=Text), deletes=step.deletes))
        if step.whole or update is None:
            update = replica.state()
        self.ops[step.device] += 1
        self.lab.push(self.sessions[step.device], self.handle, self.ops[step.device], update)
        if step.then:
            self.lab.turn()
        if step.then == "settle":
            self.lab.settle()


def _change(text: Text, *, deletes: bool) -> None:
    if deletes and len(text):
        del text[0:1]
    else:
        text.insert(len(text) // 2, "x")


@given(STEPS)
@settings(
    max_examples=3000 if SOAK else 120, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)
def test_the_log_can_be_taken_in_order_and_has_all_that_was_pushed(steps: list[Step]) -> None:
    world = World()
    for step in steps:
        world.step(step)
    world.lab.settle()
    log = world.lab.durable()
    everything = Replica.load(replica.state() for replica in world.replicas)
    assert values(log) == everything.values()
    for index, name in enumerate(DEVICES):
        own = [entry for entry in log if entry.device.name == name]
        firsts = [entry.first_op for entry in own]
        assert firsts == [1, *(entry.last_op + 1 for entry in own[:-1])][: len(own)]
        assert (own[-1].last_op if own else 0) == world.ops[index]
    assert not any(isinstance(effect, effects.Append) for effect in world.lab.held)


@given(st.permutations(range(9)))
@settings(max_examples=500 if SOAK else 30, deadline=None, derandomize=True)
def test_ops_of_devices_that_do_not_lean_on_one_another_make_one_entry_for_each(order: list[int]) -> None:
    lab = Lab()
    joined = [lab.join(device=name) for name in DEVICES]
    replicas = [Replica(client + 1) for client in range(3)]
    sent = [0, 0, 0]
    for index in (position % 3 for position in order):
        update = replicas[index].edit(lambda doc: doc.get("t", type=Text).insert(0, "x"))
        assert update is not None
        sent[index] += 1
        lab.push(*joined[index], sent[index], update)
    lab.settle()
    assert [(entry.first_op, entry.last_op) for entry in lab.durable()] == [(1, 3)] * 3
