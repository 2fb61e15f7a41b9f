"""All that can happen to a device. Documents are named as the app names them: `name`, or `owner/name`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from client_sim.core.roots import Roots

# --- of the app


@dataclass(frozen=True, slots=True)
class Started:
    """The app wants to be online: at the start, and again after the device was stopped."""


@dataclass(frozen=True, slots=True)
class Stopped:
    """The app wants to be offline."""


@dataclass(frozen=True, slots=True)
class OpenRequested:
    """Keep a document in sync. It can be read and edited from now on."""

    document: str


@dataclass(frozen=True, slots=True)
class CloseRequested:
    """Keep a document in sync no longer. What the store has of it stays."""

    document: str


@dataclass(frozen=True, slots=True)
class Edited:
    """Change a document in one op. `handle` raises what `change` raises, EditTooBig and StoreError: then no edit is."""

    document: str
    change: Callable[[Roots], object]


@dataclass(frozen=True, slots=True)
class PresenceSet:
    """Tell the others on a document something ephemeral; None takes it back."""

    document: str
    payload: bytes | None


@dataclass(frozen=True, slots=True)
class AuditRequested:
    """Compare a document with the server's. Only where all is acknowledged: else nothing happens."""

    document: str


@dataclass(frozen=True, slots=True)
class Unblocked:
    """The app has seen why a document is blocked and has exported what is aside, which is dropped: go on."""

    document: str


# --- of the driver


@dataclass(frozen=True, slots=True)
class NetworkBack:
    """There is a network again: do not sit out the backoff."""


@dataclass(frozen=True, slots=True)
class TokenFetched:
    """Answers FetchToken."""

    device: str
    token: str


@dataclass(frozen=True, slots=True)
class TokenFailed:
    """Answers FetchToken. `refused`: the login is over; else asking later may help."""

    device: str
    reason: str
    refused: bool


@dataclass(frozen=True, slots=True)
class ConnectionMade:
    """Answers Connect: the WebSocket is up."""


@dataclass(frozen=True, slots=True)
class ConnectionLost:
    """The WebSocket is gone, or never came up. `code` is its close code, None if it had none."""

    code: int | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class MessageReceived:
    """One whole binary message."""

    data: bytes


@dataclass(frozen=True, slots=True)
class TimePassed:
    """`next_deadline()` has come."""


DocumentEvent: TypeAlias = OpenRequested | CloseRequested | Edited | PresenceSet | AuditRequested | Unblocked
LinkEvent: TypeAlias = (
    Started | Stopped | NetworkBack | TokenFetched | TokenFailed
    | ConnectionMade | ConnectionLost | MessageReceived | TimePassed
)  # fmt: skip
Event: TypeAlias = DocumentEvent | LinkEvent
