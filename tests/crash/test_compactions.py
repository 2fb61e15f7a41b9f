"""Compactions that end at any step: the document, its log and its snapshots stay one story, and the next one works."""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import signal
import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, ParamSpec, TypeAlias, TypeVar

import pytest

from client_sim.core.roots import Roots
from crdt.chain import OPS_START, OpState
from crdt.ids import DeviceId
from crdt.replica import Replica
from crdt.values import Values
from server.core.ports import StorageError
from server.core.records import LogEntry
from server.runtime.operations import document_problem
from server.runtime.worker import Worker, WorkerDied
from server.storage import SqlStorage
from server.storage.compaction import compact
from tests.contract.storage_support import ALICE, TIME_MS, create_database, opened, put
from tests.crash.steps import (
    FULL,
    IO_ERROR,
    Call,
    Fault,
    GivenUp,
    at_step,
    every_step,
    file_bytes_max,
    refused,
    unreported,
)  # fmt: skip
from tests.integration.server_process import PROCESSES

P = ParamSpec("P")
T = TypeVar("T")

_log = logging.getLogger(__name__)

SOAK = bool(os.environ.get("SYNCLINE_SOAK"))
NAMES = ("laptop", "phone")
GENERATIONS = 3
"""Compactions that are crashed of each document: the first trims nothing, the others the log and the authors."""
EDITS = 12
"""Entries between two of them."""


async def here(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Heavy work, at once: what a worker does has no steps in the store."""
    return function(*args, **kwargs)


# --- a document with a past


class Story:
    """Two devices' log of one document, entry by entry, as a server would have it."""

    def __init__(self, seed: int) -> None:
        self._rng = Random(seed)
        self._replicas = [Replica(client_id=seed * 10 + n) for n in range(1, len(NAMES) + 1)]
        self._ops = dict.fromkeys(NAMES, OPS_START)
        self.seq = 0

    def go_on(self, edits: int) -> tuple[LogEntry, ...]:
        """The next entries, of one to three ops each."""
        return tuple(self._entry() for _ in range(edits))

    def _entry(self) -> LogEntry:
        author = self._rng.randrange(len(NAMES))
        name = NAMES[author]
        first, state = self._ops[name].op + 1, self._ops[name]
        updates = []
        for _ in range(self._rng.randint(1, 3)):
            update = self._replicas[author].edit(self._change)
            assert update is not None
            updates.append(update)
            state = state.after(update)
        self._ops[name] = state
        self.seq += 1
        for replica in self._replicas:
            replica.apply(updates)
        time_ms = TIME_MS + self.seq * 600_000
        return LogEntry(self.seq, DeviceId("alice", name), first, state.op, state.chain, tuple(updates), time_ms)

    def _change(self, doc: Any) -> None:
        roots = Roots(doc)
        body = roots.text("body")
        start = self._rng.randint(0, len(body))
        body.delete(start, min(start + self._rng.choice((0, 0, 5)), len(body)))
        body.insert(start, self._rng.choice(("word ", "é", "\N{GRINNING FACE}", "a longer piece " * 40)))
        roots.map("made")[str(self._rng.randrange(50))] = self._rng.random()

    @property
    def values(self) -> Values:
        return self._replicas[0].values()

    @property
    def ops(self) -> dict[DeviceId, OpState]:
        return {DeviceId("alice", name): state for name, state in self._ops.items() if state.op}


Harm: TypeAlias = Callable[[SqlStorage], Awaitable[None]]
"""A compaction that does not succeed, or does not say so."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What a document has to be."""

    seq: int
    values: Values
    ops: dict[DeviceId, OpState]

    @classmethod
    def of(cls, story: Story) -> Standing:
        return cls(story.seq, story.values, story.ops)


@dataclass(frozen=True, slots=True)
class Scene:
    """A store, the entries that go in before the compaction that comes to harm, and those that do after."""

    store: bytes
    entries: tuple[LogEntry, ...]
    expected: Standing
    more: tuple[LogEntry, ...]
    expected_then: Standing


async def make_scene(folder: Path, seed: int) -> Scene:
    """A document that was compacted as often as the seed says, modulo `GENERATIONS`."""
    story, database = Story(seed), folder / f"scene{seed}.db"
    create_database(database)
    async with opened(database) as storage:
        for _ in range(seed % GENERATIONS):
            await put(storage, ALICE, *story.go_on(EDITS))
            assert await compact(storage, ALICE, here, TIME_MS)
    entries, expected = story.go_on(EDITS), Standing.of(story)
    return Scene(database.read_bytes(), entries, expected, story.go_on(2), Standing.of(story))


@pytest.fixture(autouse=True)
def schema(tmp_path: Path) -> None:
    """An empty store is made outside of any event loop, and kept for all tests."""
    create_database(tmp_path / "empty.db")


async def begin(storage: SqlStorage, scene: Scene) -> None:
    """Put in what is to be compacted, one by one: the write-ahead log is then longer than what else is written."""
    for entry in scene.entries:
        await put(storage, ALICE, entry)


async def check(storage: SqlStorage, scene: Scene) -> None:
    """The document is what it was; it goes on, and its next compaction has all of it."""
    await check_document(storage, scene.expected)
    await put(storage, ALICE, *scene.more)
    snapshot = await compact(storage, ALICE, here, TIME_MS)
    assert snapshot is not None
    assert snapshot.seq == scene.expected_then.seq
    await check_document(storage, scene.expected_then)


async def check_document(storage: SqlStorage, expected: Standing) -> None:
    stored = await storage.load(ALICE)
    assert (stored.head_seq, stored.ops()) == (expected.seq, expected.ops)
    assert Replica.load(stored.state_updates()).values() == expected.values
    assert document_problem(stored) is None
    history = await storage.history(ALICE)
    told = [(row.device, row.first_op, row.last_op) for row in history.authors]
    told = sorted(told + [(entry.device, entry.first_op, entry.last_op) for entry in history.entries])
    for device, state in expected.ops.items():
        ops = [op for found, first, last in told if found == device for op in range(first, last + 1)]
        assert ops == list(range(1, state.op + 1)), "who wrote what is told of each op once"


async def check_file(file: Path, scene: Scene) -> None:
    """What a process left behind that is no more."""
    async with opened(file) as storage:
        await check(storage, scene)
    check_integrity(file)


def check_integrity(file: Path) -> None:
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


# --- the process is gone, between two calls


class Photographer:
    """Copies the files of a store before and after each call to SQLite, as a process that ends there leaves them."""

    def __init__(self, database: Path, album: Path) -> None:
        self.moments = 0
        self.images: list[Path] = []
        """Of the moments at which the files were others than before."""
        self._database = database
        self._album = album
        self._last: list[bytes] = []

    async def watch(self, call: Call) -> Any:
        self._shoot()
        try:
            return await call()
        finally:
            self._shoot()

    def _shoot(self) -> None:
        self.moments += 1
        files = [file for file in (self._database, Path(f"{self._database}-wal")) if file.exists()]
        contents = [file.read_bytes() for file in files]
        if contents == self._last:
            return
        self._last = contents
        folder = self._album / str(self.moments)
        folder.mkdir()
        for file, content in zip(files, contents, strict=True):
            (folder / file.name).write_bytes(content)
        self.images.append(folder / self._database.name)


@pytest.mark.parametrize("seed", range(9) if SOAK else (2,))
async def test_a_process_may_be_gone_between_any_two_calls(tmp_path: Path, seed: int) -> None:
    scene = await make_scene(tmp_path, seed)
    database, album = tmp_path / "store.db", tmp_path / "album"
    database.write_bytes(scene.store)
    album.mkdir()
    photographer = Photographer(database, album)
    async with opened(database) as storage:
        await begin(storage, scene)
        with every_step(photographer.watch):
            assert await compact(storage, ALICE, here, TIME_MS)
    assert len(photographer.images) > 2
    for image in photographer.images:
        await check_file(image, scene)
    _log.info("%d moments, %d states of the files", photographer.moments, len(photographer.images))


# --- the process is killed, at a call, within a write, or at any time


@contextmanager
def death(kind: str, number: int, database: Path) -> Iterator[None]:
    """This process ends: before or after a call to SQLite, at a byte of the write-ahead log, or at a time."""
    match kind:
        case "before call" | "after call":
            with at_step(number, dying(done=kind == "after call")):
                yield
        case "bytes":
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
            with file_bytes_max(Path(f"{database}-wal").stat().st_size + number):
                yield
        case "microseconds":
            signal.setitimer(signal.ITIMER_REAL, number / 1e6)
            yield
        case _:
            raise AssertionError(kind)


def dying(*, done: bool) -> Fault:
    async def fault(call: Call) -> None:
        if done:
            await call()
        os.kill(os.getpid(), signal.SIGKILL)

    return fault


def compact_and_die(database: Path, scene: Scene, kind: str, number: int) -> None:
    """In a process of its own."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    asyncio.run(_compact_and_die(database, scene, kind, number))


async def _compact_and_die(database: Path, scene: Scene, kind: str, number: int) -> None:
    async with opened(database) as storage:
        await begin(storage, scene)
        with death(kind, number, database):
            await compact(storage, ALICE, here, TIME_MS)
        os._exit(SURVIVED)


SURVIVED = 7


async def exit_code(database: Path, scene: Scene, kind: str, number: int) -> int | None:
    process = PROCESSES.Process(target=compact_and_die, args=(database, scene, kind, number))
    await asyncio.to_thread(process.start)
    await asyncio.to_thread(process.join)
    code = process.exitcode
    process.close()
    return code


async def calls_of(folder: Path, scene: Scene) -> int:
    """How many calls to SQLite a compaction makes if all goes well."""
    database = folder / "counted.db"
    database.write_bytes(scene.store)
    async with opened(database) as storage:
        await begin(storage, scene)
        with at_step(0, refused(FULL)) as steps:
            await compact(storage, ALICE, here, TIME_MS)
    return steps.made


KILLS = (
    {"before call": 60, "after call": 60, "bytes": 60, "microseconds": 60} if SOAK else {"after call": 1, "bytes": 2}
)
SPAN = {"bytes": 40_000, "microseconds": 30_000}
"""About what a compaction writes, and how long it takes."""


@pytest.mark.parametrize("kind", KILLS)
async def test_a_process_may_be_killed_at_any_time(tmp_path: Path, kind: str) -> None:
    rng = Random(kind)
    scenes = [await make_scene(tmp_path, seed) for seed in range(2, 5)]
    span = SPAN.get(kind) or await calls_of(tmp_path, scenes[0])
    killed = survived = 0
    while killed < KILLS[kind]:
        scene, database = scenes[(killed + survived) % len(scenes)], tmp_path / f"{killed + survived}.db"
        database.write_bytes(scene.store)
        code = await exit_code(database, scene, kind, rng.randint(1, span))
        assert code == SURVIVED or (code is not None and code < 0)
        killed, survived = killed + (code != SURVIVED), survived + (code == SURVIVED)
        await check_file(database, scene)
    _log.info("%s: %d killed, %d survived", kind, killed, survived)


# --- the process goes on


def failing_at(number: int, fault: Fault) -> Harm:
    async def harm(storage: SqlStorage) -> None:
        with at_step(number, fault) as steps, suppress(StorageError):
            await compact(storage, ALICE, here, TIME_MS)
        assert steps.hit

    return harm


def given_up_at(number: int, *, late: bool) -> Harm:
    async def harm(storage: SqlStorage) -> None:
        work = compact(storage, ALICE, here, TIME_MS)
        task = asyncio.create_task(_await(GivenUp(work, number, late=late)))
        await asyncio.wait([task])
        assert task.cancelled()

    return harm


async def _await(work: Awaitable[Any]) -> Any:
    return await work


async def with_a_worker_that_is_killed(storage: SqlStorage) -> None:
    with Worker() as worker:

        async def run(_function: Callable[P, T], /, *_args: P.args, **_kwargs: P.kwargs) -> T:
            await worker.run(os.kill, 0, 0)  # so that the next one is not the first
            return await worker.run(_end)

        with pytest.raises(WorkerDied):
            await compact(storage, ALICE, run, TIME_MS)


def _end() -> Any:
    os.kill(os.getpid(), signal.SIGKILL)


async def waits_of(storage: SqlStorage) -> int:
    """How often a compaction waits for something if all goes well."""
    work = GivenUp(compact(storage, ALICE, here, TIME_MS), 0, late=False)
    assert await work
    return work.waits


async def harms(folder: Path, scene: Scene) -> list[Harm]:
    """A compaction that fails at each call, in either way, and is given up at each await; and one without a worker."""
    database = folder / "awaited.db"
    database.write_bytes(scene.store)
    async with opened(database) as storage:
        await begin(storage, scene)
        waits = range(1, await waits_of(storage) + 1)
    calls = range(1, await calls_of(folder, scene) + 1)
    return [
        *(failing_at(number, fault) for number in calls for fault in (refused(FULL), unreported(IO_ERROR))),
        with_a_worker_that_is_killed,
        *(given_up_at(number, late=late) for number in waits for late in (False, True)),
    ]


@pytest.mark.parametrize("seed", range(GENERATIONS) if SOAK else (2,))
async def test_a_compaction_may_fail_or_be_given_up_anywhere(tmp_path: Path, seed: int) -> None:
    scene = await make_scene(tmp_path, seed)
    tried = await harms(tmp_path, scene)
    tried = tried if SOAK else tried[::60]
    for n, harm in enumerate(tried):
        database = tmp_path / f"{n}.db"
        database.write_bytes(scene.store)
        async with opened(database) as storage:
            await begin(storage, scene)
            await harm(storage)
            await check(storage, scene)
        check_integrity(database)
    _log.info("%d compactions failed or were given up", len(tried))
