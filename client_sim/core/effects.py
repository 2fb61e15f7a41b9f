"""All that a device can ask of its driver, executed in the order given, and all that it tells the app."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from client_sim.core.errand import Done
from client_sim.core.status import Status
from crdt.protocol.frames import Error


@dataclass(frozen=True, slots=True)
class FetchToken:
    """Answer with TokenFetched or TokenFailed, of the same device: one that was cloned asks under another name."""

    device: str


@dataclass(frozen=True, slots=True)
class Connect:
    """Answer with ConnectionMade or ConnectionLost, within a time of the driver's choice."""


@dataclass(frozen=True, slots=True)
class Send:
    """One binary message."""

    data: bytes


@dataclass(frozen=True, slots=True)
class CloseConnection:
    """Close the WebSocket, or give up the attempt. Nothing of it is fed any more, not even ConnectionLost."""

    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class StatusChanged:
    """Of one document, or of the device where `document` is None."""

    document: str | None
    status: Status


@dataclass(frozen=True, slots=True)
class DocumentChanged:
    """A document's content changed. `remote`: by what came from the server."""

    document: str
    remote: bool


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """Ops of this device up to `op` are durable on the server."""

    document: str
    op: int


@dataclass(frozen=True, slots=True)
class PresenceChanged:
    """What `device` (as `user/name`) tells on a document; None if it left."""

    document: str
    device: str
    payload: bytes | None


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that the app, or its developer, should know of. `code` is the protocol's, or one of the device's.

    `reason` says more of a refused update, in the protocol's words (`not_owner`, `limit`, ...).
    """

    code: str
    message: str
    document: str | None = None
    reason: str | None = None

    @classmethod
    def of(cls, error: Error, document: str | None = None) -> Problem:
        """What the server says."""
        reason = (error.detail or {}).get("reason")
        return cls(error.code, error.message, document, reason if isinstance(reason, str) else None)


@dataclass(frozen=True, slots=True)
class WindowClosed:
    """A background-sync window is over."""

    done: Done


@dataclass(frozen=True, slots=True)
class DataWiped:
    """The device was revoked, and its store is empty now."""


Telling: TypeAlias = (
    StatusChanged | DocumentChanged | Acknowledged | PresenceChanged | Problem | WindowClosed | DataWiped
)  # fmt: skip
Effect: TypeAlias = FetchToken | Connect | Send | CloseConnection | Telling
