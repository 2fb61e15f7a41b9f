from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import aiosqlite
import pytest

from server.core.ports import StorageError
from server.core.records import DocumentAppend
from server.storage import engines
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
