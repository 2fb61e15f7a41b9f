"""A store of its own for a workload, and what goes into its logs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ParamSpec, TypeVar

from benchmarks.workloads._edits import change_text
from benchmarks.workloads._measuring import expect
from benchmarks.workloads._stored import expect_sound
from client_sim.traces import Patch
from crdt.chain import OPS_START
from crdt.ids import DeviceId, DocumentId
from crdt.replica import Replica
from server.core.records import DocumentAppend, LogEntry, first_epoch
from server.storage import SqlStorage, open_storage

P = ParamSpec("P")
T = TypeVar("T")

OWNER = "user"
DEVICE = DeviceId(OWNER, "phone")
TIME_MS = 1_700_000_000_000
"""When everything is written: nothing here waits for a log to be old."""


@asynccontextmanager
async def fresh_file() -> AsyncIterator[Path]:
    """Where a database may be made, and is gone afterwards; a sound one. Raises WorkloadFailed."""
    with TemporaryDirectory(prefix="syncline-bench-") as folder:
        file = Path(folder) / "bench.db"
        yield file
        expect_sound(file)


@asynccontextmanager
async def opened(file: Path) -> AsyncIterator[SqlStorage]:
    """The store in a file, as a server opens it: a commit returns when it is synced."""
    async with open_storage(f"sqlite+aiosqlite:///{file}") as storage:
        yield storage


@asynccontextmanager
async def fresh_storage() -> AsyncIterator[SqlStorage]:
    async with fresh_file() as file, opened(file) as storage:
        yield storage


@cache
def typed_letters(count: int) -> tuple[bytes, ...]:
    """The updates of a text that is typed from left to right."""
    replica = Replica(client_id=1)
    made = (replica.edit(partial(change_text, patches=[Patch(at, 0, letter(at))])) for at in range(count))
    return tuple(update for update in made if update is not None)


def letter(at: int) -> str:
    """What is typed there."""
    return chr(ord("a") + at % 26)


@cache
def log_of(updates: tuple[bytes, ...], updates_per_entry: int = 1) -> tuple[LogEntry, ...]:
    """A log from its first entry on, as one device's pushes make it."""
    entries: list[LogEntry] = []
    ops = OPS_START
    for start in range(0, len(updates), updates_per_entry):
        run = updates[start : start + updates_per_entry]
        first_op = ops.op + 1
        for update in run:
            ops = ops.after(update)
        entries.append(LogEntry(len(entries) + 1, DEVICE, first_op, ops.op, ops.chain, run, TIME_MS))
    return tuple(entries)


def appending(storage: SqlStorage, document: DocumentId, entries: Sequence[LogEntry]) -> DocumentAppend:
    """To a document in its first epoch."""
    return DocumentAppend(document, first_epoch(storage.store_id, document), tuple(entries))


async def append(storage: SqlStorage, batch: Sequence[DocumentAppend]) -> None:
    """One commit. Raises WorkloadFailed where the log went on without it."""
    results = await storage.append(batch)
    expect(all(result.committed for result in results), "an append was not committed, and nobody else writes")


async def inline(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Heavy work done here and now, for `server.storage.compaction`: so that this process's CPU time has it."""
    return function(*args, **kwargs)
