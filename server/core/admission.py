"""Who is let in when there is too much to do. Devices that are in stay, and are served first."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from crdt.errors import PeerError
from crdt.protocol.codes import Code
from crdt.protocol.frames import Hello
from server.core.session import Hold, Session, SessionState

if TYPE_CHECKING:
    from server.core.desk import Desk

CALM = 0.75
"""A server that was overloaded is so until all is below this part of what made it so."""

RETRY_AFTER_MS_MIN = 1_000

SENT_AWAY = 4
"""So many HELLOs are refused in the time in which one is looked at."""

REST_S = 0.002
"""Between two turns of HELLOs: a loop that never rests leaves commits, which are other threads' work, no time."""


@dataclass(frozen=True, slots=True)
class Pressure:
    """What there is to do, and how well it goes. Sizes in bytes, times in seconds."""

    lag_s: float = 0.0
    """How late the event loop is."""
    memory_bytes: int = 0
    """Of the process, as the system sees it; 0 if that is not known."""
    queued_bytes: int = 0
    """Updates that wait for a commit."""
    loads: int = 0
    """Documents that wait to be loaded."""


@dataclass(frozen=True, slots=True)
class AdmissionPolicy:
    """Above any of the first four nobody new is let in."""

    lag_s: float = 1.0
    memory_bytes: int = 2 << 30
    queued_bytes: int = 128 << 20
    loads: int = 1_000
    hellos: int = 4_000
    """HELLOs that wait for their turn, some ten seconds; another one is refused without a look at its token."""
    hellos_per_turn: int = 2
    """HELLOs that are answered in one turn of the event loop, between which all others are served."""
    spread_s: float = 10.0
    """Those who are refused come back spread over so long; sooner if those who wait are through sooner."""

    def is_overloaded(self, pressure: Pressure, *, was: bool) -> bool:
        """`was`: it is so until all is calm again, so that it does not flutter."""
        share = CALM if was else 1.0
        return (
            pressure.lag_s > share * self.lag_s
            or pressure.memory_bytes > share * self.memory_bytes
            or pressure.queued_bytes > share * self.queued_bytes
            or pressure.loads > share * self.loads
        )


class Door:
    """Through which every HELLO comes: at once, in its turn if many come, or not at all."""

    def __init__(self, policy: AdmissionPolicy, desk: Desk) -> None:
        self._policy = policy
        self._desk = desk
        self._waiting: deque[tuple[Session, Hello]] = deque()
        self._sent_away: deque[Session] = deque()
        """They are told so in their turn: a thousand of them are work as well."""
        self._turn_at = float("-inf")
        self._let_in = 0
        self._busy_from = 0.0
        """When a HELLO had to wait first, since none did; `_let_in_since` tells how many had their turn since."""
        self._let_in_since = 0
        self._rested_at = float("-inf")
        self._lags_s = (0.0, 0.0)
        self._memory_bytes = 0
        self.is_overloaded = False

    def __len__(self) -> int:
        """HELLOs that wait for their turn."""
        return len(self._waiting) + len(self._sent_away)

    @property
    def next_turn_at(self) -> float | None:
        """When those who wait are to be looked at, on the hub's clock."""
        return self._rested_at if len(self) else None

    def measured(self, lag_s: float, memory_bytes: int) -> None:
        """How the process does. One late turn of the loop is nothing yet: two in a row count."""
        self._lags_s = (self._lags_s[1], lag_s)
        self._memory_bytes = memory_bytes
        self._judge()

    def _judge(self) -> None:
        desk = self._desk
        pressure = Pressure(min(self._lags_s), self._memory_bytes, desk.queued_bytes, desk.loads_waiting)
        self.is_overloaded = self._policy.is_overloaded(pressure, was=self.is_overloaded)

    def lets_in(self, session: Session, hello: Hello) -> bool:
        """True if the HELLO is to be looked at now; else it waits for its turn, or to be sent away."""
        self._judge()
        if not len(self) and self._desk.now >= self._turn_at + REST_S:
            self._begin_turn()
        is_shut = self.is_overloaded or len(self._waiting) >= self._policy.hellos
        if not (is_shut or self._waiting) and self._has_room:
            self._let_in += 1
            return True
        if not len(self):
            self._busy_from, self._let_in_since = self._desk.now, 0
        session.state = SessionState.WAITING
        self._desk.hold(session, Hold.HELLO)
        if is_shut:
            self._sent_away.append(session)
        else:
            self._waiting.append((session, hello))
        return False

    def next_turn(self) -> Iterator[tuple[Session, Hello]]:
        """Those whose turn it is now, in the order in which they came. Some of the others are sent away."""
        if self._desk.now < self._rested_at or not len(self):
            return
        self._begin_turn()
        self._rested_at = self._desk.now + REST_S
        for _ in range(min(SENT_AWAY * self._policy.hellos_per_turn, len(self._sent_away))):
            self._send_away(self._sent_away.popleft())
        while self._waiting and self._has_room:
            session, hello = self._waiting.popleft()
            if self._is_there(session):
                self._let_in += 1
                self._let_in_since += 1
                self._desk.release(session, Hold.HELLO)
                yield session, hello

    def _begin_turn(self) -> None:
        self._turn_at = self._desk.now
        self._let_in = 0

    @property
    def _has_room(self) -> bool:
        """One more can be looked at in this turn, and the documents that it opens are not too many to be loaded."""
        return self._let_in < self._policy.hellos_per_turn and self._desk.loads_waiting < self._policy.loads

    def _is_there(self, session: Session) -> bool:
        """It may have gone while it waited."""
        return session.state is SessionState.WAITING and session.id in self._desk.sessions

    def _send_away(self, session: Session) -> None:
        """Each is to come back at a time of its own."""
        if self._is_there(session):
            error = PeerError(Code.OVERLOADED, "too much to do: come back later")
            drain_s, spread_s = self._way_back_s()
            wait_ms = int.from_bytes(self._desk.entropy(4)) % (int(spread_s * 1000) + 1)
            self._desk.refuse(session.id, error, retry_after_ms=RETRY_AFTER_MS_MIN + int(drain_s * 1000) + wait_ms)

    def _way_back_s(self) -> tuple[float, float]:
        """How long to stay away at least, and by how much more to differ: nobody knows how long an overload lasts, but
        a queue that is full lasts as long as it took for as many before.
        """
        most_s = self._policy.spread_s
        if self.is_overloaded or not self._let_in_since:
            return 0.0, most_s
        drain_s = len(self._waiting) * (self._desk.now - self._busy_from) / self._let_in_since
        drain_s = min(drain_s, most_s / 2)
        return drain_s, max(drain_s, min(RETRY_AFTER_MS_MIN / 1000, most_s / 2))
