"""Deadlines of sessions, as a heap. A timer that no longer matters is not taken out: who set it looks when it fires."""

from __future__ import annotations

import heapq
from enum import Enum
from itertools import count

from server.core.events import SessionId

TIMER_SLACK_S = 0.001
"""Adding and subtracting times rounds them."""


class Timer(Enum):
    HELLO = "HELLO is overdue"
    TOKEN = "the token ends, now or soon"
    RATE = "the device has paid for what it used, or nearly"
    PRESENCE = "the device may show itself again"
    PAYLOADS = "there may be memory for chunked answers"
    SWEEP = "time to look at what lies idle"


class Timers:
    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Timer, SessionId]] = []
        self._order = count()

    def set(self, when: float, timer: Timer, session: SessionId = 0) -> None:
        heapq.heappush(self._heap, (when, next(self._order), timer, session))

    def next(self) -> float | None:
        """When the first of them is due."""
        return self._heap[0][0] if self._heap else None

    def pop_due(self, now: float) -> tuple[Timer, SessionId] | None:
        """The first one that is due, if any is."""
        if not self._heap or self._heap[0][0] > now:
            return None
        _, _, timer, session = heapq.heappop(self._heap)
        return timer, session
