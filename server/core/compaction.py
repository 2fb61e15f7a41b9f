"""When a document's log is worth folding into a snapshot."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from server.core.records import LogEntry

PATIENCE = 5
"""How much more of a log is borne while it is young."""


@dataclass(frozen=True, slots=True)
class CompactionPolicy:
    """A log is folded when it is long, or large beside its snapshot, or has lain about for long.

    That of a document that is being written a lot may grow to `PATIENCE` times as much before it is `rest_s` old: to
    fold it each second would cost more than its edits.

    Each compaction writes the whole state, so the bytes that trigger it grow with the snapshot: over a document's life
    about as much is written by compaction as was by its edits.
    """

    entries_max: int = 2_000
    bytes_min: int = 256 << 10
    snapshot_factor: float = 1.0
    age_s: float = 24 * 3600.0
    entries_min: int = 32
    """A shorter log is left alone, however old."""
    rest_s: float = 60.0

    def due(self, growth: LogGrowth, now_ms: int) -> bool:
        """True if a log that grew so much since its snapshot should be folded now."""
        if growth.entries < self.entries_min:
            return False
        age_s = (now_ms - growth.since_ms) / 1000
        patience = PATIENCE if age_s < self.rest_s else 1
        if growth.entries >= patience * self.entries_max:
            return True
        if growth.update_bytes >= patience * max(self.bytes_min, self.snapshot_factor * growth.snapshot_bytes):
            return True
        return age_s >= self.age_s


@dataclass(slots=True)
class LogGrowth:
    """How much a log has grown since its snapshot. `since_ms` is the first entry's time, 1970 UTC."""

    snapshot_bytes: int = 0
    entries: int = 0
    update_bytes: int = 0
    since_ms: int = 0

    def restart(self, snapshot_bytes: int, later: Iterable[LogEntry] = ()) -> None:
        """There is a snapshot of that size, and these are the entries after it."""
        self.snapshot_bytes, self.entries, self.update_bytes, self.since_ms = snapshot_bytes, 0, 0, 0
        for entry in later:
            self.add(entry.update_bytes, entry.time_ms)

    def put_off(self) -> None:
        """It could not be folded: that is tried again when it has grown as much once more."""
        self.restart(self.snapshot_bytes)

    def add(self, update_bytes: int, time_ms: int) -> None:
        """One more entry."""
        if not self.entries:
            self.since_ms = time_ms
        self.entries += 1
        self.update_bytes += update_bytes
