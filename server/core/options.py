"""What an operator can set of the core. Durations are in seconds, sizes in bytes."""

from __future__ import annotations

from dataclasses import dataclass, field

from crdt.limits import Limits
from crdt.protocol.codes import OFFENCES_MAX
from server.core.admission import AdmissionPolicy
from server.core.compaction import CompactionPolicy
from server.core.rates import Rates


@dataclass(frozen=True, slots=True)
class CoreOptions:
    limits: Limits = field(default_factory=Limits)
    hello_timeout_s: float = 10.0
    """From the WebSocket to HELLO. Half of the stalls of a 3G network last longer than 4 s, one in five than 10 s; how
    many wait for it is bounded whatever this is."""
    proof: bool = True
    """Each connection begins with a nonce. Without, tokens that are bound to a key are refused."""
    heartbeat_s: float = 30.0
    """Told to devices; the transport keeps it."""
    heartbeat_max_s: float = 1_000.0
    """A device that sees to its connection itself may ask for as long a heartbeat."""
    expiry_warning_s: float = 60.0
    resident_bytes_max: int = 512 << 20
    """Replicas beyond this are dropped, the least recently used first."""
    tail_bytes_max: int = 64 << 10
    """Recent log entries that a room keeps in memory to answer devices that are a little behind."""
    session_queued_bytes_max: int = 4 << 20
    """A device with more than this not yet committed is not read from."""
    queued_bytes_max: int = 256 << 20
    """With more than this not yet committed by all together, nobody is read from who has a part in it."""
    payload_bytes_max: int = 64 << 20
    """Chunked answers under way, and those kept so that they can be resumed; those that find no room wait."""
    asked_max: int = 8
    """A session that waits for so many documents asks for no more."""
    offences_max: int = OFFENCES_MAX
    """Bad updates, bad state vectors and the like after which a session is closed."""
    sessions_per_user: int = 64
    """Devices of one user that are connected at a time."""
    accounts_max: int = 10_000
    """Devices that are remembered after they left, until they have paid for what they used."""
    rates: Rates = field(default_factory=Rates)
    admission: AdmissionPolicy = field(default_factory=AdmissionPolicy)
    goaway_spread_s: float = 10.0
    sweep_s: float = 60.0
    """How often idle documents are looked at for compaction."""
    compaction: CompactionPolicy = field(default_factory=CompactionPolicy)
