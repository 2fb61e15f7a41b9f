"""What a thief did can be taken back, and what others did stays."""

from __future__ import annotations

import os
from collections.abc import Sequence

import pytest

from crdt.excise import Step, Undone, undo
from crdt.replica import Replica
from crdt.update import EMPTY_UPDATE, Layout, read_update
from crdt.update.ranges import Ranges
from tests.property.histories import EDITS
from tests.property.thefts import Theft, happen

SEEDS = range(600 if os.environ.get("SYNCLINE_SOAK") else 20)
CLIENT = 1000


FLAT = tuple(edit for edit in EDITS if edit.__name__ != "_nested")
"""Of a map within what the thief deleted, whose keys he had set before, the library does not give back every value."""


def steps_of(theft: Theft) -> list[Step]:
    return [Step(edit.update, read_update(edit.update), taken=edit.stolen) for edit in theft.log]


def taken_back(theft: Theft, folded: int = 0) -> Undone:
    """Where the first `folded` updates are in a snapshot already."""
    steps = steps_of(theft)
    base = Replica.load(step.update for step in steps[:folded]).state()
    return undo(base, steps[folded:], Ranges(), CLIENT)


def inserted(steps: Sequence[Step], *, taken: bool) -> Ranges:
    return Ranges(part for step in steps if step.taken is taken for part in Ranges.inserted_by(step.read))


def deleted(replica: Replica) -> Ranges:
    return Ranges.deleted_by(read_update(replica.state()))


@pytest.mark.parametrize("seed", SEEDS)
def test_the_document_is_as_if_the_thief_had_never_been_there(seed: int) -> None:
    theft = happen(seed, unseen=True, edits=FLAT)
    replica = Replica.load(theft.updates())
    replica.apply([taken_back(theft).update or EMPTY_UPDATE])
    assert replica.values() == Replica.load(theft.updates(stolen=False)).values()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("unseen", [True, False])
def test_nothing_of_the_thief_is_left_and_nothing_that_others_wrote_goes_but_what_was_inside_it(
    seed: int, unseen: bool
) -> None:
    theft = happen(seed, unseen=unseen)
    steps = steps_of(theft)
    replica = Replica.load(theft.updates())
    before = deleted(replica)
    replica.apply([taken_back(theft).update or EMPTY_UPDATE])
    assert not inserted(steps, taken=True) - deleted(replica)
    its_own = Ranges([(CLIENT, 0, 1 << 31)])
    newly = deleted(replica) - before - inserted(steps, taken=True) - its_own
    containers = [
        step for step in steps if step.taken and any("type" in struct.content for struct in step.read.structs)
    ]
    assert not newly or containers


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("unseen", [True, False])
def test_all_devices_converge_and_a_second_time_changes_nothing(seed: int, unseen: bool) -> None:
    theft = happen(seed, unseen=unseen)
    update = taken_back(theft).update
    assert update is not None
    read = read_update(update)
    replicas = [Replica.load(theft.updates()), *theft.replicas]
    for replica in replicas:
        replica.apply(theft.updates() if unseen else [])  # some have been offline since the thief came
        assert read.missing(replica.state_vector()) is None
        replica.apply([update])
    Layout.of(theft.updates()).admit(read_update(update, bounded=True), Replica.load(theft.updates()).state_vector())
    digests = [replica.digest() for replica in replicas]
    assert digests == digests[:1] * len(digests)
    assert replicas[0].digest() == Replica.load([replicas[0].state()]).digest()
    again = undo(EMPTY_UPDATE, [*steps_of(theft), Step(update, read)], Ranges(), CLIENT + 1)
    assert again.update is None


@pytest.mark.parametrize("seed", SEEDS)
def test_a_snapshot_from_before_the_thief_is_as_good_as_the_whole_log(seed: int) -> None:
    theft = happen(seed, unseen=True, edits=FLAT)
    honest = next(index for index, edit in enumerate(theft.log) if edit.stolen)
    replica = Replica.load(theft.updates())
    replica.apply([taken_back(theft, honest).update or EMPTY_UPDATE])
    assert replica.values() == Replica.load(theft.updates(stolen=False)).values()
