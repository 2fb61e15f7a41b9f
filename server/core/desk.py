"""What the hub and all its rooms share: the effects under way, the sessions, the time, what an operator set."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from crdt.errors import PeerError
from crdt.ids import DeviceId, DocumentId
from crdt.protocol.codec import encode
from crdt.protocol.codes import Code
from crdt.protocol.frames import PAYLOAD_ID_BYTES, Cursor, Error, ServerFrame
from server.core.effects import AwaitDrain, Close, Effect, Log, PauseReading, ResumeReading, Send
from server.core.events import SessionId
from server.core.options import CoreOptions
from server.core.ports import Meter
from server.core.session import Session, SessionState


@dataclass(frozen=True, slots=True)
class Payload:
    """A catch-up answer that travels in chunks: once all are there the device is at `cursor`."""

    id: bytes
    document: DocumentId
    device: DeviceId
    data: bytes
    cursor: Cursor


class PayloadCache:
    """Chunked answers by id, so that a device that was cut off can go on where it was. The oldest go first."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._bytes = 0
        self._payloads: OrderedDict[bytes, Payload] = OrderedDict()

    def put(self, payload: Payload) -> None:
        self._payloads[payload.id] = payload
        self._bytes += len(payload.data)
        while self._bytes > self._bytes_max:
            _, oldest = self._payloads.popitem(last=False)
            self._bytes -= len(oldest.data)

    def get(self, payload_id: bytes, document: DocumentId, device: DeviceId) -> Payload | None:
        """The payload, if it is still here and was made for this device and document."""
        payload = self._payloads.get(payload_id)
        return payload if payload and (payload.document, payload.device) == (document, device) else None


class Desk:
    """Shared by the hub and its rooms. `now` is the driver's clock at the event being handled, in seconds."""

    def __init__(self, options: CoreOptions, meter: Meter, entropy: Callable[[int], bytes]) -> None:
        self.options = options
        self.meter = meter
        self.entropy = entropy
        self.payloads = PayloadCache(options.payload_bytes_max)
        self.sessions: dict[SessionId, Session] = {}
        self.now = 0.0
        self.wall_offset_s = 0.0
        self.draining = False
        self._effects: list[Effect] = []

    def wall_s(self) -> float:
        """Seconds since 1970."""
        return self.now + self.wall_offset_s

    def wall_ms(self) -> int:
        return int(self.wall_s() * 1000)

    def take_effects(self) -> list[Effect]:
        """What the event just handled asks of the driver."""
        effects, self._effects = self._effects, []
        return effects

    def emit(self, effect: Effect) -> None:
        self._effects.append(effect)

    def send(self, session: SessionId, frame: ServerFrame, *, deflate: bool = False) -> None:
        self._effects.append(Send((session,), encode(frame, deflate=deflate)))

    def log(self, level: Literal["debug", "info", "warning", "error"], event: str, **fields: Any) -> None:
        self._effects.append(Log(level, event, fields))

    # --- errors and closes

    def refuse(
        self,
        session_id: SessionId,
        error: PeerError,
        *,
        ref: int | None = None,
        handle: int | None = None,
        retry_after_ms: int | None = None,
    ) -> None:
        """Tell a device what was wrong, and end its connection if the code says so."""
        session = self.sessions.get(session_id)
        if session is None or session.state is SessionState.CLOSING:
            return
        self.meter.refused(error.code)
        self.log("info", "refused", session=session_id, device=str(session.device), code=str(error.code))
        self.send(
            session_id,
            Error(ref, handle, error.code, error.message, error.code.retry, retry_after_ms, error.detail or None),
        )
        close_code = session.offend(error.code)
        if close_code is not None:
            self.close(session, close_code, error.code)

    def close(self, session: Session, close_code: int, reason: Code) -> None:
        """Close the connection after what was sent; nothing that still comes from it is read."""
        session.state = SessionState.CLOSING
        self.leave_all(session)
        self.emit(Close(session.id, close_code, reason))

    def leave_all(self, session: Session) -> None:
        """The session gets nothing more of any document."""
        rooms, session.rooms = session.rooms, {}
        for room in rooms.values():
            room.members.leave(session.id, session.device)

    # --- flow

    def await_drain(self, session: Session) -> None:
        """Have the session's OutboxDrained come, once, however often it is asked for."""
        if not session.awaiting_drain:
            session.awaiting_drain = True
            self.emit(AwaitDrain(session.id))

    def queued(self, session_id: SessionId, size: int) -> None:
        """`size` bytes of a session wait for a commit (negative: no longer). Stops and starts reading from it."""
        session = self.sessions.get(session_id)
        if session is None:
            return
        session.queued_bytes += size
        most = self.options.session_queued_bytes_max
        if not session.paused and session.queued_bytes > most:
            session.paused = True
            self.emit(PauseReading(session_id))
        elif session.paused and not self.draining and session.queued_bytes <= most // 2:
            session.paused = False
            self.emit(ResumeReading(session_id))

    def new_payload(self, document: DocumentId, device: DeviceId, data: bytes, cursor: Cursor) -> Payload:
        payload = Payload(self.entropy(PAYLOAD_ID_BYTES), document, device, data, cursor)
        self.payloads.put(payload)
        return payload
