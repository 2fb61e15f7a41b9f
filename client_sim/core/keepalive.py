"""Whether the connection still lives, for as few wake-ups of the radio as the network allows.

A NAT forgets a connection that was quiet for too long, and nobody is told. So a device that hears nothing PINGs, and
learns from the answers how long each network lets it be quiet: the interval grows while PINGs are answered, from
START_S by GROWTH to CEILING_S at most (or to the server's heartbeat, if that is shorter), and after a death in
silence it stays within what was answered, FLOOR_S at least.

A dead connection is noticed within PROBE_S + ANSWER_S of the first thing that is sent on it, and within the interval
and ANSWER_S where nothing is; plus the time that what was sent takes at SLOW_BYTES_PER_S. Where that was not long
enough once, the next one gets twice ANSWER_S, up to ANSWER_S_MAX, until answers come soon again: networks stall, and a
new connection would stall with them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

START_S = 45.0
FLOOR_S = 20.0
CEILING_S = 900.0
GROWTH = 1.5
SAFE_FRACTION = 0.8
"""Of a silence that was too long: no longer one is tried."""
PINGS_TO_DOUBT = 10
PINGS_TO_DOUBT_MAX = 160

OPTION_QUIET = "quiet_s"
QUIET_S = 1_000
"""HELLO's option: how long this device may be silent, which sees to its connection itself."""

PROBE_S = 10.0
"""What was asked and not answered for so long is followed by a PING."""
ANSWER_S = 20.0
ANSWER_S_MAX = 160.0
"""A PING is answered within this, or by nobody."""
SLOW_BYTES_PER_S = 8 << 10
"""Nobody is taken for dead for being slower to receive than this."""
BLAME_S = 120.0
"""Who is connected again so soon after a death in silence was cut off by a network that had forgotten it."""


@dataclass(slots=True)
class _Lesson:
    """What is known of one network: `interval_s` is used next, `answered_s` worked, `fatal_s` did not.

    A connection may have died of something else than silence, so what was fatal is tried again: after PINGS_TO_DOUBT
    answers as close to it as is dared, and twice as many for each time that it was fatal again.
    """

    interval_s: float = field(default_factory=lambda: START_S)
    answered_s: float = 0.0
    fatal_s: float = CEILING_S / SAFE_FRACTION
    answer_s: float = field(default_factory=lambda: ANSWER_S)
    answers: int = 0
    doubts_after: int = PINGS_TO_DOUBT

    @property
    def limit_s(self) -> float:
        return min(SAFE_FRACTION * self.fatal_s, CEILING_S)

    def survived(self, quiet_s: float) -> None:
        self.answered_s = max(self.answered_s, quiet_s)
        if quiet_s < 0.9 * self.interval_s:
            return
        if self.interval_s >= self.limit_s:
            self.answers += 1
        if self.answers >= self.doubts_after:
            self.fatal_s, self.answers = min(GROWTH * self.fatal_s, CEILING_S / SAFE_FRACTION), 0
        self.interval_s = max(FLOOR_S, min(GROWTH * self.interval_s, self.limit_s))

    def died(self, quiet_s: float) -> None:
        if self.fatal_s < CEILING_S / SAFE_FRACTION:
            self.doubts_after = min(2 * self.doubts_after, PINGS_TO_DOUBT_MAX)
        self.fatal_s, self.answers = quiet_s, 0
        self.answered_s = min(self.answered_s, SAFE_FRACTION * quiet_s)
        self.interval_s = max(FLOOR_S, self.answered_s, 0.5 * quiet_s)


class KeepAlive:
    """Of one connection at a time; what networks taught stays. Times are of the driver's clock."""

    def __init__(self) -> None:
        self._lessons: dict[str | None, _Lesson] = {}
        self.network: str | None = None
        self._heartbeat_s: float | None = None
        self._heard_at = 0.0
        self._quiet_s: float | None = None
        """How long it was quiet before the PING that awaits its answer."""
        self._probe_at: float | None = None
        self._answer_by: float | None = None
        self._pings = 0
        self._pinged_at = 0.0
        self._suspect: tuple[float, float] | None = None
        """A silence that a connection did not survive, and when that was noticed."""

    @property
    def interval_s(self) -> float:
        """How long it may be quiet now before a PING."""
        learnt = self._lesson.interval_s
        return min(learnt, self._heartbeat_s) if self._heartbeat_s else learnt

    @property
    def _lesson(self) -> _Lesson:
        return self._lessons.setdefault(self.network, _Lesson())

    def use(self, network: str | None) -> None:
        """The device is on another network, by whatever name the app gives it."""
        self.network, self._suspect = network, None

    def begin(self, heartbeat_s: float, now: float) -> None:
        """WELCOME has come. `heartbeat_s` is how often the server wants to hear something; 0: it does not mind."""
        if self._suspect is not None:
            quiet_s, when = self._suspect
            if now - when < BLAME_S:
                self._lesson.died(quiet_s)
            self._suspect = None
        self._heartbeat_s = heartbeat_s
        self._quiet_s = self._probe_at = self._answer_by = None
        self._heard_at = now

    def end(self) -> None:
        self._heartbeat_s = None

    def heard(self, now: float) -> None:
        """A message came: the connection lives."""
        if self._heartbeat_s is None:
            return
        if self._quiet_s is not None:
            self._lesson.survived(self._quiet_s)
        if self._answer_by is not None and now - self._pinged_at < ANSWER_S / 2:
            self._lesson.answer_s = max(ANSWER_S, self._lesson.answer_s / 2)
        self._quiet_s = self._probe_at = self._answer_by = None
        self._heard_at = now

    def asked(self, size: int, now: float) -> None:
        """Something was sent that will be answered; `size` in bytes."""
        if self._heartbeat_s is None:
            return
        if self._probe_at is None:
            self._probe_at = now + PROBE_S
        self._probe_at += size / SLOW_BYTES_PER_S
        if self._answer_by is not None:
            self._answer_by += size / SLOW_BYTES_PER_S

    def doubt(self, now: float) -> None:
        """The connection may be dead: find out."""
        if self._heartbeat_s is not None and self._answer_by is None:
            self._probe_at = now

    def _ping_at(self) -> float | None:
        if self._heartbeat_s is None or self._answer_by is not None:
            return None
        if self._probe_at is not None:
            return self._probe_at
        return self._heard_at + self.interval_s if self._heartbeat_s else None

    def ping_due(self, now: float) -> int | None:
        """The number of a PING to send now."""
        due = self._ping_at()
        if due is None or now < due:
            return None
        if self._probe_at is None:
            self._quiet_s = now - self._heard_at
        self._pinged_at = now
        self._answer_by = now + self._lesson.answer_s
        self._pings += 1
        return self._pings

    def is_dead(self, now: float) -> bool:
        """True if nobody has answered; what that says of the network shows when the device is connected again."""
        if self._heartbeat_s is None or self._answer_by is None or now < self._answer_by:
            return False
        if self._quiet_s is not None:
            self._suspect = (self._quiet_s, now)
        self._lesson.answer_s = min(2 * self._lesson.answer_s, ANSWER_S_MAX)
        return True

    def deadline(self) -> float | None:
        return None if self._heartbeat_s is None else self._answer_by or self._ping_at()
