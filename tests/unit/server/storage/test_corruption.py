"""A damaged row is CorruptDocument, or makes no difference; never a document that looks whole and is not."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from server.core.ports import CorruptDocument, StorageError
from server.core.records import DocumentAppend
from tests.contract.storage_support import ALICE, BOB, create_database, entries, entry, opened, put, snapshot

LOG_COLUMNS = ("seq", "user", "device", "first_op", "last_op", "chain", "updates", "time_ms", "checksum")
SNAPSHOT_COLUMNS = ("seq", "epoch", "state", "ops", "time_ms", "checksum")
DOCUMENT_COLUMNS = ("epoch", "epoch_seq", "created_ms", "checksum")


@pytest.fixture
def database(tmp_path: Path) -> Path:
    file = tmp_path / "store.db"
    create_database(file)
    return file


async def write(database: Path, snapshot_seqs: Sequence[int] = (), last_seq: int = 6) -> None:
    async with opened(database) as storage:
        await put(storage, ALICE, *entries(1, last_seq))
        await put(storage, BOB, *entries(1, 2))
        epoch = (await storage.load(ALICE)).epoch
        for seq in snapshot_seqs:
            await storage.save_snapshot(ALICE, snapshot(seq, epoch))


def change(database: Path, statement: str, *parameters: Any) -> None:
    """Change one row behind the store's back."""
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute(statement, parameters).rowcount == 1
        connection.commit()


def flip(database: Path, table: str, column: str, where: str) -> None:
    """Change one bit of a value, without regard for what it is."""
    with closing(sqlite3.connect(database)) as connection:
        connection.text_factory = bytes
        (value,) = connection.execute(f'SELECT "{column}" FROM {table} WHERE {where}').fetchone()
    if isinstance(value, int):
        change(database, f'UPDATE {table} SET "{column}" = ? WHERE {where}', value ^ 64)
    else:
        flipped = bytes([value[0] ^ 128]) + value[1:]
        kind = "TEXT" if column in ("user", "device") else "BLOB"
        change(database, f'UPDATE {table} SET "{column}" = CAST(? AS {kind}) WHERE {where}', flipped)


async def is_corrupt(database: Path) -> bool:
    async with opened(database) as storage:
        assert (await storage.load(BOB)).entries == entries(1, 2), "another document is as it was"
        try:
            await storage.load(ALICE)
        except CorruptDocument:
            return True
        return False


@pytest.mark.parametrize("column", LOG_COLUMNS)
@pytest.mark.parametrize("seq", [1, 3, 6])
async def test_a_flipped_bit_in_the_log_is_found(database: Path, column: str, seq: int) -> None:
    await write(database)
    flip(database, "log", column, f"document_id = 1 AND seq = {seq}")
    assert await is_corrupt(database)


@pytest.mark.parametrize("column", DOCUMENT_COLUMNS)
async def test_a_flipped_bit_in_the_head_row_is_found(database: Path, column: str) -> None:
    await write(database)
    flip(database, "documents", column, "id = 1")
    assert await is_corrupt(database)


async def test_a_row_under_another_document_is_found(database: Path) -> None:
    await write(database)
    change(database, "UPDATE log SET document_id = 2, seq = 3 WHERE document_id = 1 AND seq = 6")
    async with opened(database) as storage:
        with pytest.raises(CorruptDocument):
            await storage.load(BOB)


async def test_a_row_of_another_document_in_its_place_is_found(database: Path) -> None:
    await write(database)
    change(database, "DELETE FROM log WHERE document_id = 1 AND seq = 2")
    change(database, "UPDATE log SET document_id = 1 WHERE document_id = 2 AND seq = 2")
    async with opened(database) as storage:
        with pytest.raises(CorruptDocument):
            await storage.load(ALICE)


@pytest.mark.parametrize("seq", [1, 4])
async def test_a_missing_entry_is_found(database: Path, seq: int) -> None:
    await write(database)
    change(database, "DELETE FROM log WHERE document_id = 1 AND seq = ?", seq)
    assert await is_corrupt(database)


@pytest.mark.parametrize("column", SNAPSHOT_COLUMNS)
async def test_a_damaged_newest_snapshot_gives_way_to_the_one_before(database: Path, column: str) -> None:
    await write(database, snapshot_seqs=(2, 4))
    flip(database, "snapshots", column, "seq = 4")
    async with opened(database) as storage:
        stored = await storage.load(ALICE)
        assert stored.snapshot == snapshot(2, stored.epoch)
        assert stored.unsnapshotted == entries(3, 6)


async def test_a_damaged_only_snapshot_gives_way_to_the_whole_log(database: Path) -> None:
    await write(database, snapshot_seqs=(4,))
    flip(database, "snapshots", "state", "seq = 4")
    async with opened(database) as storage:
        stored = await storage.load(ALICE)
        assert (stored.snapshot, stored.entries) == (None, entries(1, 6))


async def test_two_damaged_snapshots_are_a_corrupt_document(database: Path) -> None:
    await write(database, snapshot_seqs=(2, 4))
    for seq in (2, 4):
        flip(database, "snapshots", "state", f"seq = {seq}")
    assert await is_corrupt(database)


async def test_a_damaged_snapshot_and_a_hole_in_the_log_are_a_corrupt_document(database: Path) -> None:
    await write(database, snapshot_seqs=(2, 4))
    flip(database, "snapshots", "state", "seq = 4")
    change(database, "DELETE FROM log WHERE document_id = 1 AND seq = 3")
    assert await is_corrupt(database)


async def test_a_log_that_ends_before_its_snapshot_is_a_corrupt_document(database: Path) -> None:
    await write(database, snapshot_seqs=(2, 6))
    change(database, "DELETE FROM log WHERE document_id = 1 AND seq = 6")
    assert await is_corrupt(database)


async def test_a_log_that_ends_before_its_epoch_began_is_a_corrupt_document(database: Path) -> None:
    async with opened(database) as storage:
        await put(storage, ALICE, entry(1))
        await put(storage, BOB, *entries(1, 2))
        await storage.begin_epoch(ALICE, b"epoch--2")
    change(database, "DELETE FROM log WHERE document_id = 1")
    assert await is_corrupt(database)


async def test_compaction_keeps_a_sound_snapshot_to_fall_back_to(database: Path) -> None:
    """A damaged one is not worth keeping the log after it alone."""
    await write(database, snapshot_seqs=(2, 4))
    flip(database, "snapshots", "state", "seq = 4")
    async with opened(database) as storage:
        epoch = (await storage.load(ALICE)).epoch
        await storage.save_snapshot(ALICE, snapshot(6, epoch))
    flip(database, "snapshots", "state", "seq = 6")
    async with opened(database) as storage:
        assert (await storage.load(ALICE)).snapshot == snapshot(2, epoch)


async def test_damage_in_what_overtook_an_append_is_no_foreign_entry(database: Path) -> None:
    await write(database)
    async with opened(database) as storage:
        epochs = {document: (await storage.load(document)).epoch for document in (ALICE, BOB)}
        flip(database, "log", "updates", "document_id = 1 AND seq = 6")
        with pytest.raises(StorageError):
            await storage.append([DocumentAppend(document, epoch, entries(3, 3)) for document, epoch in epochs.items()])
        assert (await storage.load(BOB)).entries == entries(1, 2)
        with pytest.raises(CorruptDocument):
            await storage.load(ALICE)


@pytest.mark.parametrize("column", ["last_seq", "user", "ranges", "first_ms", "checksum"])
async def test_damage_in_who_wrote_what_is_found_and_stops_no_compaction(database: Path, column: str) -> None:
    await write(database, snapshot_seqs=(2, 4))
    flip(database, "authors", column, "document_id = 1")
    async with opened(database) as storage:
        with pytest.raises(CorruptDocument):
            await storage.history(ALICE)
        stored = await storage.load(ALICE)
        assert stored.head_seq == 6
        await storage.save_snapshot(ALICE, snapshot(6, stored.epoch))
        assert [kept.seq for kept in (await storage.load(ALICE)).entries] == [5, 6]


async def test_a_damaged_entry_that_is_taken_out_leaves_word_that_it_was_there(database: Path) -> None:
    await write(database, snapshot_seqs=(2, 4))
    async with opened(database) as storage:
        epoch = (await storage.load(ALICE)).epoch
    flip(database, "log", "updates", "document_id = 1 AND seq = 3")
    async with opened(database) as storage:
        with pytest.raises(CorruptDocument):
            await storage.load(ALICE)
        await storage.save_snapshot(ALICE, snapshot(6, epoch))
        told = (await storage.history(ALICE)).authors
    assert [(row.first_seq, row.last_seq, row.device.name, row.is_whole) for row in told] == [
        (1, 2, "phone", False), (3, 3, "unknown", False), (4, 4, "phone", False),
    ]  # fmt: skip
