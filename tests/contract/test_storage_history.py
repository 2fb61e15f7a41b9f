"""What every implementation of the storage port keeps of a log that compaction takes out: who wrote what, and when."""

from __future__ import annotations

from collections.abc import AsyncIterator
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
from pycrdt import Doc, Text

from crdt.ids import DeviceId
from crdt.replica import Replica
from crdt.update import read_update
from crdt.update.ranges import Ranges
from server.core.records import Authorship, History, LogEntry
from server.storage.authors import SPAN_MS, author_values, authorship, folded
from server.storage.memory import MemoryStorage
from tests.contract.storage_support import (
    ALICE,
    PHONE,
    TIME_MS,
    AnyStorage,
    create_database,
    entry,
    opened,
    put,
    snapshot,
)

LAPTOP = DeviceId("alice", "laptop")


@pytest.fixture
def database(tmp_path: Path) -> Path:
    file = tmp_path / "store.db"
    create_database(file)
    return file


@pytest.fixture(params=["memory", "sqlite"])
async def storage(request: pytest.FixtureRequest, database: Path) -> AsyncIterator[AnyStorage]:
    if request.param == "memory":
        yield MemoryStorage()
    else:
        async with opened(database) as store:
            yield store


def written(count: int, *, step_ms: int = 1000, erase_every: int = 7) -> list[LogEntry]:
    """Two devices in turn, a character each; now and then one erases the first character."""
    replicas = {PHONE: Replica(1 << 40), LAPTOP: Replica(1 << 41)}
    made: list[LogEntry] = []
    ops = dict.fromkeys(replicas, 0)
    for seq, device in zip(range(1, count + 1), cycle((PHONE, PHONE, LAPTOP)), strict=False):
        update = replicas[device].edit(_erase if not seq % erase_every else _type)
        assert update is not None
        for other in replicas.values():
            other.apply([update] if other is not replicas[device] else [])
        ops[device] += 1
        one = entry(seq, update, device)._replace(first_op=ops[device], last_op=ops[device])
        made.append(one._replace(time_ms=TIME_MS + seq * step_ms))
    return made


def _type(doc: Doc[Any]) -> None:
    text = doc.get("text", type=Text)
    text += "x"


def _erase(doc: Doc[Any]) -> None:
    del doc.get("text", type=Text)[0]


async def compacted(storage: AnyStorage, log: list[LogEntry], *seqs: int) -> History:
    await put(storage, ALICE, *log)
    epoch = (await storage.load(ALICE)).epoch
    for seq in seqs:
        await storage.save_snapshot(ALICE, snapshot(seq, epoch, str(seq).encode()))
    return await storage.history(ALICE)


def did(rows: list[Authorship], device: DeviceId) -> tuple[Ranges, Ranges]:
    mine = [row for row in rows if row.device == device]
    inserted = Ranges(part for row in mine for part in row.inserted)
    return inserted, Ranges(part for row in mine for part in row.deleted)


async def test_an_unwritten_document_has_no_history(storage: AnyStorage) -> None:
    assert await storage.history(ALICE) == History((), None, ())


async def test_a_log_that_is_all_there_tells_all(storage: AnyStorage) -> None:
    log = written(20)
    assert await compacted(storage, log, 12) == History((), None, tuple(log))


async def test_what_leaves_the_log_stays_known_by_author(storage: AnyStorage) -> None:
    log = written(60)
    history = await compacted(storage, log, 10, 25, 40, 55)
    assert history.entries == tuple(log[40:])
    assert history.base is not None
    assert (history.base.seq, history.base.state) == (40, b"40")
    told = list(history.authors)
    for device in (PHONE, LAPTOP):
        assert did(told, device) == did([authorship(one) for one in log[:40]], device)
    assert [(row.first_seq, row.device, row.first_ms, row.last_ms) for row in told] == [
        (1, PHONE, TIME_MS + 1000, TIME_MS + 40_000),
        (3, LAPTOP, TIME_MS + 3000, TIME_MS + 39_000),
    ]


async def test_rows_span_an_hour_at_most_however_the_log_is_cut(storage: AnyStorage) -> None:
    log = written(90, step_ms=SPAN_MS // 10)
    history = await compacted(storage, log, *range(5, 90, 5))
    told = list(history.authors)
    for device in (PHONE, LAPTOP):
        assert did(told, device) == did([authorship(one) for one in log[:80]], device)
    assert len(told) < 80 / 2
    assert all(row.last_ms - row.first_ms <= SPAN_MS for row in history.authors)


async def test_a_new_count_of_ops_and_a_healing_push_are_told_apart(storage: AnyStorage) -> None:
    first, second, third = (one._replace(device=PHONE, first_op=1, last_op=1) for one in written(3))
    history = await compacted(storage, [first, second._replace(heal=True), third, *written(5)[3:]], 3, 5)
    assert [(row.first_seq, row.last_seq, row.heal) for row in history.authors] == [
        (1, 1, False), (2, 2, True), (3, 3, False),
    ]  # fmt: skip


async def test_what_can_not_be_read_is_told_of_as_such(storage: AnyStorage) -> None:
    history = await compacted(storage, [entry(1, b"no update"), *written(5)[1:]], 2, 5)
    assert [(row.first_seq, row.is_whole) for row in history.authors] == [(1, False), (2, True)]


async def test_begun_epochs_and_snapshots_that_come_late_lose_no_author(storage: AnyStorage) -> None:
    log = written(40)
    await compacted(storage, log, 10, 20)
    await storage.begin_epoch(ALICE, b"epoch--2")
    for seq in (15, 20, 30):
        await storage.save_snapshot(ALICE, snapshot(seq, b"epoch--2", str(seq).encode()))
    history = await storage.history(ALICE)
    assert list(history.authors) == folded(map(authorship, log[:20]))
    assert [kept.seq for kept in history.entries] == list(range(21, 41))


def test_an_entry_costs_a_few_bytes_once_it_is_folded() -> None:
    """Two devices that type in turn, for a working day."""
    log = written(5_000, step_ms=6_000)
    assert read_update(log[0].updates[0]).sections
    rows = [author_values(ALICE, row) for row in folded(map(authorship, log))]
    size = sum(len(value) if isinstance(value, bytes | str) else 8 for row in rows for value in row.values())
    assert size / len(log) < 2
