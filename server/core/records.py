"""What the log of a document holds, and what storage says about it. Times are milliseconds since 1970, UTC."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import NamedTuple

from crdt.chain import OpState
from crdt.ids import DeviceId, DocumentId
from crdt.protocol.frames import EPOCH_BYTES
from crdt.update.ranges import Ranges

# Each commit makes some of LogEntry, DocumentAppend and AppendResult: a named tuple takes a fifth of the time of a
# frozen dataclass.


class LogEntry(NamedTuple):
    """Entry `seq` of a document's log: ops `first_op` to `last_op` of one device, committed together.

    `updates` are v1 updates in op order; an op that changed nothing has none, so there may be fewer than ops.
    `chain` is the device's running hash at `last_op`. `heal`: the device gave back what the store had lost, and may not
    have written it.
    """

    seq: int
    device: DeviceId
    first_op: int
    last_op: int
    chain: bytes
    updates: tuple[bytes, ...]
    time_ms: int
    heal: bool = False

    @property
    def update_bytes(self) -> int:
        return sum(map(len, self.updates))


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A document as one v1 update with log entries up to `seq` in, and where each device's ops of `epoch` were.

    `check` is what the check of updates knows of the document, packed (`server.core.inspector`); None where it is to be
    told from the state.
    """

    seq: int
    epoch: bytes
    state: bytes
    ops: dict[DeviceId, OpState]
    time_ms: int
    check: bytes | None = None


@dataclass(frozen=True, slots=True)
class StoredDocument:
    """All that storage has of a document. `quarantine` says why it is not to be opened, if it is not.

    `entries` are those the log still holds, without gaps up to the head; some may be older than the snapshot, and
    serve devices that are a little behind. Ops are counted within `epoch`, which began after entry `epoch_seq`.
    `restored`: the store was put back from a backup once, which may not have had the document at all.
    """

    epoch: bytes
    epoch_seq: int
    snapshot: Snapshot | None
    entries: tuple[LogEntry, ...]
    quarantine: str | None = None
    restored: bool = False

    @property
    def head_seq(self) -> int:
        """The last entry's seq; 0 for a document that was never written."""
        if self.entries:
            return self.entries[-1].seq
        return self.snapshot.seq if self.snapshot else 0

    @property
    def was_lost(self) -> bool:
        """The store was set back: devices may give back what others wrote.

        Of a store that was set back unawares nothing tells but what the first device gave back, as long as the log has
        that or the like.
        """
        return self.restored or self.epoch_seq > 0 or any(entry.heal for entry in self.entries)

    @property
    def healing(self) -> list[DeviceId]:
        """The devices whose last op in this epoch, as far as the log tells, gives back what was lost."""
        last = {entry.device: entry.heal for entry in self.entries if entry.seq > self.epoch_seq}
        return [device for device, heals in last.items() if heals]

    @property
    def unsnapshotted(self) -> tuple[LogEntry, ...]:
        """The entries that the snapshot does not have."""
        covered = self.snapshot.seq if self.snapshot else 0
        return tuple(entry for entry in self.entries if entry.seq > covered)

    def state_updates(self) -> list[bytes]:
        """The updates that make the document, in the order in which a replica takes them."""
        updates = [self.snapshot.state] if self.snapshot else []
        for entry in self.unsnapshotted:
            updates.extend(entry.updates)
        return updates

    def ops(self) -> dict[DeviceId, OpState]:
        """Where each device's ops are in this epoch."""
        current = self.snapshot is not None and self.snapshot.epoch == self.epoch
        ops = dict(self.snapshot.ops) if self.snapshot and current else {}
        for entry in self.unsnapshotted:
            if entry.seq > self.epoch_seq:
                ops[entry.device] = OpState(entry.last_op, entry.chain)
        return ops


@dataclass(frozen=True, slots=True)
class Authorship:
    """What one device did: its entries from `first_seq` to `last_seq`, between which others' may lie.

    `heal` as of LogEntry. Not `is_whole`: something of these entries could not be read, and is not in the ranges.
    """

    first_seq: int
    last_seq: int
    device: DeviceId
    first_op: int
    last_op: int
    inserted: Ranges
    deleted: Ranges
    first_ms: int
    last_ms: int
    heal: bool = False
    is_whole: bool = True


@dataclass(frozen=True, slots=True)
class History:
    """All that tells how a document came to be: who wrote what the log has no longer, the document as it was then, and
    the log since. `base` is None where the log goes back to the first entry.
    """

    authors: tuple[Authorship, ...]
    base: Snapshot | None
    entries: tuple[LogEntry, ...]


class DocumentAppend(NamedTuple):
    """What one document adds to its log in a batch: entries with consecutive seqs after the head it knows."""

    document: DocumentId
    epoch: bytes
    entries: tuple[LogEntry, ...]


class AppendResult(NamedTuple):
    """What became of one DocumentAppend: all of its entries are durable, or none of them.

    Not committed means that the log went on without us: `foreign` are the entries that others put after our head.
    """

    document: DocumentId
    committed: bool
    foreign: tuple[LogEntry, ...] = ()


@dataclass(frozen=True, slots=True)
class Sighting:
    """A device was connected at `first_ms` and at `last_ms`; `agent` is what it calls its software."""

    device: DeviceId
    agent: str
    first_ms: int
    last_ms: int


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """A line of `syncline device list`. None: a device that was revoked before it was ever seen; one not revoked."""

    device: DeviceId
    agent: str | None
    first_seen_ms: int | None
    last_seen_ms: int | None
    revoked_ms: int | None = None


@dataclass(frozen=True, slots=True)
class DocumentInfo:
    """A line of `syncline doc list`. Sizes are bytes of v1 updates, as stored."""

    document: DocumentId
    head_seq: int
    log_entries: int
    log_bytes: int
    snapshot_seq: int
    snapshot_bytes: int
    quarantine: str | None = None


def unwritten(store_id: bytes, document: DocumentId, *, restored: bool) -> StoredDocument:
    """What a store has of a document that was never written."""
    return StoredDocument(first_epoch(store_id, document), 0, None, (), restored=restored)


def first_epoch(store_id: bytes, document: DocumentId) -> bytes:
    """The epoch of a document that has no history yet: the same each time it is asked for, so none need be stored."""
    return blake2b(str(document).encode(), key=store_id, digest_size=EPOCH_BYTES).digest()
