"""What a device tells the operator of itself: REPORT, now and then, along with something else that is sent."""

from __future__ import annotations

from dataclasses import dataclass

from client_sim.core.counters import Counters
from client_sim.core.pending import Pending
from crdt.protocol.frames import Report

FIRST_S = 60.0
"""Not sooner after the start, but for a device that did not end well the last time."""
EVERY_S = 900.0


@dataclass(frozen=True, slots=True)
class About:
    """What kind of device it is. `crashes` is how often the app ended uncleanly since it was told of last."""

    platform: str
    version: str
    crashes: int = 0


class Reporter:
    """Counts are since the report before: the server adds them up. One that is lost on its way is lost."""

    def __init__(self, about: About | None, counters: Counters) -> None:
        self._about = about
        self._counters = counters
        self._crashes = about.crashes if about else 0
        self._due_at: float | None = None
        self._told = self._counts()

    def _counts(self) -> dict[str, int]:
        counters = self._counters
        return {
            "sync_failures": counters.sync_failures,
            "retries": counters.retries,
            "bytes_up": counters.bytes_up,
            "bytes_down": counters.bytes_down,
        }

    def is_due(self, now: float) -> bool:
        """Only a device that was current has something to tell."""
        if self._due_at is None:
            self._due_at = now + FIRST_S
        return (
            self._about is not None
            and self._counters.to_current_s is not None
            and (now >= self._due_at or self._crashes > 0)
        )

    def report(self, pending: Pending, now: float) -> Report:
        assert self._about is not None
        counts = self._counts()
        news = {name: count - self._told[name] for name, count in counts.items()}
        data: dict[str, object] = {"platform": self._about.platform, "version": self._about.version, **news}
        data |= {"crashes": self._crashes, "outbox_ops": pending.count, "outbox_age_s": round(pending.age_s, 1)}
        if self._counters.to_current_s is not None:
            data["current_s"] = round(self._counters.to_current_s, 3)
        self._told, self._crashes, self._due_at = counts, 0, now + EVERY_S
        return Report(data)
