"""Making a snapshot of a document, and proving it before the log that it stands for is dropped."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import ParamSpec, Protocol, TypeVar

from crdt.errors import BadUpdate, ReplicaBroken
from crdt.ids import DocumentId
from crdt.replica import Replica
from server.core.inspector import Inspector
from server.core.ports import Storage
from server.core.records import Snapshot, StoredDocument

P = ParamSpec("P")
T = TypeVar("T")


class CompactionError(Exception):
    """The snapshot is not the document, or could not be made: the document stays as it is."""


class Run(Protocol):
    """How the caller executes heavy work: here, in a thread, or in a process that may be killed."""

    def __call__(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Awaitable[T]: ...


def build_snapshot(stored: StoredDocument, time_ms: int) -> Snapshot:
    """All of a document as one update, by way of a replica. Raises CompactionError."""
    try:
        replica = Replica.load(stored.state_updates())
        state, check = replica.state(), Inspector(stored).pack()
    except (ReplicaBroken, BadUpdate) as exc:
        raise CompactionError(f"the document cannot be loaded: {exc}") from exc
    ops = {device: at for device, at in stored.ops().items() if not device.is_ephemeral}  # nobody will ask for those
    return Snapshot(stored.head_seq, stored.epoch, state, ops, time_ms, check)


def verify(stored: StoredDocument, snapshot: Snapshot) -> None:
    """Load the snapshot and, apart from it, what it stands for: state vectors and values are equal.

    Raises CompactionError.
    """
    try:
        loaded, replayed = Replica.load([snapshot.state]), Replica.load(stored.state_updates())
        same_vector = loaded.state_vector() == replayed.state_vector()
        same_values = loaded.values() == replayed.values()
    except (ReplicaBroken, BadUpdate) as exc:
        raise CompactionError(f"the snapshot cannot be verified: {exc}") from exc
    if not same_vector:
        raise CompactionError("the snapshot has another state vector than the document")
    if not same_values:
        raise CompactionError("the snapshot has other values than the document")


def verified_snapshot(stored: StoredDocument, time_ms: int) -> Snapshot:
    """Build and verify: what `compact` hands to `run`, in one piece. Raises CompactionError."""
    snapshot = build_snapshot(stored, time_ms)
    verify(stored, snapshot)
    return snapshot


async def compact(storage: Storage, document: DocumentId, run: Run, time_ms: int) -> Snapshot | None:
    """Put a document's log into a snapshot; None if there is nothing that the last snapshot does not have.

    Raises CompactionError, StorageError, CorruptDocument, and whatever `run` does.
    """
    stored = await storage.load(document)
    if not stored.unsnapshotted:
        return None
    snapshot = await run(verified_snapshot, stored, time_ms)
    await storage.save_snapshot(document, snapshot)
    return snapshot
