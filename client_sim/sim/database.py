"""One database that several server processes share, on a disk that is slow, full, or fails when its work is done."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from random import Random

from client_sim.sim.history import History
from client_sim.sim.timetable import Sleep
from client_sim.sim.truth import Truth
from client_sim.sim.weather import Span, Weather
from crdt.ids import DeviceId, DocumentId
from crdt.protocol.frames import Cursor
from server.core.ports import CorruptDocument, StorageError
from server.core.records import AppendResult, DocumentAppend, Snapshot, StoredDocument
from server.storage.memory import STORE_ID_BYTES, MemoryStorage


class Database:
    """What the processes ask of storage, each request taking its time. One that ends while it waits may have asked for
    something that is done, or not.
    """

    def __init__(self, rng: Random, weather: Weather, truth: Truth, history: History) -> None:
        self.weather = weather
        self.disk = MemoryStorage(rng.randbytes(STORE_ID_BYTES))
        self.is_full = False
        self.unreadable: dict[DocumentId, None] = {}
        """Documents whose rows are damaged now. What is written to them is written all the same."""
        self.on_commit: Callable[[DocumentId, Cursor], None] = lambda document, cursor: None
        self.failures = 0
        self._rng = rng
        self._truth = truth
        self._history = history

    async def load(self, document: DocumentId) -> StoredDocument:
        await self._wait(self.weather.load)
        self._may_fail("load", self.weather.load_fails)
        stored = await self.disk.load(document)
        await self._wait(self.weather.load)
        self._may_be_damaged(document)
        return stored

    async def append(self, batch: Sequence[DocumentAppend]) -> list[AppendResult]:
        await self._wait(self.weather.append)
        self._must_have_room("append")
        self._may_fail("append", self.weather.append_fails)
        results = await self.disk.append(batch)
        for append, result in zip(batch, results, strict=True):
            if result.committed:
                self._truth.of(append.document).append(append.entries, append.epoch)
                self._history.counts["entries"] += len(append.entries)
                self.on_commit(append.document, Cursor(append.epoch, append.entries[-1].seq))
            else:
                self._history.note("database", "overtaken", str(append.document))
        await self._wait(self.weather.append)
        self._may_fail("append unreported", self.weather.append_unreported)
        return results

    async def save_snapshot(self, document: DocumentId, snapshot: Snapshot) -> None:
        await self._wait(self.weather.compact)
        self._must_have_room("snapshot")
        self._may_fail("snapshot", self.weather.compact_fails)
        await self.disk.save_snapshot(document, snapshot)
        self._history.note("database", "compacted", f"{document} up to {snapshot.seq}")
        await self._wait(self.weather.compact)
        self._may_fail("snapshot unreported", self.weather.compact_fails)

    async def begin_epoch(self, document: DocumentId, epoch: bytes) -> int:
        await self._wait(self.weather.append)
        self._must_have_room("epoch")
        self._may_fail("epoch", self.weather.append_fails)
        head_seq = await self.disk.begin_epoch(document, epoch)
        self._history.note("database", "new epoch", f"{document} after {head_seq}")
        self.on_commit(document, Cursor(epoch, head_seq))
        await self._wait(self.weather.append)
        return head_seq

    async def quarantine(self, document: DocumentId, reason: str) -> None:
        await self._wait(self.weather.append)
        self._must_have_room("quarantine")
        self._may_fail("quarantine", self.weather.append_fails)
        await self.disk.quarantine(document, reason)

    async def revoked_devices(self) -> frozenset[DeviceId]:
        return await self.disk.revoked_devices()

    def copy(self) -> MemoryStorage:
        """All of it, as a backup holds it."""
        return self.copy_of(self.disk)

    @staticmethod
    def copy_of(storage: MemoryStorage) -> MemoryStorage:
        return deepcopy(storage)

    async def _wait(self, span: Span) -> None:
        await Sleep(span.draw(self._rng))

    def _may_fail(self, doing: str, probability: float) -> None:
        if self._rng.random() < probability:
            self._fail(doing)

    def _may_be_damaged(self, document: DocumentId) -> None:
        is_misread = self.weather.misread > 0.0 and self._rng.random() < self.weather.misread
        if is_misread or document in self.unreadable:
            self._truth.rotten[document] = None
            self._history.note("database", "damaged", str(document))
            raise CorruptDocument(f"{document} is damaged")

    def _must_have_room(self, doing: str) -> None:
        if self.is_full:
            self._fail(f"{doing}, disk full")

    def _fail(self, doing: str) -> None:
        self.failures += 1
        self._history.note("database", "failed", doing)
        raise StorageError(f"{doing} failed")
