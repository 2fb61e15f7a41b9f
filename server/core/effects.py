"""All that the hub can ask of its driver, executed in the order given."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from crdt.ids import DeviceId, DocumentId
from server.core.events import SessionId
from server.core.records import DocumentAppend


@dataclass(frozen=True, slots=True)
class Send:
    """One message, the same bytes for every one of these sessions."""

    sessions: tuple[SessionId, ...]
    data: bytes


@dataclass(frozen=True, slots=True)
class Publish:
    """A commit's entries of one document: each receiver gets all `deltas`, in order, encoded once for all of them.

    In place of the entries that are its own a receiver gets their `acks`, by index into `deltas`; a delta that nobody
    else gets is empty.
    """

    deltas: tuple[bytes, ...]
    receivers: tuple[SessionId, ...]
    acks: Mapping[SessionId, Mapping[int, bytes]]

    def for_receiver(self, session: SessionId, framed: list[bytes], frame: Callable[[bytes], bytes]) -> list[bytes]:
        """What one receiver gets, framed. `framed` are the deltas so; acks go through `frame`."""
        acks = self.acks.get(session)
        if acks is None:
            return framed
        mixed = framed.copy()
        for index, ack in acks.items():
            mixed[index] = frame(ack)
        return mixed


@dataclass(frozen=True, slots=True)
class Close:
    """Close the WebSocket once what was sent before is out."""

    session: SessionId
    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class AwaitDrain:
    """Answer with OutboxDrained once little waits for this session; at once if that is so already."""

    session: SessionId


@dataclass(frozen=True, slots=True)
class PauseReading:
    """Read no more from this session's socket until ResumeReading."""

    session: SessionId


@dataclass(frozen=True, slots=True)
class GiveBack:
    """The rest of what was read at once, where the session is paused meanwhile: to come first after ResumeReading."""

    session: SessionId
    messages: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class ResumeReading:
    session: SessionId


@dataclass(frozen=True, slots=True)
class HelloAccepted:
    """The session has a verified token: messages may now be as large as the limits allow.

    `heartbeat_s` is how long it may be silent before it is pinged, where it asked for longer than others.
    """

    session: SessionId
    heartbeat_s: float | None = None


@dataclass(frozen=True, slots=True)
class DeviceSeen:
    """A device was let in, brought a fresh token, or was here until now: `time_ms` is since 1970."""

    device: DeviceId
    agent: str
    time_ms: int


@dataclass(frozen=True, slots=True)
class Load:
    """Answer with DocumentLoaded or LoadFailed."""

    document: DocumentId


@dataclass(frozen=True, slots=True)
class Append:
    """Answer with Appended or AppendFailed. At most one is under way."""

    batch: tuple[DocumentAppend, ...]


@dataclass(frozen=True, slots=True)
class Compact:
    """Answer with Compacted or CompactionFailed."""

    document: DocumentId


@dataclass(frozen=True, slots=True)
class Rehearse:
    """Try updates on a copy of the document, where it does no harm. Answer with Rehearsed."""

    document: DocumentId
    updates: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Inspect:
    """Read what the check has to know of a document. Answer with Inspected."""

    document: DocumentId


@dataclass(frozen=True, slots=True)
class ReadDigest:
    """Answer with DigestRead."""

    document: DocumentId


@dataclass(frozen=True, slots=True)
class Quarantine:
    """Mark a document that can not be loaded. Not answered."""

    document: DocumentId
    reason: str


@dataclass(frozen=True, slots=True)
class BeginEpoch:
    """Answer with EpochBegun or EpochFailed."""

    document: DocumentId
    epoch: bytes


@dataclass(frozen=True, slots=True)
class ImportFinished:
    """Answers ImportRequested: the update is durable (`seq`, 0 if it changed nothing), or why it is not."""

    request: int
    seq: int
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Drained:
    """Answers DrainRequested: nothing is queued or in flight any more, and every session was told to close."""


@dataclass(frozen=True, slots=True)
class DoubtKeys:
    """A token was refused: its key may be newer than those we have."""


@dataclass(frozen=True, slots=True)
class Log:
    """A line for the operator. `fields` never hold a token or a document's content."""

    level: Literal["debug", "info", "warning", "error"]
    event: str
    fields: Mapping[str, Any] = field(default_factory=dict)


Effect: TypeAlias = (
    Send | Publish | Close | AwaitDrain | PauseReading | GiveBack | ResumeReading | HelloAccepted | DeviceSeen | Load
    | Append | Compact | Rehearse | Inspect | ReadDigest | Quarantine | BeginEpoch | ImportFinished | Drained
    | DoubtKeys | Log
)  # fmt: skip
