"""Many worlds: whatever happens in them, the promises hold."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from client_sim.sim.plan import make
from client_sim.sim.run import play, play_seed
from client_sim.sim.weather import PROFILES, Fault

SOAK = "SYNCLINE_SOAK" in os.environ
BLOCK = 50 if SOAK else 4
BLOCKS = 100 if SOAK else 3
DIGESTS = 200 if SOAK else 4


@pytest.mark.parametrize("first", range(1, 1 + BLOCK * BLOCKS, BLOCK))
def test_the_promises_hold(first: int) -> None:
    failures = [play_seed(seed).failure for seed in range(first, first + BLOCK)]
    assert [failure for failure in failures if failure] == []


@pytest.mark.parametrize("profile", sorted(set(PROFILES) - {"swarm"}))
def test_the_promises_hold_with_certain_faults(profile: str) -> None:
    for seed in range(100 if SOAK else 1):
        assert play_seed(seed, profile).failure is None


def digests(path: Path, hash_seed: str) -> str:
    """Of some seeds, played in a process of its own."""
    command = [sys.executable, "-m", "client_sim", "sim", "--seeds", str(DIGESTS), "--trace-out", str(path)]
    subprocess.run(command, env=os.environ | {"PYTHONHASHSEED": hash_seed}, check=True, capture_output=True)
    return path.read_text()


def test_a_seed_repeats_itself_in_another_process(tmp_path: Path) -> None:
    first, second = digests(tmp_path / "one", "1"), digests(tmp_path / "two", "2")
    assert first == second
    assert len(first.splitlines()) == DIGESTS


def test_who_watches_changes_nothing() -> None:
    assert play_seed(7).digest == play_seed(7, keep=True).digest


def test_seeds_differ() -> None:
    assert len({play_seed(seed, "calm").digest for seed in range(5)}) == 5


def test_faults_are_drawn_by_run_and_half_of_the_runs_are_narrow() -> None:
    plans = [make(seed) for seed in range(400)]
    for fault in Fault:
        assert 130 < sum(fault in plan.weather.faults for plan in plans) < 270
    assert 150 < sum(plan.place.tiny for plan in plans) < 250
    assert {plan.place.processes for plan in plans} == {1, 2, 3}


def test_without_its_actions_nothing_happens() -> None:
    plan = make(3, "calm")
    outcome = play(plan)
    assert outcome.failure is None
    assert outcome.counts["edits"] > outcome.counts["signed"] > 0
