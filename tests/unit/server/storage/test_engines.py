from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aiosqlite
import pytest

from server.core.ports import StorageError
from server.core.records import DocumentAppend
from server.storage import engines, sql, statements
from tests.contract.storage_support import ALICE, create_database, entries, opened, put


@pytest.fixture
def database(tmp_path: Path) -> Path:
    file = tmp_path / "store.db"
    create_database(file)
    return file


async def test_an_error_that_somebody_keeps_keeps_no_lock(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its traceback has a cursor of the connection that failed, and SQLite closes none that has cursors."""
    monkeypatch.setattr(engines, "_PRAGMAS", (*engines._PRAGMAS, ("busy_timeout", 1)))

    async def fail(_connection: aiosqlite.Connection) -> None:
        raise aiosqlite.OperationalError("disk I/O error")

    async with opened(database) as storage:
        batch = [DocumentAppend(ALICE, (await storage.load(ALICE)).epoch, entries(1, 3))]
        with monkeypatch.context() as patched:
            patched.setattr(aiosqlite.Connection, "commit", fail)
            with pytest.raises(StorageError) as kept:
                await storage.append(batch)
        assert [result.committed for result in await storage.append(batch)] == [True]
    assert "disk I/O error" in str(kept.value)


async def test_a_transaction_that_was_given_up_keeps_no_lock(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLAlchemy closes a connection whose query was cancelled, and its cursor has rows to give: the lock stayed."""
    monkeypatch.setattr(engines, "_PRAGMAS", (*engines._PRAGMAS, ("busy_timeout", 1)))
    reached, execute = asyncio.Event(), aiosqlite.Cursor.execute

    async def stop_after(self: aiosqlite.Cursor, sql: str, parameters: Any = ()) -> aiosqlite.Cursor:
        await execute(self, sql, parameters)
        if sql.startswith("SELECT documents"):
            reached.set()
            await asyncio.Event().wait()
        return self

    async with opened(database) as storage:
        with monkeypatch.context() as patched:
            patched.setattr(aiosqlite.Cursor, "execute", stop_after)
            given_up = asyncio.create_task(storage.begin_epoch(ALICE, b"epoch--2"))
            await reached.wait()
            given_up.cancel()
            await asyncio.wait([given_up])
        assert given_up.cancelled()
        await put(storage, ALICE, *entries(1, 3))


async def test_who_alone_writes_appends_at_once_what_follows(database: Path) -> None:
    async with opened(database, exclusive=True) as storage:
        epoch = (await storage.load(ALICE)).epoch
        first, second = ([DocumentAppend(ALICE, epoch, entries(seq, seq))] for seq in (1, 2))
        assert storage.append_at_once(first) is None, "where the document is has to be looked up"
        await storage.append(first)
        assert storage.append_at_once(first) is None, "it is not what follows"
        assert storage.append_at_once(second) is not None


async def test_nothing_is_appended_at_once_while_somebody_has_the_connection(database: Path) -> None:
    async with opened(database, exclusive=True) as storage:
        await put(storage, ALICE, *entries(1, 1))
        batch = [DocumentAppend(ALICE, (await storage.load(ALICE)).epoch, entries(2, 2))]
        async with storage._writer.turn():
            assert storage.append_at_once(batch) is None
        assert storage.append_at_once(batch) is not None


@pytest.mark.parametrize("is_in", [False, True])
async def test_an_append_at_once_that_fails_keeps_no_lock_and_takes_nothing_for_granted(
    database: Path, monkeypatch: pytest.MonkeyPatch, is_in: bool
) -> None:
    monkeypatch.setattr(engines, "_PRAGMAS", (*engines._PRAGMAS, ("busy_timeout", 1)))

    def fail(connection: sqlite3.Connection, rows: Sequence[tuple[Any, ...]]) -> None:
        connection.executemany(statements.ADD_KNOWN_ENTRY_SQLITE, rows)
        if is_in:
            connection.commit()
        raise sqlite3.OperationalError("disk I/O error")

    async with opened(database, exclusive=True) as storage:
        await put(storage, ALICE, *entries(1, 1))
        batch = [DocumentAppend(ALICE, (await storage.load(ALICE)).epoch, entries(2, 2))]
        with monkeypatch.context() as patched:
            patched.setattr(sql, "_insert_and_commit", fail)
            with pytest.raises(StorageError, match="disk I/O error"):
                storage.append_at_once(batch)
        assert storage.append_at_once(batch) is None, "what is in has to be looked up"
        assert [result.committed for result in await storage.append(batch)] == [not is_in]
        assert (await storage.load(ALICE)).entries == entries(1, 2)
