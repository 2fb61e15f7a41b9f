"""All that can happen to the hub. A session id names one WebSocket connection on this server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from crdt.errors import PeerError
from crdt.ids import DeviceId, DocumentId
from crdt.protocol.frames import Cursor
from server.core.records import AppendResult, StoredDocument

SessionId: TypeAlias = int


@dataclass(frozen=True, slots=True)
class ClockRead:
    """The wall clock, in seconds since 1970, at the event's `now`. The first event; repeated, since clocks are set."""

    wall_s: float


@dataclass(frozen=True, slots=True)
class SocketOpened:
    """A WebSocket is up. `bearer` is the token of its Authorization header, if it had one.

    `ephemeral`: it speaks for no device that comes back, and gets a name of its own beside its token's.
    """

    session: SessionId
    bearer: str | None = None
    ephemeral: bool = False


@dataclass(frozen=True, slots=True)
class MessagesReceived:
    """Whole binary messages, in order: one, or several that were read at once."""

    session: SessionId
    messages: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class SocketClosed:
    """The connection is gone; nothing more comes from it or goes to it."""

    session: SessionId


@dataclass(frozen=True, slots=True)
class OutboxOverfull:
    """More bytes wait for this slow reader than it may have waiting."""

    session: SessionId


@dataclass(frozen=True, slots=True)
class OutboxDrained:
    """Answers AwaitDrain: little or nothing waits for this reader any more."""

    session: SessionId


@dataclass(frozen=True, slots=True)
class DocumentLoaded:
    """Answers Load."""

    document: DocumentId
    stored: StoredDocument


@dataclass(frozen=True, slots=True)
class LoadFailed:
    """Answers Load. `corrupt` says what is wrong if what is stored can not be read; None if the storage failed."""

    document: DocumentId
    corrupt: str | None


@dataclass(frozen=True, slots=True)
class Appended:
    """Answers Append, when its commit is synced."""

    results: tuple[AppendResult, ...]


@dataclass(frozen=True, slots=True)
class AppendFailed:
    """Answers Append: the commit failed, or nobody knows whether it did."""


@dataclass(frozen=True, slots=True)
class Compacted:
    """Answers Compact. `snapshot_bytes` is the size of the new snapshot, which has entries up to `seq`."""

    document: DocumentId
    seq: int
    snapshot_bytes: int


@dataclass(frozen=True, slots=True)
class CompactionFailed:
    """Answers Compact: the document is as it was."""

    document: DocumentId


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """Answers Rehearse: the first `tried` updates do no harm; `error` is what is wrong with the one after them."""

    document: DocumentId
    tried: int
    error: PeerError | None = None


@dataclass(frozen=True, slots=True)
class Inspected:
    """Answers Inspect: an `Inspector` of the document at `cursor`, packed; None if it can not be had that way."""

    document: DocumentId
    cursor: Cursor | None
    packed: bytes


@dataclass(frozen=True, slots=True)
class DigestRead:
    """Answers ReadDigest: the digest of the document at `cursor`; None if its values can not be read."""

    document: DocumentId
    cursor: Cursor | None
    digest: bytes | None


@dataclass(frozen=True, slots=True)
class EpochBegun:
    """Answers BeginEpoch."""

    document: DocumentId


@dataclass(frozen=True, slots=True)
class EpochFailed:
    """Answers BeginEpoch: the document is as it was."""

    document: DocumentId


@dataclass(frozen=True, slots=True)
class LogGrew:
    """Word of another process on the same store: the document's log goes up to `cursor` at least.

    A hint: it may be late, come twice, or never. One that is lost costs time and nothing else: what another has
    written shows at the next append, or when a device knows more.
    """

    document: DocumentId
    cursor: Cursor


@dataclass(frozen=True, slots=True)
class ImportRequested:
    """An operator puts an update into a document. Answered by one ImportFinished effect with `request`."""

    request: int
    document: DocumentId
    update: bytes


@dataclass(frozen=True, slots=True)
class RevocationsRead:
    """Who is shut out, as the store has it now: these devices, and no others."""

    devices: frozenset[DeviceId]


@dataclass(frozen=True, slots=True)
class DrainRequested:
    """Take no more sessions, say goodbye to those there are, commit what is queued. Answered by one Drained effect."""


@dataclass(frozen=True, slots=True)
class PressureMeasured:
    """How late the event loop was, in seconds, and how much memory the process has (0: unknown). Repeated."""

    lag_s: float
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class TimePassed:
    """`next_deadline()` has come."""


Event: TypeAlias = (
    ClockRead | SocketOpened | MessagesReceived | SocketClosed | OutboxOverfull | OutboxDrained
    | DocumentLoaded | LoadFailed | Appended | AppendFailed | Compacted | CompactionFailed
    | Rehearsed | Inspected | DigestRead
    | EpochBegun | EpochFailed | LogGrew | ImportRequested | RevocationsRead | DrainRequested | PressureMeasured
    | TimePassed
)  # fmt: skip
