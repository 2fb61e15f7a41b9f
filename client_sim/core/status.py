"""The states of a device's link and of a document on it, and what the app sees of them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TypeVar, assert_never


class State(StrEnum):
    OFFLINE = "offline"
    CONNECTING = "connecting"
    SYNCING = "syncing"
    CURRENT = "current"
    BLOCKED = "blocked"


@dataclass(frozen=True, slots=True)
class Status:
    """What the app is told of a device or of a document.

    `reason` says why it is not current, as a code of `client_sim.core.reasons`; `detail` more of it, in words for logs.
    `since` is when it began to be so, by the clock of who tells it; two statuses that differ in it alone are equal.
    """

    state: State
    reason: str | None = None
    detail: str | None = None
    since: float | None = field(default=None, compare=False)

    def __str__(self) -> str:
        why = ": ".join(part for part in (self.reason, self.detail) if part)
        return f"{self.state} ({why})" if why else str(self.state)

    def began(self, since: float | None) -> Status:
        return replace(self, since=since)


class Link(StrEnum):
    """The device's one connection."""

    IDLE = "idle"
    """The app wants none."""
    WAITING = "waiting"
    """For the backoff to end."""
    FETCHING = "fetching"
    """A token was asked for."""
    CONNECTING = "connecting"
    UPGRADED = "upgraded"
    """The socket is up, NONCE awaited: HELLO will have a proof of possession."""
    GREETING = "greeting"
    """HELLO is out, WELCOME awaited."""
    OPEN = "open"
    STOPPED = "stopped"
    """Trying again makes no sense until the app asks for it."""


class Phase(StrEnum):
    """A document on the present connection."""

    CLOSED = "closed"
    OPENING = "opening"
    """OPEN is out, OPENED awaited."""
    RECEIVING = "receiving"
    """OPENED is in, its CHUNKs are coming."""
    LIVE = "live"
    """The cursor follows the log; pending ops go out."""
    RESYNCING = "resyncing"
    """RESYNC is out, OPENED awaited."""
    BLOCKED = "blocked"


CONNECTED = (Link.UPGRADED, Link.GREETING, Link.OPEN)
"""A socket is up."""
_DOWN = (Link.WAITING, Link.STOPPED, Link.IDLE)

LINKS: dict[Link, tuple[Link, ...]] = {
    Link.IDLE: (Link.FETCHING, Link.CONNECTING),
    Link.WAITING: (Link.FETCHING, Link.CONNECTING, Link.IDLE),
    Link.FETCHING: (Link.CONNECTING, *_DOWN),
    Link.CONNECTING: (Link.UPGRADED, Link.GREETING, *_DOWN),
    Link.UPGRADED: (Link.GREETING, *_DOWN),
    Link.GREETING: (Link.OPEN, *_DOWN),
    Link.OPEN: _DOWN,
    Link.STOPPED: (Link.FETCHING, Link.CONNECTING, Link.IDLE),
}

AWAITING = (Phase.OPENING, Phase.RECEIVING, Phase.RESYNCING)
"""The server has an OPENED to send, or the rest of an answer."""

_ANSWERED = (Phase.LIVE, Phase.RECEIVING, Phase.RESYNCING, Phase.CLOSED, Phase.BLOCKED)

PHASES: dict[Phase, tuple[Phase, ...]] = {
    Phase.CLOSED: (Phase.OPENING, Phase.BLOCKED),
    Phase.OPENING: (Phase.OPENING, *_ANSWERED),
    Phase.RECEIVING: (Phase.OPENING, *_ANSWERED),
    Phase.LIVE: (Phase.OPENING, *_ANSWERED),
    Phase.RESYNCING: (Phase.OPENING, *_ANSWERED),
    Phase.BLOCKED: (Phase.OPENING, Phase.CLOSED, Phase.BLOCKED),
}

_S = TypeVar("_S", Link, Phase)


def move(table: dict[_S, tuple[_S, ...]], old: _S, new: _S) -> _S:
    """`new`, which `table` must list as a successor of `old`: anything else is our own mistake."""
    assert new in table[old], f"no way from {old} to {new}"
    return new


def standing(phase: Phase, reason: str | None, *, is_pending: bool) -> Status:
    """What the app is told of a document in this phase; `reason` says what blocks it, None if nothing does."""
    if reason is not None:
        return Status(State.BLOCKED, reason)
    match phase:
        case Phase.CLOSED:
            return Status(State.OFFLINE)
        case Phase.LIVE:
            return Status(State.SYNCING if is_pending else State.CURRENT)
        case Phase.OPENING | Phase.RECEIVING | Phase.RESYNCING:
            return Status(State.SYNCING)
        case Phase.BLOCKED:
            raise AssertionError("a blocked document has a reason")
        case _:
            assert_never(phase)
