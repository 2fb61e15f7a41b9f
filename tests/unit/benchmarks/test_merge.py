"""Merging as a workload: every case gives figures, and a result that is not right gives none."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.figures import Scale, WorkloadFailed
from benchmarks.workloads import _merging
from benchmarks.workloads._crdt_suite import b1, b2, b3
from benchmarks.workloads._edits import TEXT
from benchmarks.workloads._histories import NOT_RECORDED, concurrent_histories, history, history_updates
from benchmarks.workloads._measuring import expect_converged, heap_bytes
from benchmarks.workloads._returning import Offline, Return, Shape, offline, returning
from benchmarks.workloads.merge import workloads
from client_sim.traces import FOLDER_VARIABLE
from crdt.protocol import frames
from crdt.protocol.frames import CHAIN_START, EPOCH_BYTES, Access, Cursor, Mode, Opened
from crdt.replica import Replica

EDITS = 37
"""Not what anything else asks for: histories are kept."""


@pytest.fixture(autouse=True)
def _without_recordings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(FOLDER_VARIABLE, raising=False)


def test_every_case_of_the_suite_is_there() -> None:
    cases = [run.case for run in (*b1(EDITS), *b2(EDITS), *b3(EDITS))]
    expected = [f"[B{group}.{number}]" for group, count in ((1, 11), (2, 4), (3, 4)) for number in range(1, count + 1)]
    assert [case.partition(" ")[0] for case in cases] == expected


def test_sizes_are_the_same_in_each_run() -> None:
    names = ("average update", "document")
    first, second = (
        [figure.value for run in (*b1(EDITS), *b2(EDITS), *b3(EDITS)) for figure in run.figures if figure.name in names]
        for _ in range(2)
    )
    assert first == second


def test_a_text_that_was_typed_takes_its_letters_and_little_more() -> None:
    """As crdt-benchmarks has it: 6,000 letters, 31 bytes more, with ids of another length."""
    document = {figure.name: figure.value for figure in b1(EDITS)[0].figures}
    assert EDITS < document["document"] * 1024 <= EDITS + 31


def test_a_made_up_history_says_so() -> None:
    [run] = _merging.b4(EDITS)
    assert "made-up" in run.case
    assert run.note == NOT_RECORDED
    [run] = _merging.along_merges(EDITS)
    assert "made-up" in run.case
    assert run.note == NOT_RECORDED


def test_updates_of_a_history_make_its_text() -> None:
    assert Replica.load(history_updates(EDITS)).values() == {TEXT: history(EDITS).text}


def test_a_lost_edit_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    written = history(EDITS)
    monkeypatch.setattr(_merging, "history", lambda _: replace(written, edits=written.edits[:-1]))
    with pytest.raises(WorkloadFailed):
        _merging.b4(EDITS)


def test_a_lost_update_of_a_concurrent_history_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    [written] = concurrent_histories(EDITS)
    lossy = replace(written, updates=written.updates[:-1], authors=written.authors[:-1], parents=written.parents[:-1])
    monkeypatch.setattr(_merging, "concurrent_histories", lambda _: (lossy,))
    with pytest.raises(WorkloadFailed):
        _merging.along_merges(EDITS)


def test_replicas_that_differ_are_noticed() -> None:
    with pytest.raises(WorkloadFailed):
        expect_converged([Replica.load(offline(3, 1).updates), Replica.load(offline(3, 2).updates)])


def test_a_loaded_document_is_seen_on_the_heap() -> None:
    before = heap_bytes()
    if before is None:
        pytest.skip("this C library does not tell")
    kept = Replica.load(history_updates(1000))
    after = heap_bytes()
    assert after is not None
    assert after > before
    assert kept.v1_bytes


async def test_an_entry_that_was_left_out_is_noticed() -> None:
    returned = Return(Offline((), "", b"\x00"))
    returned.opened(_opened_at(7))
    returned.take(frames.Delta(1, 8, (b"update",)))
    assert returned.received == [b"update"]
    with pytest.raises(WorkloadFailed):
        returned.take(frames.Delta(1, 10, ()))


async def test_an_ack_of_what_was_known_moves_nothing() -> None:
    returned = Return(Offline((), "", b"\x00"))
    returned.opened(_opened_at(7))
    returned.take(frames.Ack(1, 3, 0, CHAIN_START))
    assert returned.head_seq == 7


def _opened_at(seq: int) -> Opened:
    return Opened(1, 1, Mode.DIFF, Cursor(bytes(EPOCH_BYTES), seq), (), 0, None, Access.WRITE, False, CHAIN_START)


def test_devices_return_to_a_server() -> None:
    """More edits than may be in flight, so that each device waits for acknowledgements."""
    [run] = returning([Shape(3, 300)])
    figures = {figure.name: figure.value for figure in run.figures}
    assert figures["log entries"] >= 6
    assert all(figures[name] > 0 for name in ("sent up", "sent down", "stored", "peak memory", "server CPU"))
    assert run.generator_share is not None


def test_names_are_the_same_at_any_scale() -> None:
    assert list(workloads(Scale())) == list(workloads(Scale(quick=True)))
