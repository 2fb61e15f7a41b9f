"""Durable appends to SQL storage, by how much goes into one commit: entries of many documents, or of one."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import uvloop

from benchmarks.figures import Better, Figure, Run
from benchmarks.percentiles import percentile
from benchmarks.workloads._edits import TEXT
from benchmarks.workloads._log import OWNER, append, appending, fresh_storage, letter, log_of, typed_letters
from benchmarks.workloads._measuring import expect, ms
from crdt.ids import DocumentId
from crdt.replica import Replica
from server.core.records import LogEntry
from server.storage import SqlStorage

READ_BACK_MAX = 10
"""Documents that are read back after a run."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What goes into one commit: `entries` for each of so many documents, an entry a typed letter."""

    documents: int
    entries: int

    def __str__(self) -> str:
        if self.entries > 1:
            return f"{self.entries:,} entries of one document a commit"
        return f"{self.documents:,} document{'s' if self.documents > 1 else ''} a commit"


class Writer:
    """Appends one batch after the other; where the documents' logs are as long as `log`, to new documents."""

    def __init__(self, storage: SqlStorage, batch: Batch, log: Sequence[LogEntry]) -> None:
        self._storage = storage
        self._batch = batch
        self._log = log
        self._round = 0
        self._written = 0

    async def commit(self) -> None:
        if self._written + self._batch.entries > len(self._log):
            self._round, self._written = self._round + 1, 0
        entries = self._log[self._written : self._written + self._batch.entries]
        self._written += len(entries)
        await append(self._storage, [appending(self._storage, document, entries) for document in self._documents()])

    async def check(self) -> None:
        """The documents written last have what was written, and some of all are read. Raises WorkloadFailed."""
        for document in self._documents()[:READ_BACK_MAX]:
            stored = await self._storage.load(document)
            expect(stored.entries == tuple(self._log[: self._written]), f"{document} is not what was appended")
            text = Replica.load(stored.state_updates()).values()[TEXT]
            expect(text == "".join(map(letter, range(self._written))), f"{document} has other values")

    def _documents(self) -> list[DocumentId]:
        batch = self._batch
        names = (f"{batch.documents}x{batch.entries}.{self._round}.{n}" for n in range(batch.documents))
        return [DocumentId(OWNER, name) for name in names]


def appends(batches: Sequence[Batch], seconds: float, log_entries: int) -> list[Run]:
    """Each for so many seconds, all in one store. No log gets more than `log_entries`. Raises WorkloadFailed."""
    return uvloop.run(_appends(batches, seconds, log_of(typed_letters(log_entries))))


async def _appends(batches: Sequence[Batch], seconds: float, log: Sequence[LogEntry]) -> list[Run]:
    async with fresh_storage() as storage:
        return [await _measured(storage, batch, seconds, log) for batch in batches]


async def _measured(storage: SqlStorage, batch: Batch, seconds: float, log: Sequence[LogEntry]) -> Run:
    writer = Writer(storage, batch, log)
    await writer.commit()  # makes the documents
    waits_s = []
    start, cpu_s = time.perf_counter(), time.process_time()
    before = start
    while before < start + seconds:
        await writer.commit()
        waits_s.append(-before + (before := time.perf_counter()))
    cpu_s, passed_s = time.process_time() - cpu_s, before - start
    await writer.check()
    updates = len(waits_s) * batch.documents * batch.entries
    figures = (
        Figure("durable updates", updates / passed_s, "1/s", Better.HIGHER),
        Figure("CPU", cpu_s / updates * 1e6, "us/update"),
        ms("commit p50", percentile(waits_s, 0.50)),
        ms("commit p99", percentile(waits_s, 0.99)),
    )
    return Run(str(batch), figures)
