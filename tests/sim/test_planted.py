"""A simulator is worth what it finds: bugs are planted, and it has to find them; a check that fails has to be seen."""

from __future__ import annotations

import io
import os
import time
from pathlib import Path

import pytest
from rich.console import Console

from client_sim.sim import command, ending
from client_sim.sim.command import Request
from client_sim.sim.run import play_seed
from client_sim.sim.truth import Broken
from tests.sim.planted import PLANTED, Planted

SOAK = "SYNCLINE_SOAK" in os.environ
SAMPLE = PLANTED if SOAK else PLANTED[::5]
SEEDS_MAX = 100
"""Within so many every one is found; `Planted.seed` was the first, and is tried first."""


@pytest.mark.interpreted
@pytest.mark.parametrize("bug", SAMPLE, ids=lambda bug: bug.name)
def test_a_planted_bug_is_found(bug: Planted, monkeypatch: pytest.MonkeyPatch) -> None:
    bug.plant(monkeypatch)
    seeds = (bug.seed, *range(1, SEEDS_MAX + 1))
    assert any(play_seed(seed).failure for seed in seeds), f"not within {SEEDS_MAX} seeds"


def test_enough_is_planted() -> None:
    assert len(PLANTED) >= 20
    assert len({bug.name for bug in PLANTED}) == len(PLANTED)


def run(folder: Path, seeds: int) -> tuple[int, str]:
    """The exit code, and what was printed."""
    console = Console(file=io.StringIO(), width=200)
    request = Request(seeds, 5, "calm", None, folder / "trace", folder / "report", time.monotonic)
    code = command.run(console, request)
    assert isinstance(console.file, io.StringIO)
    return code, console.file.getvalue()


def test_a_failing_check_is_seen_shrunk_and_can_be_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise Broken("nothing is ever right", "as was to be shown")

    monkeypatch.setattr(ending, "_compare", never)
    code, printed = run(tmp_path, 2)
    assert code == command.BROKEN
    assert "2 broken" in printed
    assert "nothing is ever right" in printed
    assert "python -m client_sim sim --seed 5 --seeds 1 --profile calm" in printed
    history = printed[printed.index("without what it does not need") :]
    assert "signed" in history
    assert "typed" not in history, "an edit that has nothing to do with it"
    assert [path.name for path in (tmp_path / "report").iterdir()] == ["seed-5.html"]


def test_a_run_can_be_looked_at(tmp_path: Path) -> None:
    code, printed = run(tmp_path, 1)
    assert code == 0
    assert "1 seeds, 0 broken" in printed
    assert "catch-ups" in printed
    assert "every promise held" in (tmp_path / "report" / "seed-5.html").read_text()
    assert "phone          typed" in (tmp_path / "trace").read_text()
