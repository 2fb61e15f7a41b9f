"""What the core needs of the outside: storage (asked for by effects) and a meter (told directly)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from crdt.ids import DeviceId, DocumentId
from server.core.records import (
    AppendResult,
    DeviceInfo,
    DocumentAppend,
    DocumentInfo,
    History,
    Sighting,
    Snapshot,
    StoredDocument,
)
from server.core.reports import DeviceReport


class StorageError(Exception):
    """The storage could not do it now: a full disk, a lost connection. Whether an append is in may be unknown."""


class CorruptDocument(Exception):
    """What is stored of one document can not be read: a checksum, a gap in the log."""


class Storage(Protocol):
    """A log per document, and its snapshots. Implementations pass one contract suite (tests/contract)."""

    async def load(self, document: DocumentId) -> StoredDocument:
        """All of a document, consistent; an empty one if it was never written. Raises StorageError, CorruptDocument."""
        ...

    async def append(self, batch: Sequence[DocumentAppend]) -> list[AppendResult]:
        """Make each document's entries durable, or none of that document's; one result each, in order.

        Returns when the commit is synced. Raises StorageError: then nobody knows what is in, and documents are loaded
        again to see.
        """
        ...

    def append_at_once(self, batch: Sequence[DocumentAppend]) -> list[AppendResult] | None:
        """As `append`, but before it returns, on the caller's thread; None if it has to wait for anything but the disk,
        and nothing is in. Raises StorageError.
        """
        ...

    async def save_snapshot(self, document: DocumentId, snapshot: Snapshot) -> None:
        """Keep a verified snapshot and the one before it; drop older ones, and the log that the one before covers.

        Who wrote what of that log is kept. Raises StorageError.
        """
        ...

    async def history(self, document: DocumentId) -> History:
        """How a document came to be, as far back as anything tells. Raises StorageError, CorruptDocument."""
        ...

    async def begin_epoch(self, document: DocumentId, epoch: bytes) -> int:
        """Start a new history of a document after its present head, which is returned. Raises StorageError."""
        ...

    async def quarantine(self, document: DocumentId, reason: str) -> None:
        """Mark a document that can not be opened, until `release`; one that is stored only. Raises StorageError."""
        ...

    async def release(self, document: DocumentId) -> bool:
        """Take the mark away; False if there was none. Raises StorageError."""
        ...

    async def documents(self) -> list[DocumentInfo]:
        """All documents that were written, by owner and name. Raises StorageError."""
        ...

    async def note_devices(self, sightings: Sequence[Sighting]) -> None:
        """Remember when devices were seen, one sighting a device; one older than what is known changes nothing.

        Raises StorageError: then none of them is noted.
        """
        ...

    async def revoke_devices(self, devices: Sequence[DeviceId], time_ms: int) -> list[DeviceId]:
        """Shut devices out, known or not; those that were not yet. Returns when it is synced. Raises StorageError."""
        ...

    async def restore_devices(self, devices: Sequence[DeviceId]) -> list[DeviceId]:
        """Let devices in again; those that had been shut out. Returns when it is synced. Raises StorageError."""
        ...

    async def revoked_devices(self) -> frozenset[DeviceId]:
        """All that are shut out now, whichever process did it. Raises StorageError."""
        ...

    async def devices(self, user: str | None = None) -> list[DeviceInfo]:
        """All devices that were seen or revoked, or one user's, by user and name. Raises StorageError."""
        ...


@dataclass(frozen=True, slots=True)
class Levels:
    """How much there is now, for whoever watches."""

    sessions: int
    rooms: int
    resident_bytes: int
    queued_bytes: int
    loads_waiting: int
    hellos_waiting: int
    is_overloaded: bool


class Meter(Protocol):
    """Counts what the core does. Seconds are of the driver's clock."""

    def rehearsed(self, outcome: str) -> None:
        """A push that is large, or dear to apply, was tried on a copy: `fine`, or the code that it is refused with."""

    def quarantined(self) -> None:
        """A document failed to load twice."""

    def refused(self, code: str) -> None:
        """An error was sent, or a connection closed, with this code."""

    def received(self, updates: int) -> None:
        """So many updates were checked, and their commit begins (again, if they have to be tried again)."""

    def committed(self, entries: int, seconds: float) -> None:
        """One commit of so many log entries has reported; it took so long."""

    def acknowledged(self, updates: int, seconds: float) -> None:
        """A commit acknowledged so many updates; the one that waited longest waited so long."""

    def delivered(self, deliveries: int, seconds: float) -> None:
        """A commit sent out so many updates times receivers; the longest wait was so long."""

    def caught_up(self, mode: str, update_bytes: int) -> None:
        """An OPENED went out with so many bytes of updates."""

    def held(self, why: str) -> None:
        """A session is not read from for now."""

    def presence_dropped(self) -> None:
        """A device showed itself so often that a PRESENCE was replaced by a later one."""

    def resynced(self) -> None:
        """A device, or a slow reader, asked for state again."""

    def audited(self, ok: bool) -> None:
        """A device's digest was compared."""

    def reported(self, report: DeviceReport) -> None:
        """A device told its own counters (REPORT)."""
