"""The twin of `SqlStorage` that forgets: for tests, and for simulated worlds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from crdt.ids import DeviceId, DocumentId
from server.core.ports import StorageError
from server.core.records import (
    AppendResult,
    Authorship,
    DeviceInfo,
    DocumentAppend,
    DocumentInfo,
    History,
    LogEntry,
    Sighting,
    Snapshot,
    StoredDocument,
    unwritten,
)
from server.storage.authors import authorship, folded
from server.storage.checks import check_batch
from server.storage.reading import base_of
from server.storage.rows import pack_updates

STORE_ID_BYTES = 16


@dataclass(slots=True)
class _Document:
    epoch: bytes
    epoch_seq: int = 0
    snapshots: list[Snapshot] = field(default_factory=list)
    """Newest first."""
    entries: list[LogEntry] = field(default_factory=list)
    authors: list[Authorship] = field(default_factory=list)
    quarantine: str | None = None

    @property
    def head_seq(self) -> int:
        """Compaction leaves a log its last entry."""
        return self.entries[-1].seq if self.entries else 0


class MemoryStorage:
    """The storage port in a dictionary. Stores with the same `store_id` give the same first epochs."""

    def __init__(self, store_id: bytes = bytes(STORE_ID_BYTES)) -> None:
        self.store_id = store_id
        self.is_restored = False
        self._documents: dict[DocumentId, _Document] = {}
        self._devices: dict[DeviceId, DeviceInfo] = {}

    async def load(self, document: DocumentId) -> StoredDocument:
        held = self._documents.get(document)
        if held is None:
            return unwritten(self.store_id, document, restored=self.is_restored)
        newest = held.snapshots[0] if held.snapshots else None
        entries = tuple(held.entries)
        return StoredDocument(held.epoch, held.epoch_seq, newest, entries, held.quarantine, self.is_restored)

    async def append(self, batch: Sequence[DocumentAppend]) -> list[AppendResult]:
        return self.append_at_once(batch)

    def append_at_once(self, batch: Sequence[DocumentAppend]) -> list[AppendResult]:
        check_batch(batch)
        return [self._append(append) for append in batch]

    async def save_snapshot(self, document: DocumentId, snapshot: Snapshot) -> None:
        held = self._documents.get(document)
        if held is None or held.head_seq < snapshot.seq:
            raise StorageError(f"{document} is not what the snapshot was made of: its log ends before {snapshot.seq}")
        if held.snapshots and held.snapshots[0].seq > snapshot.seq:
            return
        held.snapshots = [snapshot, *(older for older in held.snapshots if older.seq < snapshot.seq)][:2]
        for previous in held.snapshots[1:]:
            gone = [authorship(entry) for entry in held.entries if entry.seq <= previous.seq]
            held.authors = folded((*held.authors, *folded(gone)))
            held.entries = [entry for entry in held.entries if entry.seq > previous.seq]

    async def history(self, document: DocumentId) -> History:
        held = self._documents.get(document)
        if held is None:
            return History((), None, ())
        return History(tuple(held.authors), base_of(held.snapshots, held.entries), tuple(held.entries))

    async def begin_epoch(self, document: DocumentId, epoch: bytes) -> int:
        held = self._documents.setdefault(document, _Document(epoch))
        held.epoch, held.epoch_seq = epoch, held.head_seq
        return held.head_seq

    async def quarantine(self, document: DocumentId, reason: str) -> None:
        if held := self._documents.get(document):
            held.quarantine = reason

    async def release(self, document: DocumentId) -> bool:
        held = self._documents.get(document)
        if held is None or held.quarantine is None:
            return False
        held.quarantine = None
        return True

    async def documents(self) -> list[DocumentInfo]:
        return [_info(document, held) for document, held in sorted(self._documents.items()) if held.entries]

    async def note_devices(self, sightings: Sequence[Sighting]) -> None:
        for sighting in sightings:
            info = self._device(sighting.device)
            if (info.last_seen_ms or 0) <= sighting.last_ms:
                first_ms = sighting.first_ms if info.first_seen_ms is None else info.first_seen_ms
                self._devices[info.device] = DeviceInfo(
                    info.device, sighting.agent, first_ms, sighting.last_ms, info.revoked_ms
                )

    async def revoke_devices(self, devices: Sequence[DeviceId], time_ms: int) -> list[DeviceId]:
        return [device for device in devices if self._set_revoked(device, time_ms)]

    async def restore_devices(self, devices: Sequence[DeviceId]) -> list[DeviceId]:
        return [device for device in devices if device in self._devices and self._set_revoked(device, None)]

    async def revoked_devices(self) -> frozenset[DeviceId]:
        return frozenset(device for device, info in self._devices.items() if info.revoked_ms is not None)

    async def devices(self, user: str | None = None) -> list[DeviceInfo]:
        return [info for device, info in sorted(self._devices.items()) if user in (None, device.user)]

    def _device(self, device: DeviceId) -> DeviceInfo:
        return self._devices.get(device, DeviceInfo(device, None, None, None))

    def _set_revoked(self, device: DeviceId, revoked_ms: int | None) -> bool:
        """True if that changed who is let in."""
        info = self._device(device)
        if (info.revoked_ms is None) == (revoked_ms is None):
            return False
        self._devices[device] = replace(info, revoked_ms=revoked_ms)
        return True

    def _append(self, append: DocumentAppend) -> AppendResult:
        known_seq = append.entries[0].seq - 1
        held = self._documents.get(append.document)
        if held is None and known_seq == 0:
            held = self._documents[append.document] = _Document(append.epoch)
        if held is None or held.epoch != append.epoch:
            return AppendResult(append.document, committed=False)
        if held.head_seq == known_seq:
            held.entries.extend(append.entries)
            return AppendResult(append.document, committed=True)
        foreign = tuple(entry for entry in held.entries if entry.seq > known_seq)
        is_told = bool(foreign) and foreign[0].seq == known_seq + 1
        return AppendResult(append.document, committed=False, foreign=foreign if is_told else ())


def _info(document: DocumentId, held: _Document) -> DocumentInfo:
    newest = held.snapshots[0] if held.snapshots else None
    return DocumentInfo(
        document=document,
        head_seq=held.head_seq,
        log_entries=len(held.entries),
        log_bytes=sum(len(pack_updates(entry.updates)) for entry in held.entries),
        snapshot_seq=newest.seq if newest else 0,
        snapshot_bytes=len(newest.state) if newest else 0,
        quarantine=held.quarantine,
    )
