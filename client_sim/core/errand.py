"""A background-sync window: connect, push what is pending, fetch what is missing, hang up; within a time and a size."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from client_sim.core.counters import Counters
from client_sim.core.pending import Pending
from client_sim.core.status import Link, State

HANG_UP_S = 2.0
"""Of a window's time, for the end of the connection; of a short one half at most."""
MESSAGE_BYTES = 66 << 10
"""The next message of an answer in chunks may be so long."""


class Outcome(StrEnum):
    DONE = "done"
    """All is pushed, and all is here."""
    OUT_OF_TIME = "out_of_time"
    OUT_OF_BYTES = "out_of_bytes"
    RESUMED = "resumed"
    """The app came to the foreground meanwhile: it goes on, without bounds."""
    BLOCKED = "blocked"
    """The rest does not come of itself: the status says why."""


@dataclass(frozen=True, slots=True)
class Done:
    """What a window did. Bytes are of WebSocket messages; `pending` is what is left of all documents."""

    outcome: Outcome
    ops_acked: int
    updates_received: int
    bytes_up: int
    bytes_down: int
    took_s: float
    pending: Pending


class Content(Protocol):
    """What a window is about: the device's documents."""

    def is_any(self, state: State) -> bool: ...

    def is_receiving(self) -> bool: ...


class Errand:
    """One window, from when it was asked for."""

    def __init__(self, within_s: float, bytes_max: int, counters: Counters, now: float) -> None:
        self.deadline = now + max(within_s - HANG_UP_S, within_s / 2)
        self.is_full = False
        """Something that had to be sent was more than was left."""
        self._bytes_max = bytes_max
        self._counters = counters
        self._began = now
        self._before = self._count()

    def _count(self) -> tuple[int, int, int, int]:
        counters = self._counters
        return counters.ops_acked, counters.updates_received, counters.bytes_up, counters.bytes_down

    @property
    def bytes_left(self) -> int:
        _, _, up, down = (now - before for now, before in zip(self._count(), self._before, strict=True))
        return self._bytes_max - up - down

    def outcome(self, link: Link, documents: Content, now: float) -> Outcome | None:
        """How it ended; None if it goes on."""
        if now >= self.deadline:
            return Outcome.OUT_OF_TIME
        if link is Link.OPEN and not documents.is_any(State.SYNCING):
            return Outcome.BLOCKED if documents.is_any(State.BLOCKED) else Outcome.DONE
        if self.bytes_left < (MESSAGE_BYTES if documents.is_receiving() else 1) or self.is_full:
            return Outcome.OUT_OF_BYTES
        return Outcome.BLOCKED if link in (Link.STOPPED, Link.IDLE) else None

    def report(self, outcome: Outcome, pending: Pending, now: float) -> Done:
        acked, received, up, down = (now - before for now, before in zip(self._count(), self._before, strict=True))
        return Done(outcome, acked, received, up, down, now - self._began, pending)
