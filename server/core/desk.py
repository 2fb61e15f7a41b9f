"""What the hub and all its rooms share: the effects under way, the sessions, the time, what an operator set."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from crdt.errors import PeerError
from crdt.ids import DeviceId, DocumentId
from crdt.protocol.codec import encode
from crdt.protocol.codes import Code
from crdt.protocol.frames import PAYLOAD_ID_BYTES, Cursor, Error, ServerFrame
from server.core.effects import AwaitDrain, Close, Effect, Load, Log, PauseReading, ResumeReading, Send
from server.core.events import SessionId
from server.core.options import CoreOptions
from server.core.payloads import Payload, Payloads
from server.core.ports import Meter
from server.core.rates import DEBT_S_MAX, LAP_S, REHEARSAL_S, Account, Accounts, Bucket, Tariff
from server.core.session import Hold, Session, SessionState
from server.core.timers import TIMER_SLACK_S, Timer, Timers

if TYPE_CHECKING:
    from server.core.room import Room

TURN_ANSWER_BYTES = 1 << 20
"""Documents read for devices in one turn of the event loop (and one answer more): about 40 ms, deflated."""

WALL_JUMP_S = 1.0
"""A wall clock that moved more than this against ours was set, and deadlines in wall time are reckoned anew."""

PAYLOAD_LOOK_S = 0.1
"""How often it is looked whether there is memory for those who wait for some."""

REFUSAL_LOG_S = 0.1
"""A line is logged for a refusal so often at most, in the long run: the metric counts them all."""
REFUSAL_LOG_BURST_S = 10.0


class Desk:
    """Shared by the hub and its rooms. `now` is the driver's clock at the event being handled, in seconds."""

    def __init__(self, options: CoreOptions, meter: Meter, entropy: Callable[[int], bytes]) -> None:
        self.options = options
        self.meter = meter
        self.entropy = entropy
        self.payloads = Payloads(options.payload_bytes_max)
        self.accounts = Accounts(options.accounts_max, options.sessions_per_user)
        self.tariff = Tariff(options.rates)
        self.timers = Timers()
        self.sessions: dict[SessionId, Session] = {}
        self.now = 0.0
        self.wall_offset_s = 0.0
        self.draining = False
        self.loads_waiting = 0
        self.queued_bytes = 0
        self.waiting: dict[SessionId, Session] = {}
        """Sessions that go on in the next turn of the loop."""
        self.deferred: dict[DocumentId, Room] = {}
        """Rooms that go on then."""
        self._cramped: dict[DocumentId, Room] = {}
        self._crowded: dict[SessionId, Session] = {}
        self._indebted: dict[SessionId, Session] = {}
        """Gone, with something still queued."""
        self._answered_bytes = 0
        self._burst_s = options.rates.burst_s
        self._refusals = Bucket()
        self._effects: list[Effect] = []

    def wall_s(self) -> float:
        """Seconds since 1970."""
        return self.now + self.wall_offset_s

    def wall_ms(self) -> int:
        return int(self.wall_s() * 1000)

    def read_clock(self, wall_s: float) -> bool:
        """What the wall clock shows now; True if somebody has set it."""
        before_s, self.wall_offset_s = self.wall_offset_s, wall_s - self.now
        return abs(self.wall_offset_s - before_s) > WALL_JUMP_S

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
        if self._refusals.owed_s(self.now) < REFUSAL_LOG_BURST_S:
            self._refusals.charge(REFUSAL_LOG_S, self.now)
            self.log("info", "refused", session=session_id, device=str(session.device), code=str(error.code))
        told = encode(
            Error(ref, handle, error.code, error.message, error.code.retry, retry_after_ms, error.detail or None)
        )
        self.emit(Send((session_id,), told))
        self.charge_answer(session, len(told))
        close_code = session.offend(error.code, self.options.offences_max)
        if close_code is not None:
            self.close(session, close_code, error.code)

    def close(self, session: Session, close_code: int, reason: Code) -> None:
        """Close the connection after what was sent; nothing that still comes from it is read."""
        session.state = SessionState.CLOSING
        session.holds.clear()
        self.leave_all(session)
        self.emit(Close(session.id, close_code, reason))

    def leave_all(self, session: Session) -> None:
        """The session gets nothing more of any document."""
        rooms, session.rooms = session.rooms, {}
        for room in rooms.values():
            room.members.leave(session.id, session.device)

    # --- sessions come and go

    def enter(self, session: Session) -> None:
        """It is known whose device this is: it has what the device's other connections left. Raises PeerError."""
        session.account = self.accounts.enter(session)
        self.make_wait(session)
        self._judge_queue(session, session.account.queued_bytes)

    def depart(self, session: Session) -> None:
        """The socket is gone."""
        session.state = SessionState.CLOSING
        session.holds.clear()
        self.leave_all(session)
        del self.sessions[session.id]
        self.waiting.pop(session.id, None)
        self._crowded.pop(session.id, None)
        if session.queued_bytes:
            self._indebted[session.id] = session
        self.accounts.leave(session, self.now)

    # --- who is read from

    def hold(self, session: Session, why: Hold) -> None:
        """Read no more of a session until this reason is gone, and all others."""
        if session.state is SessionState.CLOSING or why in session.holds:
            return
        if not session.holds:
            self.emit(PauseReading(session.id))
        session.holds.add(why)
        self.meter.held(why.value)

    def release(self, session: Session, why: Hold) -> None:
        if why not in session.holds:
            return
        session.holds.remove(why)
        if not session.holds:
            self.emit(ResumeReading(session.id))
        elif session.holds == {Hold.ASKED}:
            self.waiting[session.id] = session

    def charge(self, account: Account, cost_s: float) -> None:
        """A device has had `cost_s` seconds of its share: it is slowed down if that is too much."""
        owed_s = account.used.charge(cost_s, self.now)
        account.lap_s += cost_s
        if account.lap_s > LAP_S or owed_s > self._burst_s:
            self._slow_down(account)

    def charge_answer(self, session: Session, size: int) -> None:
        """So many bytes were read for a device, or told to it."""
        if session.account is not None:
            self.charge(session.account, self.tariff.answer_s(size))

    def charge_structs(self, session_id: SessionId, structs: int) -> None:
        """So many structs and delete ranges of a device were checked."""
        if cost_s := self.tariff.structs_s(structs):
            self._charge_session(session_id, cost_s)

    def charge_rehearsal(self, session_id: SessionId) -> None:
        self._charge_session(session_id, REHEARSAL_S)

    def _charge_session(self, session_id: SessionId, cost_s: float) -> None:
        session = self.sessions.get(session_id)
        if session is not None and session.account is not None:
            self.charge(session.account, cost_s)

    def _slow_down(self, account: Account) -> None:
        session = account.session
        account.lap_s = 0.0
        account.used.forgive(self._burst_s + DEBT_S_MAX, self.now)
        if session is None or Hold.RATE in session.holds:
            return
        if account.used.owed_s(self.now) > self._burst_s:
            self.make_wait(session)
        else:
            self.hold(session, Hold.TURN)
            self.waiting[session.id] = session

    def make_wait(self, session: Session) -> None:
        """Hold a session for as long as its device owes too much, if it does."""
        assert session.account is not None
        over_s = session.account.used.owed_s(self.now) - self._burst_s
        if over_s <= TIMER_SLACK_S:
            self.release(session, Hold.RATE)
            return
        self.hold(session, Hold.RATE)
        self.timers.set(self.now + over_s, Timer.RATE, session.id)

    def queued(self, session_id: SessionId, size: int) -> None:
        """`size` bytes of a session wait for a commit (negative: no longer). Stops and starts reading from its device.

        What a lost connection left behind counts for the device's next one.
        """
        self.queued_bytes += size
        session = self.sessions.get(session_id) or self._indebted.get(session_id)
        if session is None or session.account is None:
            return
        session.queued_bytes += size
        session.account.queued_bytes += size
        if not session.queued_bytes:
            self._indebted.pop(session_id, None)
        if session.account.session is not None:
            self._judge_queue(session.account.session, session.account.queued_bytes)
        if self._crowded and self.queued_bytes <= self.options.queued_bytes_max // 2:
            self._crowd_is_gone()

    def _judge_queue(self, session: Session, queued_bytes: int) -> None:
        most = self.options.session_queued_bytes_max
        if queued_bytes > most:
            self.hold(session, Hold.QUEUE)
        elif queued_bytes and self.queued_bytes > self.options.queued_bytes_max:
            self.hold(session, Hold.QUEUE)
            self._crowded[session.id] = session
        elif session.holds and queued_bytes <= most // 2 and session.id not in self._crowded:
            self.release(session, Hold.QUEUE)

    def _crowd_is_gone(self) -> None:
        """All together wait for less again."""
        crowd, self._crowded = self._crowded, {}
        for session in crowd.values():
            if session.account is not None:
                self._judge_queue(session, session.account.queued_bytes)

    # --- documents are loaded, and read for devices

    def load(self, document: DocumentId) -> None:
        """Have a document loaded; `loads_waiting` counts until the hub has been answered."""
        self.loads_waiting += 1
        self.emit(Load(document))

    def ask(self, session_id: SessionId, change: int) -> None:
        """A request of a session waits for its answer (1), or no longer (-1)."""
        session = self.sessions.get(session_id)
        if session is not None:
            session.asked += change
            if session.holds == {Hold.ASKED}:
                self.waiting[session_id] = session

    @property
    def may_answer(self) -> bool:
        """What was read for all devices in this turn of the loop leaves time for more."""
        return self._answered_bytes < TURN_ANSWER_BYTES

    def answered(self, session: Session, size: int) -> None:
        """So many bytes of a document were read for a device."""
        self._answered_bytes += size
        self.charge_answer(session, size)

    def defer(self, room: Room) -> None:
        """Have the room advance in the next turn."""
        self.deferred[room.document] = room

    def await_payload(self, room: Room) -> None:
        """Have the room advance when there may be memory for another chunked answer."""
        if not self._cramped:
            self.timers.set(self.now + PAYLOAD_LOOK_S, Timer.PAYLOADS)
        self._cramped[room.document] = room

    def payloads_are_due(self) -> None:
        self.deferred |= self._cramped
        self._cramped = {}

    def next_turn(self) -> tuple[list[Session], list[Room]]:
        """A turn begins: the sessions and the rooms that waited for it."""
        sessions, rooms = list(self.waiting.values()), list(self.deferred.values())
        self.waiting, self.deferred, self._answered_bytes = {}, {}, 0
        return sessions, rooms

    # --- what is sent to a device

    def await_drain(self, session: Session) -> None:
        """Have the session's OutboxDrained come, once, however often it is asked for."""
        if not session.awaiting_drain:
            session.awaiting_drain = True
            self.emit(AwaitDrain(session.id))

    def new_payload(self, document: DocumentId, device: DeviceId, data: bytes, cursor: Cursor) -> Payload:
        payload = Payload(self.entropy(PAYLOAD_ID_BYTES), document, device, data, cursor)
        self.payloads.put(payload, self.now)
        return payload
