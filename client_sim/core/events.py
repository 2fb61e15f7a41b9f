"""All that can happen to a device. Documents are named as the app names them: `name`, or `owner/name`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from client_sim.core.pacing import Policy
from client_sim.core.roots import Roots

# --- of the app


@dataclass(frozen=True, slots=True)
class Started:
    """The app wants to be online: at the start, and again after the device was stopped."""


@dataclass(frozen=True, slots=True)
class Stopped:
    """The app wants to be offline."""


@dataclass(frozen=True, slots=True)
class Suspended:
    """The app goes into the background: what waits is sent once more, and the device hangs up until it is started."""


@dataclass(frozen=True, slots=True)
class WindowOpened:
    """Sync in the background: push what is pending, fetch what is missing, and hang up. WindowClosed tells the end.

    At most for `within_s` seconds and `bytes_max` bytes of messages, both ways together.
    """

    within_s: float
    bytes_max: int


@dataclass(frozen=True, slots=True)
class PolicyChosen:
    """How edits are sent from now on. None: as the device does by itself; `latency_s`: how long one may wait."""

    policy: Policy | None
    latency_s: float | None = None


@dataclass(frozen=True, slots=True)
class Hurried:
    """Somebody waits: send what waits now, and fetch what is missing, whatever the policy."""


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
class PrefetchRequested:
    """Fetch these documents when there is nothing better to do, so that they can be opened without a server later.

    `handle` raises ValueError for names that are none, or too many.
    """

    documents: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Pinned:
    """Keep a document on the device whatever the cache's budget; or, if not `pinned`, do so no more."""

    document: str
    pinned: bool


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
    """There is a network again: do not sit out the backoff, and look whether the connection still lives."""


@dataclass(frozen=True, slots=True)
class NetworkChanged:
    """The device is on a network that the app calls `network`; by the same name what was learnt of it counts again."""

    network: str | None
    metered: bool = False


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
    """The WebSocket is gone, or never came up. `code` is its close code, None if it had none.

    `reason` is the close's, or what was tried and came of it. `why` is of `client_sim.core.reasons`, where the driver
    knows more than that the server can not be reached.
    """

    code: int | None = None
    reason: str = ""
    why: str | None = None


@dataclass(frozen=True, slots=True)
class MessageReceived:
    """One whole binary message."""

    data: bytes


@dataclass(frozen=True, slots=True)
class TimePassed:
    """`next_deadline()` has come."""


DocumentEvent: TypeAlias = (
    OpenRequested | CloseRequested | PrefetchRequested | Pinned | Edited | PresenceSet | AuditRequested | Unblocked
)  # fmt: skip
Stored: TypeAlias = OpenRequested | Pinned | Edited | Unblocked
"""What the app is told of at once if the store can not do it."""
Wish: TypeAlias = (
    Started | Stopped | Suspended | WindowOpened | PolicyChosen | Hurried | NetworkBack | NetworkChanged
)  # fmt: skip
LinkEvent: TypeAlias = (
    Wish | TokenFetched | TokenFailed
    | ConnectionMade | ConnectionLost | MessageReceived | TimePassed
)  # fmt: skip
Event: TypeAlias = DocumentEvent | LinkEvent
