"""What SqlStorage does when commits fail, are given up, or the process dies; and that files shrink."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from server.core.ports import CorruptDocument, StorageError
from server.core.records import DocumentAppend
from server.storage import SqlStorage, engines, open_storage
from tests.contract.storage_support import ALICE, BOB, create_database, entries, entry, opened, put, snapshot, url_of


@pytest.fixture
def database(tmp_path: Path) -> Path:
    file = tmp_path / "store.db"
    create_database(file)
    return file


@asynccontextmanager
async def watched(
    database: Path, also: Callable[[Any], None] | None = None
) -> AsyncIterator[tuple[SqlStorage, list[Any]]]:
    """A store, and the drivers of its connections as they are made; `also(connection)` prepares each further."""
    engine = engines.create_engine(url_of(database))
    drivers: list[Any] = []

    def note(connection: Any, _record: object) -> None:
        drivers.append(connection.driver_connection)
        if also is not None:
            also(connection)

    event.listen(engine.sync_engine, "connect", note)
    storage = await SqlStorage.open(engine)
    yield storage, drivers
    await storage.close()
    await engine.dispose()


async def pragma(driver: Any, name: str) -> object:
    ((value,),) = await driver.execute_fetchall(f"PRAGMA {name}")
    return value


# --- settings


async def test_every_connection_syncs_each_commit(database: Path) -> None:
    async with watched(database) as (storage, drivers):
        await put(storage, ALICE, entry(1))
        await asyncio.gather(storage.load(ALICE), storage.history(ALICE), storage.documents())
        assert len(drivers) > 2
        for driver in drivers:
            assert await pragma(driver, "journal_mode") == "wal"
            assert await pragma(driver, "synchronous") == 2
            assert await pragma(driver, "foreign_keys") == 1
            assert await pragma(driver, "busy_timeout") == engines.BUSY_TIMEOUT_MS
            assert await pragma(driver, "auto_vacuum") == 2


async def test_a_connection_that_would_not_sync_is_refused(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unsafe = tuple((name, "NORMAL" if name == "synchronous" else value) for name, value in engines._PRAGMAS)
    monkeypatch.setattr(engines, "_PRAGMAS", unsafe)
    with pytest.raises(StorageError, match="synchronous"):
        async with opened(database):
            pytest.fail("opened")


class FakePostgres:
    def __init__(self, answer: str) -> None:
        self.answer = answer

    def cursor(self) -> FakePostgres:
        return self

    def execute(self, statement: str) -> None:
        assert statement == "SHOW synchronous_commit"

    def fetchone(self) -> tuple[str]:
        return (self.answer,)

    def close(self) -> None:
        pass


def test_a_postgresql_that_would_not_sync_is_refused() -> None:
    engines._prepare_postgresql(FakePostgres("on"))
    with pytest.raises(StorageError, match="synchronous_commit"):
        engines._prepare_postgresql(FakePostgres("off"))


# --- failures


async def test_a_full_disk_fails_the_append_and_the_store_goes_on(database: Path) -> None:
    room_pages = {"max_page_count": 2000}

    def limit(connection: Any) -> None:
        connection.execute(f"PRAGMA max_page_count = {room_pages['max_page_count']}").close()

    await fill(database)
    room_pages["max_page_count"] = pages_of(database)
    async with watched(database, limit) as (storage, _):
        before = await storage.load(ALICE)
        big = DocumentAppend(ALICE, before.epoch, (entry(before.head_seq + 1, bytes(100_000)),))
        small = DocumentAppend(BOB, (await storage.load(BOB)).epoch, entries(1, 1))
        for _ in range(2):
            with pytest.raises(StorageError, match="full") as caught:
                await storage.append([small, big])
            assert isinstance(caught.value.__cause__, sqlite3.Error)
            assert await storage.load(ALICE) == before
            assert (await storage.load(BOB)).entries == ()
        room_pages["max_page_count"] = 4000
        assert [result.committed for result in await storage.append([small, big])] == [True, True]
        assert (await storage.load(ALICE)).head_seq == before.head_seq + 1


def pages_of(database: Path) -> int:
    return database.stat().st_size // 4096


async def fill(database: Path) -> None:
    async with opened(database) as storage:
        await put(storage, ALICE, *entries(1, 3, bytes(2000)))


async def test_a_full_disk_fails_a_snapshot_and_drops_no_log(database: Path) -> None:
    await fill(database)
    pages = pages_of(database)

    def limit(connection: Any) -> None:
        connection.execute(f"PRAGMA max_page_count = {pages}").close()

    async with watched(database, limit) as (storage, _):
        before = await storage.load(ALICE)
        with pytest.raises(StorageError, match="full"):
            await storage.save_snapshot(ALICE, snapshot(3, before.epoch, bytes(100_000)))
        assert await storage.load(ALICE) == before


async def test_a_broken_connection_is_replaced(database: Path) -> None:
    async with watched(database) as (storage, drivers):
        await put(storage, ALICE, entry(1))
        for driver in list(drivers):
            await driver.close()
        stored_epoch = None
        for _ in range(engines.READERS_MAX + 1):
            try:
                stored_epoch = (await storage.load(ALICE)).epoch
            except StorageError:
                continue
            break
        assert stored_epoch is not None
        second = DocumentAppend(ALICE, stored_epoch, entries(2, 2))
        with pytest.raises(StorageError):
            await storage.append([second])
        assert [result.committed for result in await storage.append([second])] == [True]


async def test_a_locked_database_is_a_storage_error(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "_PRAGMAS", (*engines._PRAGMAS, ("busy_timeout", 1)))
    async with opened(database) as storage:
        await put(storage, ALICE, entry(1))
        epoch = (await storage.load(ALICE)).epoch
        second = [DocumentAppend(ALICE, epoch, entries(2, 2))]
        with closing(sqlite3.connect(database, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            for attempt in (
                storage.append(second),
                storage.save_snapshot(ALICE, snapshot(1, epoch)),
                storage.begin_epoch(ALICE, b"epoch--2"),
            ):
                with pytest.raises(StorageError, match="locked"):
                    await attempt
            assert (await storage.load(ALICE)).head_seq == 1
        assert [result.committed for result in await storage.append(second)] == [True]


@pytest.mark.parametrize("is_in", [True, False], ids=["after the commit", "before the commit"])
async def test_a_cancelled_append_is_in_or_not_and_stays_so(database: Path, is_in: bool) -> None:
    reached = asyncio.Event()
    async with watched(database) as (storage, drivers):
        await put(storage, ALICE, entry(1))
        epoch = (await storage.load(ALICE)).epoch
        for driver in drivers:
            driver.commit = stopping(driver.commit, reached, is_in)
        task = asyncio.create_task(storage.append([DocumentAppend(ALICE, epoch, entries(2, 2))]))
        await reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        for driver in drivers:
            del driver.commit
        head_seq = (await storage.load(ALICE)).head_seq
        assert head_seq == (2 if is_in else 1)
        await put(storage, ALICE, entry(head_seq + 1))
        assert (await storage.load(ALICE)).head_seq == head_seq + 1


def stopping(
    commit: Callable[[], Awaitable[None]], reached: asyncio.Event, is_in: bool
) -> Callable[[], Awaitable[None]]:
    """A commit that never returns, and does its work or not."""

    async def stop() -> None:
        if is_in:
            await commit()
        reached.set()
        await asyncio.get_running_loop().create_future()

    return stop


async def test_a_commit_that_was_given_up_is_settled_before_the_next_load(database: Path) -> None:
    """It is under way in its thread as its task is cancelled: it must not come in after a load."""
    reached, release = asyncio.Event(), threading.Event()
    async with watched(database) as (storage, drivers):
        await put(storage, ALICE, entry(1))
        epoch = (await storage.load(ALICE)).epoch
        for driver in drivers:
            driver.commit = held_back(driver, reached, release)
        task = asyncio.create_task(storage.append([DocumentAppend(ALICE, epoch, entries(2, 2))]))
        await reached.wait()
        task.cancel()
        load = asyncio.create_task(storage.load(ALICE))
        for _ in range(5):
            await storage.documents()  # longer than a load takes that does not wait
        release.set()
        assert (await load).head_seq == 2
        with pytest.raises(asyncio.CancelledError):
            await task


def held_back(driver: Any, reached: asyncio.Event, release: threading.Event) -> Callable[[], Awaitable[None]]:
    """A commit that waits in the driver's thread for `release`."""
    loop = asyncio.get_running_loop()

    def commit() -> None:
        loop.call_soon_threadsafe(reached.set)
        assert release.wait(10)
        driver._conn.commit()

    return lambda: driver._execute(commit)


# --- transactions


def after_statement(engine_of: SqlStorage, part: str, act: Callable[[], None]) -> None:
    """Act once, right after a statement that has `part` in it."""
    pending = [act]

    def note(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        if part in statement and pending:
            pending.pop()()

    event.listen(engine_of._engine.sync_engine, "after_cursor_execute", note)


async def before_statement(driver: Any, part: str, act: Callable[[], None]) -> None:
    """Act once, right before SQLite begins with a statement that has `part` in it."""
    pending = [act]

    def note(statement: str) -> None:
        if part in statement and pending:
            pending.pop()()

    await driver.set_trace_callback(note)


async def test_a_load_sees_one_moment_of_a_document(database: Path) -> None:
    """A compaction between its statements would show a log without the snapshot that it is in."""

    def trim() -> None:
        with closing(sqlite3.connect(database)) as other:
            other.execute("DELETE FROM log WHERE seq < 3")
            other.commit()

    async with watched(database) as (storage, drivers):
        await put(storage, ALICE, *entries(1, 3))
        await storage.load(ALICE)
        for driver in drivers:
            await before_statement(driver, "FROM log", trim)
        assert (await storage.load(ALICE)).entries == entries(1, 3)
        with pytest.raises(CorruptDocument):
            await storage.load(ALICE)


async def test_no_epoch_begins_between_the_check_and_the_write(database: Path) -> None:
    locked_out = []

    def begin_epoch() -> None:
        with closing(sqlite3.connect(database, timeout=0)) as other:
            try:
                other.execute("UPDATE documents SET epoch = x'00'")
            except sqlite3.OperationalError as exc:
                locked_out.append(str(exc))

    async with opened(database) as storage:
        await put(storage, ALICE, *entries(1, 2))
        await put(storage, BOB, entry(1))
        epochs = {document: (await storage.load(document)).epoch for document in (ALICE, BOB)}
        after_statement(storage, "head_seq", begin_epoch)
        batch = [DocumentAppend(ALICE, epochs[ALICE], entries(2, 2)), DocumentAppend(BOB, epochs[BOB], entries(2, 2))]
        assert [result.committed for result in await storage.append(batch)] == [False, True]
    assert locked_out == ["database is locked"]


# --- death

WRITE = """
import asyncio, sys
from server.storage import open_storage
from tests.contract.storage_support import ALICE, entry, put

async def main():
    async with open_storage(sys.argv[1]) as storage:
        for seq in range(1, 100_000):
            await put(storage, ALICE, entry(seq))
            print(seq, flush=True)

asyncio.run(main())
"""


async def test_what_was_confirmed_survives_the_process(tmp_path: Path) -> None:
    url = url_of(tmp_path / "store.db")
    confirmed = await asyncio.to_thread(write_until_killed, url, 30)
    async with open_storage(url) as storage:
        stored = await storage.load(ALICE)
    assert stored.entries == entries(1, stored.head_seq)
    assert confirmed <= stored.head_seq <= confirmed + 1


def write_until_killed(url: str, at_least: int) -> int:
    """The last seq that the process said was durable."""
    writer = subprocess.Popen([sys.executable, "-c", WRITE, url], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    with writer:
        for line in writer.stdout:
            if int(line) == at_least:
                break
        os.kill(writer.pid, signal.SIGKILL)
        rest = writer.stdout.read().split()
    return int(rest[-1]) if rest else at_least


# --- size


async def test_compaction_shrinks_the_file(database: Path) -> None:
    async with opened(database) as storage:
        epoch = (await storage.load(ALICE)).epoch
        for seq in range(1, 101):
            await put(storage, ALICE, entry(seq, bytes(40_000)))
        await storage.save_snapshot(ALICE, snapshot(99, epoch))
        grown_bytes = size_bytes(database)
        await storage.save_snapshot(ALICE, snapshot(100, epoch))
        assert grown_bytes > 100 * 40_000
        assert size_bytes(database) < grown_bytes / 10
        assert (await storage.load(ALICE)).head_seq == 100
    assert sum(size_bytes(file) for file in beside(database)) < grown_bytes / 10


def size_bytes(file: Path) -> int:
    return file.stat().st_size


def beside(database: Path) -> list[Path]:
    return sorted(database.parent.glob("store.db*"))
