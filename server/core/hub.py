"""All sessions and rooms of one server process: routes frames, keeps time, commits in groups.

`handle(event, now)` is synchronous and total: it never raises for anything that a peer or a disk did.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, assert_never

from crdt.errors import PeerError
from crdt.ids import DocumentId
from crdt.protocol import frames
from crdt.protocol.codes import Code
from crdt.protocol.frames import Access, DeviceFrame
from server.core import events
from server.core.admission import Door
from server.core.audits import AuditRequest
from server.core.auth import Authority
from server.core.batch import Outcome, measure
from server.core.desk import Desk
from server.core.effects import Append, DoubtKeys, Drained, Effect, GiveBack, ImportFinished
from server.core.events import Event, SessionId
from server.core.gate import Gate
from server.core.membership import OpenRequest
from server.core.options import CoreOptions
from server.core.ports import Levels, Meter
from server.core.presence import Presences
from server.core.reading import frames_in
from server.core.records import DocumentAppend
from server.core.reports import INTERVAL_S as REPORT_INTERVAL_S
from server.core.reports import read_report
from server.core.room import Room
from server.core.rooms import Rooms
from server.core.session import Hold, Session, SessionState
from server.core.timers import Timer

COMMIT_BYTES = 512 << 10
"""About what one commit takes of all documents together, counted as a queue is: applying it holds up the loop."""

AT_ONCE = float("-inf")


class Hub:
    """The server. `entropy(n)` gives n random bytes."""

    def __init__(
        self, options: CoreOptions, authority: Authority, meter: Meter, entropy: Callable[[int], bytes]
    ) -> None:
        self._desk = Desk(options, meter, entropy)
        self._options = options
        self._rooms = Rooms(self._desk)
        self._dirty: dict[DocumentId, Room] = {}
        self._committing: list[Room] = []
        self._commit_started_s = 0.0
        self._batch_entries = 0
        self._timers = self._desk.timers
        self._door = Door(options.admission, self._desk)
        self._presences = Presences(self._desk)
        self._gate = Gate(self._desk, authority, self._timers)
        self._timers.set(AT_ONCE, Timer.SWEEP)
        self._drained = False

    def handle(self, event: Event, now: float) -> list[Effect]:
        """What follows from an event at `now` (seconds, any origin, never backwards)."""
        self._desk.now = now
        self._dispatch(event)
        if self._desk.draining:
            self._finish_drain()
        return self._desk.take_effects()

    def next_deadline(self) -> float | None:
        """When TimePassed is due at the latest; in the past when a commit can begin (as soon as the loop is idle)."""
        return AT_ONCE if self._dirty and not self._committing else self._next_due()

    def may_gather(self, now: float) -> bool:
        """A commit can begin and nothing else is due: nobody but who is in it waits if it waits for more."""
        due = self._next_due()
        return bool(self._dirty) and not self._committing and (due is None or due > now)

    def _next_due(self) -> float | None:
        if self._desk.waiting or self._desk.deferred:
            return AT_ONCE
        return min((due for due in (self._timers.next(), self._door.next_turn_at) if due is not None), default=None)

    def trust(self, authority: Authority) -> None:
        """Verify tokens against these keys from now on."""
        self._gate.authority = authority

    def levels(self) -> Levels:
        desk, door = self._desk, self._door
        return Levels(
            len(self._gate), len(self._rooms), self._rooms.resident_bytes,
            desk.queued_bytes, desk.loads_waiting, len(door), door.is_overloaded,
        )  # fmt: skip

    def _dispatch(self, event: Event) -> None:  # noqa: C901 - one line for each thing that can happen
        match event:
            case events.MessagesReceived(session, messages):
                self._messages(session, messages)
            case events.TimePassed():
                self._time_passed()
            case events.Appended(results):
                self._appended({result.document: result.committed for result in results})
            case events.AppendFailed():
                self._appended(None)
            case events.SocketOpened():
                self._socket_opened(event)
            case events.SocketClosed(session):
                self._socket_closed(session)
            case events.OutboxOverfull(session):
                self._overfull(session)
            case events.OutboxDrained(session):
                self._outbox_drained(session)
            case events.DocumentLoaded(document, stored):
                self._loaded(document, lambda room: room.loaded(stored))
            case events.LoadFailed(document, corrupt):
                self._loaded(document, lambda room: room.load_failed(corrupt))
            case events.Rehearsed(document, tried, error):
                self._with_room(document, lambda room: room.rehearsed(tried, error))
            case events.Inspected(document, cursor, packed):
                self._with_room(document, lambda room: room.inspected(cursor, packed))
            case events.DigestRead(document, cursor, digest):
                self._with_room(document, lambda room: room.members.digest_read(cursor, digest))
            case events.Compacted(document, seq, snapshot_bytes):
                self._rooms.compacted(document, seq, snapshot_bytes)
            case events.CompactionFailed(document):
                self._rooms.compaction_failed(document)
            case events.EpochBegun(document):
                self._with_room(document, Room.epoch_begun)
            case events.EpochFailed(document):
                self._with_room(document, lambda room: room.load_failed(None))
            case events.LogGrew(document, cursor):
                self._with_room(document, lambda room: room.grew_elsewhere(cursor))
            case events.ImportRequested(request, document, update):
                self._import(request, document, update)
            case events.RevocationsRead(devices):
                self._rooms.drop_queued(self._gate.shut_out(devices))
            case events.DrainRequested():
                self._drain()
            case events.ClockRead(wall_s):
                if self._desk.read_clock(wall_s):
                    self._gate.clock_was_set()
            case events.PressureMeasured(lag_s, memory_bytes):
                self._door.measured(lag_s, memory_bytes)
            case _:
                assert_never(event)

    # --- sessions

    def _socket_opened(self, opened: events.SocketOpened) -> None:
        session = Session(opened.session, opened.bearer, opened.ephemeral)
        self._desk.sessions[session.id] = session
        self._gate.opened(session)

    def _socket_closed(self, session_id: SessionId) -> None:
        session = self._desk.sessions.get(session_id)
        if session is not None:
            self._desk.depart(session)
            self._gate.closed(session)

    def _messages(self, session_id: SessionId, messages: Sequence[bytes]) -> None:
        session = self._desk.sessions.get(session_id)
        if session is None:
            return
        taken = 0
        for read, size, count in frames_in(messages, self._options.limits):
            taken += count
            if session.state is SessionState.CLOSING:
                return
            try:
                if (frame := session.allowed(read)) is not None:
                    self._frame(session, frame, size)
                    if session.account is not None:
                        self._desk.charge(session.account, self._desk.tariff.message_s(frame, size))
            except PeerError as exc:
                self._blame(session, exc)
            if session.holds and taken < len(messages):
                self._desk.emit(GiveBack(session.id, messages[taken:]))
                return

    def _blame(self, session: Session, error: PeerError) -> None:
        self._desk.refuse(session.id, error)
        if error.code is Code.BAD_TOKEN:
            self._desk.emit(DoubtKeys())

    def _frame(self, session: Session, frame: DeviceFrame, size: int) -> None:
        match frame:
            case frames.Push():
                self._push(session, frame)
            case frames.Hello():
                if self._door.lets_in(session, frame):
                    self._let_in(session, frame)
            case frames.Open() | frames.Resync() | frames.Audit():
                session.asks.append(frame)
                self._serve(session)
            case frames.Leave(handle):
                self._leave(session, handle)
            case frames.Presence(handle, payload):
                self._presences.show(session, handle, payload)
            case frames.Auth(token):
                self._auth(session, token)
            case frames.Ping(n):
                self._desk.send(session.id, frames.Pong(n, self._desk.wall_ms()))
            case frames.Report(data):
                self._report(session, data, size)
            case _:
                assert_never(frame)

    # --- who it is

    def _let_in(self, session: Session, hello: frames.Hello) -> None:
        """Who it is, and what it has open. Raises PeerError."""
        self._gate.greet(session, hello)
        if session.state is SessionState.READY:
            session.asks.extend(hello.opens)
            self._serve(session)

    def _auth(self, session: Session, token: str) -> None:
        claims = self._gate.renew(session, token)
        for handle, room in list(session.rooms.items()):
            match claims.access(room.document):
                case None:
                    room.drop_queued(session.device)
                    self._leave(session, handle)
                    self._desk.refuse(session.id, _forbidden(), handle=handle)
                case Access.READ:
                    room.forbid_writing(session.id, session.device)
                case Access.WRITE:
                    pass

    # --- documents on a session

    def _serve(self, session: Session) -> None:
        """Look at what a session asks for, as far as it may ask: what comes after that is not read yet."""
        while session.asks and self._may_ask(session):
            match session.asks.popleft():
                case frames.Open() as opened:
                    self._open(session, opened)
                case frames.Resync() as resync:
                    self._resync(session, resync)
                case frames.Audit() as audit:
                    self._audit(session, audit)
        if session.asks:
            self._desk.hold(session, Hold.ASKED)
        else:
            self._desk.release(session, Hold.ASKED)

    def _may_ask(self, session: Session) -> bool:
        is_free = session.state is SessionState.READY and session.holds <= {Hold.ASKED}
        return is_free and session.asked < self._options.asked_max

    def _open(self, session: Session, opened: frames.Open) -> None:
        try:
            room = self._admit(session, opened.doc)
        except PeerError as exc:
            self._desk.refuse(session.id, exc, ref=opened.ref)
            return
        session.rooms[room.handle] = room
        room.members.request(
            OpenRequest(session.id, session.device, opened.ref, opened.cursor, opened.state_vector, opened.resume)
        )
        room.advance()

    def _admit(self, session: Session, name: str) -> Room:
        """The room of a document that the session may open. Raises PeerError."""
        try:
            document = DocumentId.parse(name, session.device.user)
        except ValueError as exc:
            raise PeerError(Code.FORBIDDEN, "that is no document's name") from exc
        if session.access(document) is None:
            raise _forbidden()
        known = self._rooms.find(document)
        is_open = known is not None and known.handle in session.rooms
        if not is_open and len(session.rooms) >= self._options.limits.documents_per_session:
            raise PeerError(Code.FORBIDDEN, "too many documents are open: leave one first")
        return self._rooms.use(document)

    def _push(self, session: Session, push: frames.Push) -> None:
        room = session.rooms.get(push.handle)
        if room is None:
            self._not_open(session, push.handle, op=push.first_op)
            return
        access = session.access(room.document)
        assert access is not None, "a document without access is left when the token changes"
        room.push(session.id, session.device, access, push)
        if room.wants_commit:
            self._dirty[room.document] = room

    def _not_open(self, session: Session, handle: int, **detail: int) -> None:
        """A frame for a document that is not open here: it crossed a LEAVE, or an ERROR that took the document away."""
        error = PeerError(Code.FORBIDDEN, "the document is not open on this session", **detail)
        self._desk.refuse(session.id, error, handle=handle)

    def _leave(self, session: Session, handle: int) -> None:
        room = session.rooms.pop(handle, None)
        if room is not None:
            room.members.leave(session.id, session.device)

    def _resync(self, session: Session, resync: frames.Resync) -> None:
        room = session.rooms.get(resync.handle)
        if room is None:
            self._not_open(session, resync.handle)
            return
        if not session.ephemeral:  # for others it is the way to ask
            self._desk.meter.resynced()
        request = OpenRequest(
            session.id, session.device, frames.SERVER_REF, resync.cursor, resync.state_vector, wants_state_vector=True
        )
        room.members.request(request)
        room.advance()

    def _audit(self, session: Session, audit: frames.Audit) -> None:
        room = session.rooms.get(audit.handle)
        if room is None:
            self._not_open(session, audit.handle)
            return
        if not room.busy:
            room.members.request(AuditRequest(session.id, session.device, audit.seq, audit.digest))
            room.advance()

    def _report(self, session: Session, data: dict[str, Any], size: int) -> None:
        if size > self._options.limits.report_bytes:
            raise PeerError(Code.TOO_BIG, f"a report has at most {self._options.limits.report_bytes} bytes")
        if session.reported_at is None or self._desk.now - session.reported_at >= REPORT_INTERVAL_S:
            session.reported_at = self._desk.now
            self._desk.meter.reported(read_report(data))

    # --- slow readers

    def _overfull(self, session_id: SessionId) -> None:
        session = self._desk.sessions.get(session_id)
        if session is None:
            return
        self._desk.meter.resynced()
        session.congested = True
        for room in session.rooms.values():
            room.members.stall(session.device)
        self._desk.await_drain(session)

    def _outbox_drained(self, session_id: SessionId) -> None:
        session = self._desk.sessions.get(session_id)
        if session is None:
            return
        session.awaiting_drain = session.congested = False
        for room in list(session.rooms.values()):
            room.members.drained(session.device)

    # --- commits

    def _time_passed(self) -> None:
        """A turn of the loop begins."""
        sessions, rooms = self._desk.next_turn()
        for room in rooms:
            room.advance()
            self._after(room)
        for session in sessions:
            self._desk.release(session, Hold.TURN)
            self._serve(session)
        for session, hello in self._door.next_turn():
            try:
                self._let_in(session, hello)
            except PeerError as exc:
                self._blame(session, exc)
        while due := self._timers.pop_due(self._desk.now):
            self._timer_fired(*due)
        if self._dirty and not self._committing:
            self._begin_commit()

    def _begin_commit(self) -> None:
        """Every room with something queued goes into one append; what comes meanwhile waits for the next."""
        dirty, self._dirty = self._dirty, {}
        batch: list[DocumentAppend] = []
        left = COMMIT_BYTES
        for document, room in dirty.items():
            if left <= 0:
                self._dirty[document] = room
                continue
            waited_bytes = self._desk.queued_bytes
            append = room.begin_commit()
            left -= waited_bytes - self._desk.queued_bytes
            if append is None:  # what was queued has gone, and others may have waited behind it
                room.advance()
                self._after(room)
                continue
            batch.append(append)
            self._committing.append(room)
        if batch:
            self._commit_started_s = self._desk.now
            entries = [entry for append in batch for entry in append.entries]
            self._batch_entries = len(entries)
            self._desk.meter.received(sum(entry.last_op - entry.first_op + 1 for entry in entries))
            self._desk.emit(Append(tuple(batch)))

    def _appended(self, committed: dict[DocumentId, bool] | None) -> None:
        """The append under way has reported: by document, or None if nobody knows."""
        rooms, self._committing = self._committing, []
        self._desk.meter.committed(self._batch_entries, self._desk.now - self._commit_started_s)
        if committed is None:
            self._desk.log("error", "append_failed", documents=len(rooms))
        outcomes: list[Outcome] = []
        for room in rooms:
            if committed is None:
                room.commit_failed()
            elif outcome := room.commit_done(committed=committed[room.document]):
                outcomes.append(outcome)
            self._after(room)
        measure(outcomes, self._desk.meter, self._desk.now)
        self._rooms.evict()

    # --- rooms

    def _with_room(self, document: DocumentId, act: Callable[[Room], None]) -> None:
        room = self._rooms.find(document)
        if room is not None:
            act(room)
            self._after(room)

    def _loaded(self, document: DocumentId, act: Callable[[Room], None]) -> None:
        """Storage has answered Load, one way or the other."""
        self._desk.loads_waiting -= 1
        self._with_room(document, act)
        self._rooms.evict()

    def _after(self, room: Room) -> None:
        """A room has changed: commit what it has queued, compact it if that is due, count what it takes."""
        if room.wants_commit:
            self._dirty[room.document] = room
        self._rooms.changed(room)

    def _import(self, request: int, document: DocumentId, update: bytes) -> None:
        if self._desk.draining:
            self._desk.emit(ImportFinished(request, 0, "the server is shutting down"))
            return
        room = self._rooms.use(document)
        room.import_update(request, update)
        self._after(room)

    # --- time and the end

    def _timer_fired(self, timer: Timer, session_id: SessionId) -> None:
        if timer is Timer.SWEEP:
            self._sweep()
            return
        if timer is Timer.PAYLOADS:
            self._desk.payloads_are_due()
            return
        session = self._desk.sessions.get(session_id)
        if session is None or session.state is SessionState.CLOSING:
            return
        match timer:
            case Timer.HELLO:
                self._gate.hello_is_due(session)
            case Timer.TOKEN:
                self._gate.watch_token(session)
            case Timer.RATE:
                self._desk.make_wait(session)
            case Timer.PRESENCE:
                self._presences.due(session)
            case _:
                assert_never(timer)

    def _sweep(self) -> None:
        for room in self._rooms:
            room.forget_gone()
            room.advance()
            self._after(room)
        self._rooms.forget_idle()
        self._desk.accounts.forget_idle(self._desk.now)
        self._timers.set(self._desk.now + self._options.sweep_s, Timer.SWEEP)

    def _drain(self) -> None:
        self._desk.draining = True
        for session in self._desk.sessions.values():
            if session.state in (SessionState.GREETING, SessionState.WAITING):
                self._desk.close(session, 1012, Code.SHUTTING_DOWN)
            elif session.state is SessionState.READY:
                self._desk.send(session.id, frames.GoAway(Code.SHUTTING_DOWN, self._spread_ms()))
                self._desk.hold(session, Hold.DRAIN)

    def _spread_ms(self) -> int:
        """A delay of its own for each device, so that they do not all return at once."""
        return int.from_bytes(self._desk.entropy(4)) % (int(self._options.goaway_spread_s * 1000) + 1)

    def _finish_drain(self) -> None:
        if self._drained or self._dirty or self._committing or any(room.unsaved for room in self._rooms):
            return
        self._drained = True
        for session in self._desk.sessions.values():
            if session.state is SessionState.READY:
                self._desk.close(session, 1012, Code.SHUTTING_DOWN)
        self._desk.emit(Drained())


def _forbidden() -> PeerError:
    return PeerError(Code.FORBIDDEN, "no grant for that document")
