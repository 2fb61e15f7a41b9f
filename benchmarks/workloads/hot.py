"""Hot documents: more of them are open and edited than fit the memory budget for documents.

The store has them as compaction leaves them, with a snapshot. A device of each user opens all of the user's documents
and stays. Then documents that the budget has long displaced are edited, and others are opened by devices that have
nothing: those are cold opens. Every answer is read and compared.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cache
from itertools import groupby
from pathlib import Path
from time import perf_counter as clock
from time import process_time

from benchmarks.figures import Better, Figure, Run, Scale, Workload, WorkloadFailed
from benchmarks.histories import ROOT, generated, insertion, text_of
from benchmarks.metrics import Peaks, watched
from benchmarks.pacing import each, run
from benchmarks.percentiles import percentile
from benchmarks.server_process import ServerProcess, server_process
from benchmarks.visitor import NOTHING, Place, Visit, Visitor, visit
from crdt.chain import OPS_START
from crdt.ids import DeviceId, DocumentId
from crdt.protocol.frames import Cursor, Leave
from crdt.replica import RESIDENT_FACTOR, Replica
from server.core.options import CoreOptions
from server.core.records import DocumentAppend, LogEntry, StoredDocument, first_epoch
from server.storage import SqlStorage, open_storage
from server.storage.compaction import build_snapshot

DOCUMENTS, PER_USER = 10_000, 100
EDITS = 4_600
"""What makes a document of 30 KB."""
MEMBER, NEWCOMER, AUTHOR = "phone", "tablet", "laptop"
TOUCHED_PER_S = 60
EDITED_OF = 4
"""One document of so many is edited, the others are opened."""
FOR_SO_MANY_SCALES = 6
"""Times `Scale.seconds`: a thousand opens, for a 99th percentile."""
BUDGET_BYTES = CoreOptions().resident_bytes_max
QUICK_BUDGET_BYTES = 512 << 10
SLACK_BYTES = 8 << 20
"""What is busy stays, over the budget if need be: a few documents."""
LOOK_S = 0.5
TARGET = "target: the budget holds, p99 of a cold open at most 50 ms"


def workloads(scale: Scale) -> dict[str, Workload]:
    return {"cold-opens": lambda: [_measured(scale)]}


@dataclass(frozen=True)
class Content:
    """What every document has: its text, the state that makes it, and the edit with which a member goes on."""

    text: str
    state: bytes
    edit: bytes

    @property
    def resident_bytes(self) -> int:
        """About what the server counts for it."""
        return RESIDENT_FACTOR * len(self.state)


@cache
def content_of(edits: int) -> Content:
    history = generated(edits, 0.1)
    state = Replica.load(history.updates).state()
    edit = Replica.load([state], client_id=1).edit(insertion(0, "hot "))
    assert edit is not None
    return Content(history.text, state, edit)


def _names(documents: int) -> list[DocumentId]:
    per_user = min(PER_USER, max(1, documents // 4))
    return [DocumentId(f"user-{number // per_user}", f"notes-{number % per_user}") for number in range(documents)]


# --- the store


@dataclass(frozen=True, slots=True)
class Seeded:
    """A folder with the database, and where it is with each document."""

    folder: Path
    epochs: dict[DocumentId, bytes]


_kept = ExitStack()


@cache
def _seeded(documents: int, content: Content) -> Seeded:
    """Made once in a process; runs work on copies."""
    folder = Path(_kept.enter_context(tempfile.TemporaryDirectory(prefix="syncline-hot-")))
    epochs = asyncio.run(_fill(f"sqlite+aiosqlite:///{folder / 'hot.db'}", _names(documents), content))
    return Seeded(folder, epochs)


async def _fill(url: str, names: Sequence[DocumentId], content: Content) -> dict[DocumentId, bytes]:
    async with open_storage(url) as storage:
        epochs = {name: first_epoch(storage.store_id, name) for name in names}
        for user, documents in groupby(names, key=lambda name: name.owner):
            await _put(storage, user, {name: epochs[name] for name in documents}, content)
    return epochs


async def _put(storage: SqlStorage, user: str, epochs: dict[DocumentId, bytes], content: Content) -> None:
    """A user's documents, each with its log in a snapshot. They differ in their epoch alone."""
    chain = OPS_START.after(content.state).chain
    entry = LogEntry(1, DeviceId(user, AUTHOR), 1, 1, chain, (content.state,), time_ms=0)
    await storage.append([DocumentAppend(name, epoch, (entry,)) for name, epoch in epochs.items()])
    snapshot = build_snapshot(StoredDocument(b"", 0, None, (entry,)), time_ms=0)
    for name, epoch in epochs.items():
        await storage.save_snapshot(name, replace(snapshot, epoch=epoch))


# --- the run


@dataclass(frozen=True, slots=True)
class Crowd:
    """The devices that stay with all documents of their users, and those that look in; by user."""

    members: dict[str, Visitor]
    newcomers: dict[str, Visitor]
    open: dict[DocumentId, Visit]


def _measured(scale: Scale) -> Run:
    documents, content = scale.of(DOCUMENTS, 60), content_of(scale.of(EDITS, 600))
    budget_bytes = scale.of(BUDGET_BYTES, QUICK_BUDGET_BYTES)
    seeded = _seeded(documents, content)
    with tempfile.TemporaryDirectory(prefix="syncline-hot-") as copy:
        shutil.copytree(seeded.folder, copy, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.lock"))
        settings = {"SYNCLINE_RESIDENT_BYTES_MAX": str(budget_bytes)}
        with server_process(database=Path(copy) / "hot.db", settings=settings) as server:
            return run(_run(server, scale, seeded.epochs, content, budget_bytes))


async def _run(
    server: ServerProcess, scale: Scale, epochs: dict[DocumentId, bytes], content: Content, budget_bytes: int
) -> Run:
    peaks = Peaks()
    before_bytes = server.resident_bytes()
    async with watched(server, peaks, LOOK_S):
        start, cpu_s = clock(), server.cpu_s()
        crowd = await _gather(server, epochs, content)
        gathered_s, gathered_cpu_s = clock() - start, server.cpu_s() - cpu_s
        cold = list(epochs)[: -2 * budget_bytes // content.resident_bytes]
        random.Random(0).shuffle(cold)
        start, own_s = clock(), process_time()
        pushed_s = 0.3 if scale.quick else scale.seconds * FOR_SO_MANY_SCALES
        ledger = await _open_and_edit(crowd, cold, content, pushed_s)
        share = (process_time() - own_s) / (clock() - start)
    check(ledger, content, peaks["syncline_resident_bytes"], budget_bytes)
    documents = len(epochs)
    figures = (
        Figure("a cold open, p50", percentile(ledger.open_s, 0.50) * 1e3, "ms"),
        Figure("a cold open, p99", percentile(ledger.open_s, 0.99) * 1e3, "ms"),
        Figure("a cold edit to its ACK, p50", percentile(ledger.edit_s, 0.50) * 1e3, "ms"),
        Figure("a cold edit to its ACK, p99", percentile(ledger.edit_s, 0.99) * 1e3, "ms"),
        Figure("documents in memory by the budget's count", peaks["syncline_resident_bytes"] / (1 << 20), "MiB"),
        Figure("budget", budget_bytes / (1 << 20), "MiB", Better.NEITHER),
        Figure("server's memory before", before_bytes / (1 << 20), "MiB"),
        Figure("server's memory, peak", server.peak_bytes() / (1 << 20), "MiB"),
        Figure("opened at saturation", documents / gathered_s, "documents/s", Better.HIGHER),
        Figure("CPU to open one", gathered_cpu_s / documents * 1e3, "ms"),
    )
    case = f"{documents:,} documents of {len(content.state) / 1000:.0f} KB"
    return Run(case, figures, share, TARGET)


async def _gather(server: ServerProcess, epochs: dict[DocumentId, bytes], content: Content) -> Crowd:
    """Everybody comes, and the members open all documents of their users."""
    crowd = Crowd({}, {}, {})
    vector = Replica.load([content.state]).state_vector_bytes()
    users = list(dict.fromkeys(name.owner for name in epochs))
    for user in users:
        crowd.members[user] = await visit(server, server.token(user, MEMBER), MEMBER)
        crowd.newcomers[user] = await visit(server, server.token(user, NEWCOMER), NEWCOMER)

    async def open_member(name: DocumentId) -> None:
        crowd.open[name] = task = Visit(name.name, Place(Cursor(epochs[name], 1), vector))
        await crowd.members[name.owner].open(task)

    await each(epochs, open_member, at_once=16)
    return crowd


class Ledger:
    """What the devices saw."""

    def __init__(self) -> None:
        self.open_s: list[float] = []
        self.edit_s: list[float] = []
        self.answers: list[tuple[DocumentId, tuple[bytes, ...]]] = []


async def _open_and_edit(crowd: Crowd, cold: Sequence[DocumentId], content: Content, seconds: float) -> Ledger:
    """Each document once, at a steady pace, whether the last one has been answered or not."""
    ledger = Ledger()

    async def come(name: DocumentId) -> None:
        newcomer, task = crowd.newcomers[name.owner], Visit(name.name, NOTHING)
        start = clock()
        answer = await newcomer.open(task)
        ledger.open_s.append(clock() - start)
        ledger.answers.append((name, answer.updates))
        newcomer.send(Leave(task.handle))

    async def edit(name: DocumentId) -> None:
        task = crowd.open[name]
        start = clock()
        crowd.members[name.owner].push(task, 1, [content.edit])
        await task.acknowledged(1)
        ledger.edit_s.append(clock() - start)

    start = clock()
    async with asyncio.TaskGroup() as tasks:
        for number, name in enumerate(cold[: int(seconds * TOUCHED_PER_S)]):
            await asyncio.sleep(start + number / TOUCHED_PER_S - clock())
            tasks.create_task(edit(name) if number % EDITED_OF == 0 else come(name))
    return ledger


def check(ledger: Ledger, content: Content, resident_bytes: float, budget_bytes: int) -> None:
    """Everybody was sent the document, and the documents took no more than they may."""
    if resident_bytes > budget_bytes + SLACK_BYTES:
        raise WorkloadFailed(f"documents took {resident_bytes:,.0f} bytes, over {budget_bytes:,}")
    for name, updates in ledger.answers:
        if text_of(updates) != content.text:
            raise WorkloadFailed(f"{name} is not what is stored in {ROOT}")
