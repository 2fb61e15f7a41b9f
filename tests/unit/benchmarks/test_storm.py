"""A small storm over a real server, and that nobody gives up who is sent away."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest

from benchmarks.figures import Scale, WorkloadFailed
from benchmarks.visitor import NOTHING, TurnedAway
from benchmarks.workloads import storm
from benchmarks.workloads.storm import Ledger, come_back, come_back_until_current

SERVER: Any = None
"""Nobody gets that far."""


def test_everybody_is_current_and_nothing_is_lost() -> None:
    (run,) = storm.workloads(Scale(quick=True))["restart"]()
    figures = {figure.name: figure.value for figure in run.figures}
    assert figures["lost without a word"] == 0
    assert 0 < figures["a device, p50"] <= figures["a device, p99"] <= figures["until all are current"]


async def comes_in(monkeypatch: pytest.MonkeyPatch, answers: Iterator[Exception | None]) -> Ledger:
    ledger = Ledger()

    async def try_once(*_: object) -> None:
        if (answer := next(answers)) is not None:
            raise answer

    monkeypatch.setattr(storm, come_back.__name__, try_once)
    monkeypatch.setattr(storm, "BACKOFF_S", (0.0, 0.0))
    await come_back_until_current(SERVER, "token", NOTHING, 0.0, ledger, random.Random(0))
    return ledger


async def test_who_is_sent_away_or_cut_off_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [TurnedAway("overloaded", 0.0), ConnectionError("cut"), TurnedAway("overloaded", 0.0), None]
    ledger = await comes_in(monkeypatch, iter(answers))
    assert (ledger.sent_away, ledger.lost, len(ledger.current_s)) == (2, 1, 1)


async def test_a_run_fails_when_a_device_is_never_to_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(WorkloadFailed):
        await comes_in(monkeypatch, iter([TurnedAway("bad_token", None)]))
