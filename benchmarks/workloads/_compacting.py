"""Compaction of a log, and the life of a document that is long edited: its file, and how soon it is there again.

All is done in this process, where a server has workers for it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path

import uvloop

from benchmarks.figures import Better, Figure, Run
from benchmarks.workloads._edits import TEXT, change_text
from benchmarks.workloads._histories import history, history_updates
from benchmarks.workloads._log import (
    OWNER,
    TIME_MS,
    append,
    appending,
    fresh_file,
    fresh_storage,
    inline,
    log_of,
    opened,
    typed_letters,
)
from benchmarks.workloads._measuring import expect, expect_converged, kib, ms
from benchmarks.workloads._stored import file_bytes
from client_sim.traces import Patch
from crdt.ids import DocumentId
from crdt.protocol.codec import deflate_raw, encode_updates
from crdt.replica import Replica
from crdt.update import EMPTY_STATE_VECTOR, read_update
from server.core.compaction import CompactionPolicy, LogGrowth
from server.core.inspector import Inspector
from server.core.records import LogEntry, Snapshot
from server.storage import SqlStorage
from server.storage.compaction import compact

DOCUMENT = DocumentId(OWNER, "main")
ENTRIES_PER_COMMIT = 100
POLICY = CompactionPolicy(rest_s=0.0)
"""A server bears more of a log that is young. A long history is written in weeks, though here in seconds."""


# --- compaction


def compactions(history_edits: int, entries: int) -> list[Run]:
    """Of so many entries: in a new document, and behind a snapshot of a long history. Raises WorkloadFailed."""
    updates = history_updates(history_edits)
    state = Replica.load(updates[: -2 * entries]).state()
    behind = (state, *updates[-2 * entries :])
    return [
        uvloop.run(_compaction(f"{entries:,} entries of a new document", typed_letters(entries), ())),
        uvloop.run(
            _compaction(f"the last {entries:,} entries of a {history(history_edits).name}", behind, (1, 1 + entries))
        ),
    ]


async def _compaction(case: str, updates: tuple[bytes, ...], compacted: tuple[int, ...]) -> Run:
    """Of the last entries of a log that was compacted before when it was so long.

    With two compactions before it takes a part of the log away, as nearly all do: each spares what the one before had.
    """
    log = log_of(updates)
    async with fresh_storage() as storage:
        at = 0
        for end in compacted:
            await _append(storage, log[at:end])
            await _compacted(storage)
            at = end
        await _append(storage, log[at:])
        before = await storage.load(DOCUMENT)
        start, cpu_s = time.perf_counter(), time.process_time()
        snapshot = await _compacted(storage)
        passed_s, cpu_s = time.perf_counter() - start, time.process_time() - cpu_s
        after = await storage.load(DOCUMENT)
    expect(snapshot.seq == len(log) and not after.unsnapshotted, "the log was not folded")
    expect_converged([Replica.load(stored.state_updates()) for stored in (before, after)])
    folded_bytes = sum(map(len, before.state_updates()))
    figures = (
        Figure("compaction", passed_s, "s"),
        Figure("CPU", cpu_s, "s"),
        Figure("entries", (len(log) - at) / passed_s, "1/s", Better.HIGHER),
        Figure("updates folded", folded_bytes / 2**20 / passed_s, "MiB/s", Better.HIGHER),
        kib("updates", folded_bytes, Better.NEITHER),
        kib("snapshot", len(snapshot.state)),
    )
    return Run(case, figures)


async def _append(storage: SqlStorage, entries: Sequence[LogEntry]) -> None:
    """All of them, in some commits."""
    waiting = iter(entries)
    while some := list(islice(waiting, 10 * ENTRIES_PER_COMMIT)):
        await append(storage, [appending(storage, DOCUMENT, some)])


# --- a long history


@dataclass(slots=True)
class Life:
    """What a document's file went through."""

    compactions: int = 0
    peak_bytes: int = 0


def long_history(edits: int, updates_per_entry: int) -> list[Run]:
    """A document that is edited so often, with compactions as a server makes them; then a server that starts cold.

    Raises WorkloadFailed.
    """
    return uvloop.run(_long_history(edits, updates_per_entry))


async def _long_history(edits: int, updates_per_entry: int) -> list[Run]:
    log = log_of(history_updates(edits), updates_per_entry)
    async with fresh_file() as file:
        grown = await _grow(file, log, edits)
        return [grown, await _cold_start(file, edits)]


async def _grow(file: Path, log: Sequence[LogEntry], edits: int) -> Run:
    life = Life()
    start, cpu_s = time.perf_counter(), time.process_time()
    async with opened(file) as storage:
        await _live(storage, file, log, life)
        passed_s, cpu_s = time.perf_counter() - start, time.process_time() - cpu_s
        replica = Replica.load((await storage.load(DOCUMENT)).state_updates())
    update_bytes = sum(entry.update_bytes for entry in log)
    at_end_bytes = file_bytes(file)
    figures = (
        kib("file at the end", at_end_bytes),
        kib("most on disk", life.peak_bytes),
        kib("updates", update_bytes, Better.NEITHER),
        kib("state", len(replica.state()), Better.NEITHER),
        Figure("file for the updates", at_end_bytes / update_bytes, ""),
        Figure("compactions", life.compactions, "", Better.NEITHER),
        Figure("time", passed_s, "s"),
        Figure("CPU", cpu_s / edits * 1e6, "us/update"),
    )
    return Run(f"file of a {history(edits).name}", figures, note=history(edits).note)


async def _live(storage: SqlStorage, file: Path, log: Sequence[LogEntry], life: Life) -> None:
    growth = LogGrowth()
    for at in range(0, len(log), ENTRIES_PER_COMMIT):
        entries = log[at : at + ENTRIES_PER_COMMIT]
        await append(storage, [appending(storage, DOCUMENT, entries)])
        for entry in entries:
            growth.add(entry.update_bytes, entry.time_ms)
        if POLICY.due(growth, TIME_MS):
            growth = LogGrowth(len((await _compacted(storage)).state))
            life.compactions += 1
        life.peak_bytes = max(life.peak_bytes, file_bytes(file))


async def _compacted(storage: SqlStorage) -> Snapshot:
    snapshot = await compact(storage, DOCUMENT, inline, TIME_MS)
    assert snapshot is not None, "nothing to fold in a log that is due"
    return snapshot


async def _cold_start(file: Path, edits: int) -> Run:
    """What a server does with a document until a device without anything has its answer, and until the first push."""
    moments = [time.perf_counter()]
    async with opened(file) as storage:
        moments.append(time.perf_counter())
        stored = await storage.load(DOCUMENT)
        moments.append(time.perf_counter())
        replica = Replica.load(stored.state_updates())
        moments.append(time.perf_counter())
        answer = deflate_raw(encode_updates((replica.diff(EMPTY_STATE_VECTOR),)))
        moments.append(time.perf_counter())
    expect(replica.values() == {TEXT: history(edits).text}, "the document is not what was written")
    open_s, load_s, replica_s, answer_s = (after - before for before, after in pairwise(moments))
    update = Replica(client_id=2).edit(lambda doc: change_text(doc, [Patch(0, 0, "new")]))
    assert update is not None
    inspector, known = Inspector(stored), replica.state_vector()
    start = time.perf_counter()
    expect(inspector.admit(read_update(update), known, OWNER), "the check finds a push dear that adds a word")
    admit_s = time.perf_counter() - start
    figures = (
        ms("cold start", load_s + replica_s + answer_s),
        ms("load", load_s),
        ms("replica", replica_s),
        ms("first answer", answer_s),
        ms("first check of a push", admit_s),
        ms("opening the store", open_s),
        kib("answer", len(answer)),
        Figure("log entries", len(stored.unsnapshotted), "", Better.NEITHER),
    )
    return Run(f"cold start of a {history(edits).name}", figures, note=history(edits).note)
