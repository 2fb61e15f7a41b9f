"""What an operator can set of the core. Durations are in seconds, sizes in bytes."""

from __future__ import annotations

from dataclasses import dataclass, field

from crdt.limits import Limits
from server.core.compaction import CompactionPolicy


@dataclass(frozen=True, slots=True)
class CoreOptions:
    limits: Limits = field(default_factory=Limits)
    hello_timeout_s: float = 5.0
    proof: bool = True
    """Each connection begins with a nonce. Without, tokens that are bound to a key are refused."""
    heartbeat_s: float = 30.0
    """Told to devices; the transport keeps it."""
    expiry_warning_s: float = 60.0
    resident_bytes_max: int = 512 << 20
    """Replicas beyond this are dropped, the least recently used first."""
    tail_bytes_max: int = 64 << 10
    """Recent log entries that a room keeps in memory to answer devices that are a little behind."""
    session_queued_bytes_max: int = 4 << 20
    """A session with more than this not yet committed is not read from."""
    payload_bytes_max: int = 64 << 20
    """Chunked answers that are kept so that they can be resumed."""
    goaway_spread_s: float = 10.0
    sweep_s: float = 60.0
    """How often idle documents are looked at for compaction."""
    compaction: CompactionPolicy = field(default_factory=CompactionPolicy)
