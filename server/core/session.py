"""One connection: who is on it, what it may send now, and what it has open."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from typing import TYPE_CHECKING

from crdt.errors import PeerError
from crdt.ids import DeviceId, DocumentId
from crdt.protocol import frames
from crdt.protocol.codes import CLOSE, CLOSE_AFTER_OFFENCES, Code
from crdt.protocol.frames import Access, DeviceFrame
from server.core.auth import Claims
from server.core.events import SessionId

if TYPE_CHECKING:
    from server.core.rates import Account
    from server.core.room import Room


NO_DEVICE = DeviceId("", "")
"""Who is on a session before HELLO."""


class SessionState(StrEnum):
    """Where a connection is. It is forgotten once it is CLOSING and its socket is gone."""

    GREETING = "greeting"
    """The socket is up, HELLO has not come."""
    WAITING = "waiting"
    """HELLO has come, and waits its turn."""
    READY = "ready"
    CLOSING = "closing"
    """We asked the transport to close; what still comes is ignored."""


_ALLOWED: dict[SessionState, tuple[type[DeviceFrame], ...]] = {
    SessionState.GREETING: (frames.Hello,),
    SessionState.WAITING: (),
    SessionState.READY: (
        frames.Push, frames.Open, frames.Leave, frames.Presence, frames.Auth, frames.Ping, frames.Resync,
        frames.Audit, frames.Report,
    ),
    SessionState.CLOSING: (),
}  # fmt: skip


class Hold(Enum):
    """Why a session is not read from."""

    HELLO = "hello"
    """Its HELLO waits its turn."""
    ASKED = "asked"
    """It waits for as many documents as it may."""
    TURN = "turn"
    """Others go first, once."""
    RATE = "rate"
    """Its device has used more than its share."""
    QUEUE = "queue"
    """Too much waits for a commit."""
    DRAIN = "drain"
    """The server shuts down."""


@dataclass(slots=True)
class Session:
    """`rooms` are the documents it asked for, by handle, whether their OPENED has gone out or waits."""

    id: SessionId
    bearer: str | None = None
    ephemeral: bool = False
    """Its device ends with it."""
    nonce: bytes | None = None
    """What a proof has to be made over on this connection."""
    state: SessionState = SessionState.GREETING
    claims: Claims | None = None
    device: DeviceId = NO_DEVICE
    agent: str = ""
    key_thumbprint: str | None = None
    """The key that the device proved to have."""
    takeovers_s: tuple[float, ...] = ()
    """When the device's connections, up to this one, lately took over from one another."""
    deflate: bool = False
    heartbeat_s: float | None = None
    """How long it may be silent, where it asked for longer than others."""
    reported_at: float | None = None
    """When its device told of itself last."""
    wants_state_vector: bool = False
    """Each OPENED that was asked for is to tell the server's."""
    rooms: dict[int, Room] = field(default_factory=dict)
    awaiting_drain: bool = False
    congested: bool = False
    """More waits for its socket than may: its documents get no more until it has drained."""
    account: Account | None = None
    """Its device's, from HELLO on."""
    holds: set[Hold] = field(default_factory=set)
    """Its socket is read only while there are none."""
    asks: deque[frames.Open | frames.Resync | frames.Audit] = field(default_factory=deque)
    """Requests that were not looked at yet."""
    asked: int = 0
    """Requests that were looked at, and wait for their answers."""
    queued_bytes: int = 0
    presences: dict[int, bytes | None] = field(default_factory=dict)
    """What it shows, by handle, and may not show yet."""
    offences: int = 0
    warned_of_s: float = 0.0
    """The token's end that EXPIRING has told of, in seconds since 1970."""
    watched_s: float = 0.0
    """When a timer looks at the token next."""

    def access(self, document: DocumentId) -> Access | None:
        """What the session's token grants of a document now. The session must have been greeted."""
        assert self.claims is not None
        return self.claims.access(document)

    def allowed(self, frame: DeviceFrame | PeerError | None) -> DeviceFrame | None:
        """The frame, if it may come now; None stays None. Raises PeerError, or the one that came in its place."""
        if isinstance(frame, PeerError):
            raise frame
        if frame is not None and type(frame) not in _ALLOWED[self.state]:
            raise PeerError(Code.BAD_FRAME, f"{type(frame).__name__} is not allowed while {self.state}")
        return frame

    def offend(self, code: Code, offences_max: int) -> int | None:
        """Count an error that the device made; the close code if it ends the connection, as any does before WELCOME."""
        if code in CLOSE_AFTER_OFFENCES:
            self.offences += 1
            is_over = self.offences >= offences_max or self.state is not SessionState.READY
            return CLOSE_AFTER_OFFENCES[code] if is_over else None
        return CLOSE.get(code)
