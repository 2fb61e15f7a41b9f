"""Commits that fail, are given up, or are torn: nothing is acknowledged that is not in, and nothing is in by halves."""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias, cast

import pytest

from crdt.ids import DocumentId
from server.core.ports import StorageError
from server.core.records import AppendResult, DocumentAppend, LogEntry
from server.storage import SqlStorage, engines
from tests.contract.storage_support import create_database, entries, opened, put
from tests.crash.steps import (
    FULL,
    IO_ERROR,
    Call,
    Fault,
    GivenUp,
    at_step,
    file_bytes_max,
    refused,
    unreported,
)

_log = logging.getLogger(__name__)

SOAK = bool(os.environ.get("SYNCLINE_SOAK"))
PAGE_BYTES = 4096
PAGES_MAX = 1 << 30
"""More than there ever are."""
UPDATE = bytes(9_000)
"""Of each op: an append writes pages enough to be torn at many places."""

Results: TypeAlias = list[AppendResult] | None
"""What an append said; None if it failed: then nobody knows what is in."""
Harm: TypeAlias = Callable[[SqlStorage, list[DocumentAppend]], Awaitable[Results]]
"""Has a store append a batch, and something go wrong meanwhile."""


def sample(cases: Sequence[Any], every: int) -> Sequence[Any]:
    """All of them in a long run, otherwise one of `every`."""
    return cases if SOAK else cases[min(every // 2, len(cases) - 1) :: every]


@pytest.fixture(autouse=True)
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections do not wait for a lock."""
    monkeypatch.setattr(engines, "_PRAGMAS", (*engines._PRAGMAS, ("busy_timeout", 1)))


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """An empty store."""
    file = tmp_path / "store.db"
    create_database(file)
    return file


# --- the ways an append can go


@dataclass(frozen=True, slots=True)
class Way:
    """Which of its ways through `SqlStorage` an append takes."""

    name: str
    is_written: bool = True
    """The documents have a log already."""
    exclusive: bool = True
    reopens: bool = False
    """The store has just been opened: it knows no document, and has no connection."""
    is_overtaken: bool = False
    """Another process has appended to one of the documents meanwhile."""

    def __str__(self) -> str:
        return self.name


FRESH, KNOWN, REOPENED, SHARED, OVERTAKEN = "fresh documents", "known documents", "just opened", "shared", "overtaken"
WAYS = (
    Way(FRESH, is_written=False),
    Way(KNOWN),
    Way(REOPENED, reopens=True),
    Way(SHARED, exclusive=False),
    Way(OVERTAKEN, exclusive=False, is_overtaken=True),
)


def ways(*few: str) -> pytest.MarkDecorator:
    """Each test in all ways in a long run, otherwise in these."""
    return pytest.mark.parametrize("way", [way for way in WAYS if SOAK or way.name in few], ids=str)


class Bench:
    """A store that goes on from case to case; each has documents of its own, and all are looked at in the end."""

    def __init__(self, database: Path, way: Way) -> None:
        self.database = database
        self.way = way
        self.expected: dict[DocumentId, tuple[LogEntry, ...]] = {}
        self.cases = 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Bench]:
        async with opened(self.database, exclusive=self.way.exclusive) as self.storage:
            await put(self.storage, DocumentId("nobody", "first"), *entries(1, 1))  # it is connected now
            yield self
        await self._check_all()
        _log.info("%s: %d appends", self.way, self.cases)

    async def run(self, harm: Harm) -> None:
        """One append that comes to harm, the same again, and what is in then."""
        self.cases += 1
        if not self.way.reopens:
            await self._run(self.storage, harm)
            return
        async with opened(self.database, exclusive=self.way.exclusive) as storage:
            await self._run(storage, harm)

    async def _run(self, storage: SqlStorage, harm: Harm) -> None:
        batch = await self._prepare(storage)
        results = await harm(storage, batch)
        is_in = await self._check_whole(storage, batch, results)
        again = await storage.append(batch)
        for append, result, was_in in zip(batch, again, is_in, strict=True):
            was_overtaken = self.expected[append.document][-1:] == entries(3, 3, b"of another process")
            assert result.committed == (not was_in and not was_overtaken)
            if was_in:
                assert result.foreign == append.entries, "it is told what it is that was in its way"
            elif was_overtaken:
                await self._append_behind(storage, append)
                continue
            self.expected[append.document] += append.entries
        await self._check_all(storage, [append.document for append in batch])

    async def _prepare(self, storage: SqlStorage) -> list[DocumentAppend]:
        """Documents with a log of their own, and what is to be appended to it."""
        documents = [DocumentId(owner, f"case{self.cases}") for owner in ("alice", "bob")]
        written = entries(1, 2) if self.way.is_written else ()
        writer = self.storage if self.way.reopens else storage
        for document in documents:
            self.expected[document] = written
            if written:
                await put(writer, document, *written)
        epochs = [(await storage.load(document)).epoch for document in documents]
        first = len(written) + 1
        if self.way.is_overtaken:
            (overtaking,) = entries(3, 3, b"of another process")
            async with opened(self.database) as rival:
                await put(rival, documents[1], overtaking)
            self.expected[documents[1]] += (overtaking,)
        return [
            DocumentAppend(document, epoch, entries(first, first + 2, UPDATE))
            for document, epoch in zip(documents, epochs, strict=True)
        ]

    async def _check_whole(self, storage: SqlStorage, batch: list[DocumentAppend], results: Results) -> list[bool]:
        """Of each document what it had is there, and of the batch all or nothing: all where it said so."""
        is_in = []
        for append in batch:
            before, after = self.expected[append.document], (await storage.load(append.document)).entries
            assert after[: len(before)] == before
            assert after[len(before) :] in ((), append.entries)
            is_in.append(len(after) > len(before))
        if results is not None:
            assert [result.committed for result in results] == is_in
        return is_in

    async def _append_behind(self, storage: SqlStorage, append: DocumentAppend) -> None:
        """Append what was overtaken, numbered anew."""
        moved = tuple(entry._replace(seq=entry.seq + 1) for entry in append.entries)
        (result,) = await storage.append([append._replace(entries=moved)])
        assert result.committed
        self.expected[append.document] += moved

    async def _check_all(self, storage: SqlStorage | None = None, documents: Sequence[DocumentId] = ()) -> None:
        """Each op is in once. Without a store: of all documents, in the file as it is opened again."""
        if storage is not None:
            for document in documents:
                assert (await storage.load(document)).entries == self.expected[document]
            return
        async with opened(self.database) as reopened:
            await self._check_all(reopened, list(self.expected))
        with closing(sqlite3.connect(self.database)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


@asynccontextmanager
async def bench(database: Path, way: Way) -> AsyncIterator[Bench]:
    async with Bench(database, way).running() as running:
        yield running


async def outcome(append: Awaitable[Results]) -> Results:
    """Callers of storage know two ends: it says what is in, or StorageError."""
    try:
        return await append
    except StorageError:
        return None


# --- calls to SQLite that fail

FAULTS = (refused(FULL), unreported(FULL), refused(IO_ERROR), unreported(IO_ERROR))


async def calls_of(bench: Bench) -> int:
    """How many calls to SQLite an append makes if all goes well."""
    made = 0

    async def count(storage: SqlStorage, batch: list[DocumentAppend]) -> Results:
        nonlocal made
        with at_step(0, refused(FULL)) as steps:
            results = await storage.append(batch)
        made = steps.made
        return results

    await bench.run(count)
    return made


def failing_at(number: int, fault: Fault) -> Harm:
    async def harm(storage: SqlStorage, batch: list[DocumentAppend]) -> Results:
        with at_step(number, fault) as steps:
            results = await outcome(storage.append(batch))
        assert steps.hit
        return results

    return harm


@ways(*map(str, WAYS))
async def test_any_call_of_an_append_may_fail(database: Path, way: Way) -> None:
    async with bench(database, way) as running:
        steps = range(1, await calls_of(running) + 1)
        for step, fault in sample([(step, fault) for step in steps for fault in FAULTS], 16):
            await running.run(failing_at(step, fault))


def locked_at(number: int, database: Path) -> Harm:
    """Another connection takes the lock just then, if it is free, and keeps it until the append has ended."""

    async def harm(storage: SqlStorage, batch: list[DocumentAppend]) -> Results:
        with closing(sqlite3.connect(database, isolation_level=None, timeout=0)) as rival:

            async def lock(call: Call) -> Any:
                with suppress(sqlite3.OperationalError):
                    rival.execute("BEGIN IMMEDIATE")
                return await call()

            with at_step(number, lock):
                return await outcome(storage.append(batch))

    return harm


@ways(KNOWN, OVERTAKEN)
async def test_somebody_else_may_have_the_lock_at_any_call(database: Path, way: Way) -> None:
    async with bench(database, way) as running:
        steps = range(1, await calls_of(running) + 1)
        for step in sample(steps, 8):
            await running.run(locked_at(step, database))


# --- appends that are given up


async def waits_of(bench: Bench) -> int:
    """How often an append waits for something if all goes well."""
    waits = 0

    async def count(storage: SqlStorage, batch: list[DocumentAppend]) -> Results:
        nonlocal waits
        results = await (append := GivenUp(storage.append(batch), 0, late=False))
        waits = append.waits
        return cast("Results", results)

    await bench.run(count)
    return waits


def given_up_at(number: int, *, late: bool) -> Harm:
    async def harm(storage: SqlStorage, batch: list[DocumentAppend]) -> Results:
        task = asyncio.create_task(_await(GivenUp(storage.append(batch), number, late=late)))
        await asyncio.wait([task])
        assert task.cancelled()
        return None

    return harm


async def _await(work: Awaitable[Any]) -> Any:
    return await work


@ways(FRESH, OVERTAKEN)
async def test_an_append_may_be_given_up_at_any_await(database: Path, way: Way) -> None:
    async with bench(database, way) as running:
        waits = range(1, await waits_of(running) + 1)
        for number, late in sample([(number, late) for number in waits for late in (False, True)], 8):
            await running.run(given_up_at(number, late=late))


# --- writes that the system cuts short


def pages_left(pages: int) -> Harm:
    """SQLite may not let the database grow by more."""

    async def harm(storage: SqlStorage, batch: list[DocumentAppend]) -> Results:
        count = await _pragma(storage, "page_count")
        await _pragma(storage, f"max_page_count = {count + pages}")
        results = await outcome(storage.append(batch))
        await _pragma(storage, f"max_page_count = {PAGES_MAX}")
        return results

    return harm


async def _pragma(storage: SqlStorage, pragma: str) -> int:
    """Of the connection that writes."""
    async with storage._writer.turn() as writer:
        ((value,),) = await writer.driver.execute_fetchall(f"PRAGMA {pragma}")
    return int(value)


def bytes_left(size: int, database: Path) -> Harm:
    """The system writes no more to the end of the write-ahead log; what is over fails with an I/O error."""

    async def harm(storage: SqlStorage, batch: list[DocumentAppend]) -> Results:
        with file_bytes_max(wal_bytes(database) + size):
            return await outcome(storage.append(batch))

    return harm


def wal_bytes(database: Path) -> int:
    return Path(f"{database}-wal").stat().st_size


def disk_bytes_left(size: int, folder: Path) -> Harm:
    """The disk is full but for that."""

    async def harm(storage: SqlStorage, batch: list[DocumentAppend]) -> Results:
        filler = folder / "filler"
        free = os.statvfs(folder)
        with filler.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(1, free.f_bavail * free.f_frsize - size))
        try:
            return await outcome(storage.append(batch))
        finally:
            filler.unlink()

    return harm


APPEND_BYTES = 90_000
"""More than an append adds to the write-ahead log."""


@ways(FRESH)
async def test_the_database_may_find_no_room_for_a_page(database: Path, way: Way) -> None:
    async with bench(database, way) as running:
        for pages in sample(range(20), 10):
            await running.run(pages_left(pages))


@ways(KNOWN)
async def test_a_write_may_be_cut_anywhere(database: Path, way: Way) -> None:
    async with bench(database, way) as running:
        await running.run(pages_left(20))  # from here on the log is longer than what else is written
        for size in sample(range(0, APPEND_BYTES, 1777), 20):
            await running.run(bytes_left(size, database))


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of its own with an empty store on it, where the system lets us have one.

    It is not in pytest's own folders, which other runs clean up.
    """
    with TemporaryDirectory(prefix="syncline-disk-") as folder:
        mount = ("mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", folder)
        if subprocess.run(mount, capture_output=True, check=False).returncode:
            pytest.skip("only root may mount a disk")
        try:
            create_database(Path(folder) / "store.db")
            yield Path(folder)
        finally:
            subprocess.run(["umount", "--lazy", folder], check=True)  # cursors in tracebacks keep files open


@ways(KNOWN)
async def test_the_disk_may_be_full_anywhere(small_disk: Path, way: Way) -> None:
    async with bench(small_disk / "store.db", way) as running:
        for pages in sample(range(24), 12):
            await running.run(disk_bytes_left(pages * PAGE_BYTES, small_disk))
