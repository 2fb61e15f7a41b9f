"""What a device that comes back was sent is compared with what was written."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.figures import WorkloadFailed
from benchmarks.histories import generated
from benchmarks.visitor import NOTHING, CaughtUp, Place
from benchmarks.workloads.catchup import Stored, check
from crdt.protocol.frames import Cursor, Mode
from crdt.replica import Replica

HISTORY = generated(50, 0.3)
HEAD, HALF = Cursor(b"epoch-01", 2), 25


def stored() -> Stored:
    replicas = {edits: Replica.load(HISTORY.updates[:edits]) for edits in (0, HALF, 50)}
    states = {edits: replica.state() for edits, replica in replicas.items()}
    return Stored(HISTORY, Path(), "main", {0: NOTHING, HALF: NOTHING, 50: Place(HEAD)}, states)


@pytest.mark.parametrize("edits", [0, HALF])
def test_all_that_was_missing_is_right(edits: int) -> None:
    check(stored(), edits, CaughtUp(Mode.TAIL, HISTORY.updates[edits:], HEAD, 0))


@pytest.mark.parametrize(
    ("updates", "cursor"),
    [(HISTORY.updates[HALF:-1], HEAD), ((), HEAD), (HISTORY.updates[HALF:], Cursor(b"epoch-01", 1))],
    ids=["one is missing", "all are missing", "not to the end"],
)
def test_a_run_fails_when_a_device_was_not_brought_current(updates: tuple[bytes, ...], cursor: Cursor) -> None:
    with pytest.raises(WorkloadFailed):
        check(stored(), HALF, CaughtUp(Mode.TAIL, updates, cursor, 0))


@pytest.mark.parametrize("delete_share", [0.0, 0.4])
def test_a_history_makes_the_text_that_it_says(delete_share: float) -> None:
    history = generated(300, delete_share)
    assert len(history) == 300
    assert Replica.load(history.updates).values() == {"text": history.text}
    assert (len(history.text) == 300) == (not delete_share)
