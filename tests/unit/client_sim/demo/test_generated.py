"""Histories made up have the rhythm of recorded ones."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from statistics import median, quantiles

import pytest

from client_sim.demo.generated import generate
from client_sim.traces import Trace, replay
from crdt.replica import Replica

EDITS = 12_000
BETWEEN_SESSIONS_S = 600
"""No pause within a session is as long."""


@pytest.fixture(scope="module")
def trace() -> Trace:
    return generate(EDITS, seed=7)


def sessions(trace: Trace, agent: int) -> list[list[int]]:
    """The times of one author's edits, a list for each session, but for the last one, which is cut off."""
    times = [at for at, author in zip(trace.times_s, trace.agents, strict=True) if author == agent and at is not None]
    found = [times[:1]]
    for earlier, later in pairwise(times):
        if later - earlier > BETWEEN_SESSIONS_S:
            found.append([])
        found[-1].append(later)
    return found[:-1]


def test_the_same_seed_makes_the_same_history() -> None:
    assert generate(500, seed=3) == generate(500, seed=3)
    assert generate(500, seed=3).inserts != generate(500, seed=4).inserts


@pytest.mark.parametrize("edits", [1, 20, 500])
def test_it_has_as_many_edits_as_asked_for(edits: int) -> None:
    assert len(generate(edits, seed=1)) == edits


def test_its_transactions_end_with_its_text(trace: Trace) -> None:
    updates = [update for update in replay(trace) if update is not None]
    assert len(updates) == EDITS
    trace.check(Replica.load(updates).values()["text"])


def test_active_seconds_are_as_recorded(trace: Trace) -> None:
    seconds = Counter(zip(trace.agents, trace.times_s, strict=True)).values()
    assert 2 <= median(seconds) <= 5
    assert 8 <= quantiles(seconds, n=20)[-1] <= 11
    assert max(seconds) <= 27


def test_sessions_are_as_recorded(trace: Trace) -> None:
    found = [session for agent in range(3) for session in sessions(trace, agent)]
    assert len(found) > 20
    assert 171 <= median(map(len, found)) <= 630
    assert 3 * 60 <= median(session[-1] - session[0] for session in found) <= 12 * 60


def test_all_type_and_all_merge(trace: Trace) -> None:
    merges = Counter(agent for agent, parents in zip(trace.agents, trace.parents, strict=True) if len(parents) > 1)
    assert sorted(merges) == [0, 1, 2]
    assert min(merges.values()) > 20


def test_nobody_sees_the_others_last_edits(trace: Trace) -> None:
    last = range(EDITS - EDITS // 20, EDITS)
    assert all(
        parent < last.start or trace.agents[parent] == trace.agents[at] for at in last for parent in trace.parents[at]
    )
