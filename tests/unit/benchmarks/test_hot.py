"""Answers of cold opens are compared, and the budget is held."""

from __future__ import annotations

import pytest

from benchmarks.figures import WorkloadFailed
from benchmarks.percentiles import percentile
from benchmarks.workloads.hot import Ledger, check, content_of
from crdt.ids import DocumentId

CONTENT = content_of(20)
NAME = DocumentId("alice", "notes")


def test_what_is_stored_is_right_and_less_is_not() -> None:
    ledger = Ledger()
    ledger.answers = [(NAME, (CONTENT.state,))]
    check(ledger, CONTENT, resident_bytes=100, budget_bytes=100)
    ledger.answers.append((NAME, ()))
    with pytest.raises(WorkloadFailed, match="alice/notes"):
        check(ledger, CONTENT, resident_bytes=100, budget_bytes=100)


def test_a_run_fails_when_the_documents_take_more_than_the_budget() -> None:
    with pytest.raises(WorkloadFailed, match="over 100"):
        check(Ledger(), CONTENT, resident_bytes=1 << 30, budget_bytes=100)


def test_percentiles() -> None:
    waits = list(range(100, 0, -1))
    assert (percentile(waits, 0.5), percentile(waits, 0.99), percentile([3.0], 0.99)) == (51, 100, 3.0)
