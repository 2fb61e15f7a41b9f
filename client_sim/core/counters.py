"""What a device counts, for demos and reports."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Counters:
    """Since the device started. Bytes are of WebSocket messages, without framing."""

    bytes_up: int = 0
    bytes_down: int = 0
    connections: int = 0
    """Times that a server said WELCOME; all but the first are reconnects."""
    retries: int = 0
    """Connections that failed or ended as nobody wished: after each the device waits, and tries again."""
    ops_made: int = 0
    edits_merged: int = 0
    """By how many merging made what was sent less than what was made."""
    ops_acked: int = 0
    ops_resent: int = 0
    updates_received: int = 0
    catch_ups: dict[str, int] = field(default_factory=dict)
    """Answers to OPEN and RESYNC, by mode."""
    resyncs: int = 0
    heals: int = 0
    forks: int = 0
    """Times that another device turned out to have this one's identity, and this one took another."""
    rebuilds: int = 0
    """Times that the store was damaged, and was built anew."""
    evictions: int = 0
    """Documents that were taken off the device for room."""
    sync_failures: int = 0
    """Problems, of documents and of the connection, that the app was told of."""
    to_current_s: float | None = None
    """How long it took the last time from the attempt to connect until all was current, in seconds."""
    current_at: float | None = None
    """When the device last became current, by the driver's clock."""

    def caught_up(self, mode: str) -> None:
        self.catch_ups[mode] = self.catch_ups.get(mode, 0) + 1
