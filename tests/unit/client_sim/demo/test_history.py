"""What the devices type is the history, whoever types it and however much of it is played."""

from __future__ import annotations

from array import array
from hashlib import sha256
from pathlib import Path
from random import Random

import pytest

from client_sim.demo.generated import generate
from client_sim.demo.history import (
    PAUSE_S,
    History,
    Place,
    build,
    concurrent_edits,
    due_times,
    longest_stretch,
    read_edits,
    tail,
    write_edits,
)
from client_sim.traces import Patch, Trace, TraceError
from crdt.replica import Replica


def recorded(
    patches: list[Patch], end: str, agents: list[int] | None = None, parents: list[tuple[int, ...]] | None = None
) -> Trace:
    count = len(patches)
    return Trace(
        name="made here",
        positions=array("q", (patch.at for patch in patches)),
        deletes=array("q", (patch.delete for patch in patches)),
        inserts=[patch.insert for patch in patches],
        patch_counts=array("q", [1]) * count,
        agents=array("q", agents or [0] * count),
        parents=parents or [(index - 1,) if index else () for index in range(count)],
        times_s=list(range(count)),
        is_concurrent=agents is not None,
        end_chars=len(end),
        end_sha256=sha256(end.encode()).hexdigest(),
    )


ALPHABET = "".join(map(chr, range(ord("a"), ord("a") + 26)))
SEQUENTIAL = recorded([Patch(at, 0, letter) for at, letter in enumerate(ALPHABET)], ALPHABET)

FORK = recorded(
    [Patch(0, 0, "ab"), Patch(1, 0, "X"), Patch(2, 0, "Y"), Patch(4, 0, "!"), Patch(0, 1, "")],
    "XbY!",
    agents=[0, 1, 0, 1, 0],
    parents=[(), (0,), (0,), (1, 2), (2,)],
)
"""One begins; both go on without the other's; then the second sees the first's `Y`, and the first deletes."""


def played(history: History) -> str:
    """The text of all edits in the order given, each of which must find what it builds on."""
    counts = [0] * len(history.devices)
    replica = Replica()
    for device, number in history.order:
        edit = history.edits[device][number]
        assert all(have >= need for have, need in zip(counts, edit.needs, strict=True))
        assert counts[device] == edit.needs[device] == number
        counts[device] += 1
        replica.apply([edit.update])
    assert tuple(counts) == history.ends
    return str(replica.values().get("text", ""))


@pytest.mark.parametrize("edits", [1, 7, 26, 1000])
def test_the_last_edits_of_a_sequential_history_end_it(edits: int) -> None:
    history = build(SEQUENTIAL, edits, Random(1))
    assert history.is_end(played(history))
    assert len(history.order) - history.has_opening == min(edits, 26)
    assert history.has_opening == (edits < 26)
    assert concurrent_edits(history) == 0


@pytest.mark.parametrize("edits", [1, 2, 3, 4, 5])
def test_the_last_edits_of_a_concurrent_history_end_it(edits: int) -> None:
    history = build(FORK, edits, Random(1))
    assert history.is_end(played(history))


def test_generated_histories_are_whole() -> None:
    for seed in range(3):
        history = build(generate(400, seed), 300, Random(seed))
        assert history.is_end(played(history))


def test_a_sequential_history_is_dealt_out_by_its_seed() -> None:
    one, same, other = (build(SEQUENTIAL, 26, Random(seed)) for seed in (1, 1, 2))
    assert one.ends == same.ends != other.ends
    assert all(one.ends)


def test_an_edit_needs_what_its_author_had_seen() -> None:
    history = build(FORK, 5, Random(1))
    assert history.devices == ("phone", "tablet", "laptop")
    assert [edit.needs for edit in history.edits[0]] == [(0, 0, 0), (1, 0, 0), (2, 0, 0)]
    assert [edit.needs for edit in history.edits[1]] == [(1, 0, 0), (2, 1, 0)]


def test_edits_are_concurrent_where_neither_author_had_seen_the_others() -> None:
    assert concurrent_edits(build(FORK, 5, Random(1))) == 4


def test_the_tail_builds_on_no_others_tail() -> None:
    assert tail(build(FORK, 5, Random(1))) == (2, 1, 0)
    history = build(SEQUENTIAL, 26, Random(1))
    typed_last = [end - begins for begins, end in zip(tail(history), history.ends, strict=True)]
    assert sorted(typed_last)[:2] == [0, 0]
    assert typed_last[history.order[-1].device] > 0


def test_the_longest_stretch_needs_nothing_new() -> None:
    history = build(generate(600, 1), 600, Random(1))
    place = longest_stretch(history, 0.15, 0.4)
    edits = history.edits[place.device]
    others = [number for number in range(3) if number != place.device]
    assert [edits[place.number].needs[at] for at in others] == [edits[place.number + 1].needs[at] for at in others]
    assert place in history.order[90:240]
    assert longest_stretch(build(FORK, 1, Random(1)), 0.0, 0.1) == Place(0, 1)


def test_pauses_are_cut_and_a_second_is_spread_over_its_edits() -> None:
    assert due_times([100, 100, 101, 4000]) == [0.0, 0.5, 1.0, 1.0 + PAUSE_S]
    assert due_times([None, None, 7, 5]) == [0.0, 0.25, 0.5, 1.0]
    assert due_times([]) == []


def test_an_author_on_two_branches_is_refused() -> None:
    trace = recorded([Patch(0, 0, "a"), Patch(0, 0, "b")], "ab", agents=[0, 0], parents=[(), ()])
    with pytest.raises(TraceError):
        build(trace, 2, Random(1))


def test_edits_are_read_as_they_were_written(tmp_path: Path) -> None:
    edits = list(build(FORK, 5, Random(1)).edits[0])
    write_edits(tmp_path / "edits", edits)
    assert read_edits(tmp_path / "edits") == edits
