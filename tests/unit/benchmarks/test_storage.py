"""Storage as a workload: every case gives figures, and a store that is not right gives none."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from benchmarks.figures import Scale, WorkloadFailed
from benchmarks.workloads._appending import Batch, Writer, appends
from benchmarks.workloads._compacting import compactions, long_history
from benchmarks.workloads._log import DEVICE, fresh_file, log_of, opened, typed_letters
from benchmarks.workloads._stored import expect_sound, file_bytes, stored_bytes
from benchmarks.workloads.storage import workloads
from client_sim.traces import FOLDER_VARIABLE
from crdt.chain import extend
from crdt.protocol.frames import CHAIN_START


@pytest.fixture(autouse=True)
def _without_recordings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(FOLDER_VARIABLE, raising=False)


def test_a_log_is_as_pushes_make_it() -> None:
    updates = typed_letters(5)
    log = log_of(updates, 2)
    assert [(entry.seq, entry.first_op, entry.last_op) for entry in log] == [(1, 1, 2), (2, 3, 4), (3, 5, 5)]
    assert [update for entry in log for update in entry.updates] == list(updates)
    assert log[-1].chain == extend(CHAIN_START, updates)
    assert {entry.device for entry in log} == {DEVICE}


@pytest.mark.parametrize("batch", [Batch(1, 1), Batch(3, 1), Batch(1, 4)], ids=str)
def test_appends_are_counted_and_read_back(batch: Batch) -> None:
    """In logs so short that new documents are begun."""
    [run] = appends([batch], 0.05, 8)
    figures = {figure.name: figure.value for figure in run.figures}
    assert figures["durable updates"] > 0
    assert figures["commit p50"] <= figures["commit p99"]


async def test_an_entry_that_the_store_lost_is_noticed() -> None:
    async with fresh_file() as file, opened(file) as storage:
        writer = Writer(storage, Batch(1, 2), log_of(typed_letters(8)))
        await writer.commit()
        await writer.commit()
        await writer.check()
        _lose_last_entry(file)
        with pytest.raises(WorkloadFailed):
            await writer.check()


def _lose_last_entry(file: Path) -> None:
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("DELETE FROM log WHERE seq = 4").rowcount == 1
        connection.commit()


def test_compaction_folds_a_log() -> None:
    fresh, behind = compactions(600, 50)
    for run in (fresh, behind):
        figures = {figure.name: figure.value for figure in run.figures}
        assert figures["entries"] > 0
        assert 0 < figures["snapshot"] < figures["updates"]


def test_a_long_history_is_compacted_and_starts_again() -> None:
    grown, cold = long_history(2_100, 1)
    life = {figure.name: figure.value for figure in grown.figures}
    assert life["compactions"] == 1
    assert 0 < life["file at the end"] <= life["most on disk"]
    start = {figure.name: figure.value for figure in cold.figures}
    assert start["log entries"] == 100
    assert start["answer"] > 0
    assert start["cold start"] == pytest.approx(start["load"] + start["replica"] + start["first answer"])


async def test_what_is_stored_counts_before_it_is_in_the_file() -> None:
    async with fresh_file() as file, opened(file) as storage:
        before = stored_bytes(file)
        writer = Writer(storage, Batch(1, 1_000), log_of(typed_letters(1_000)))
        await writer.commit()
        assert stored_bytes(file) > before
        assert file_bytes(file) > file.stat().st_size


def test_a_damaged_file_is_noticed(tmp_path: Path) -> None:
    file = tmp_path / "damaged.db"
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("CREATE TABLE things (name TEXT UNIQUE)")
        connection.executemany("INSERT INTO things VALUES (?)", [(f"thing {number}",) for number in range(1000)])
        connection.commit()
    expect_sound(file)
    data = bytearray(file.read_bytes())
    place = data.index(b"thing 500")
    data[place : place + 9] = b"thing 5x0"
    file.write_bytes(data)
    with pytest.raises(WorkloadFailed):
        expect_sound(file)


def test_names_are_the_same_at_any_scale() -> None:
    assert list(workloads(Scale())) == list(workloads(Scale(quick=True)))
