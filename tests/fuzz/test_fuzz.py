"""A short run of the fuzzer, and all that longer ones have found."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from crdt.update import Layout
from tests.fuzz.campaign import FOUND, Plan, run
from tests.fuzz.findings import Finding
from tests.fuzz.raw import parse
from tests.fuzz.trial import Step
from tests.fuzz.worker import Task, Worker, take_again
from tests.property.histories import happen

SCALE = 20 if os.environ.get("SYNCLINE_SOAK") else 1
FOUND_BEFORE = {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in sorted(FOUND.glob("*.json"))}
"""Those with an `open` are not mended yet, and it says what they are."""

OPEN = frozenset(
    Finding(found["kind"], found["message"]).signature for found in FOUND_BEFORE.values() if "open" in found
)


def test_nothing_harms_a_document_or_the_process(tmp_path: Path) -> None:
    report = run(Plan("test", updates=700 * SCALE, vectors=200 * SCALE, frames=300 * SCALE), keep=tmp_path)

    found = [Finding(discovery.kind, discovery.message) for discovery in report.discoveries.values()]
    assert [finding for finding in found if finding.signature not in OPEN] == []
    assert report.outcomes["updates"]["accepted"] > 200 * SCALE
    assert report.outcomes["updates"]["bad_update malformed"] > 10 * SCALE


@pytest.mark.parametrize("name", FOUND_BEFORE)
def test_what_was_found_once_does_no_harm(name: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    found = FOUND_BEFORE[name]
    if "open" in found:
        request.applymarker(pytest.mark.xfail(reason=found["open"], strict=True))
    worker = Worker(tmp_path / "journal")
    try:
        result = worker.run(Task("again", steps=tuple(found["steps"])))
    finally:
        worker.close()

    assert result.finding is None


EMOJI = b"\x01\x01\x01\x00\x04\x01\x01t\x04\xf0\x9f\x98\x80\x00"
"""Client 1 writes one into the text `t`: two clocks."""


@pytest.mark.parametrize(
    ("update", "kind"),
    [
        (b"\x00\x01\x01\x01\x00\x01", "state"),  # half of it is deleted
        (b"\x01\x01\x02\x00\x84\x01\x00\x01a\x00", "state"),  # something goes between its halves
        (b"\x01\x01\x02\x00\x27\x00\x01\x01\x01k\x01\x00", "slipped"),  # it is taken for a map
    ],
)
def test_it_would_see_what_the_check_prevents(monkeypatch: pytest.MonkeyPatch, update: bytes, kind: str) -> None:
    steps: list[Step] = [
        ["push", "alice", EMOJI.hex()],
        ["commit"],
        ["push", "alice", update.hex()],
        ["commit"],
        ["end"],
    ]
    take_again(steps)  # refused, and so no harm
    monkeypatch.setattr(Layout, "admit", lambda *args, **kwargs: 0)

    with pytest.raises(Finding) as found:
        take_again(steps)

    assert found.value.kind == kind


def test_a_process_that_dies_is_a_finding_and_another_goes_on(tmp_path: Path) -> None:
    worker = Worker(tmp_path / "journal")
    try:
        assert worker.run(Task("vectors", "test", 1)).finding is None
        worker.begin(Task("updates", "test", 1))
        worker.process.kill()
        assert worker.finish().finding == ("died", "signal SIGKILL")
        assert worker.run(Task("vectors", "test", 1)).finding is None
    finally:
        worker.close()


def test_a_case_is_the_same_each_time(tmp_path: Path) -> None:
    worker = Worker(tmp_path / "journal")
    try:
        worker.run(Task("updates", "test", 3))
        once = worker.steps()
        worker.run(Task("updates", "test", 3))
        assert worker.steps() == once
    finally:
        worker.close()


def test_what_is_taken_apart_is_put_together_the_same() -> None:
    history = happen(1, steps=60)

    for update in [*history.updates, *history.states]:
        assert parse(update).encode() == update
