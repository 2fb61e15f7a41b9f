"""Who has a document open, and what each of them is sent.

Invariants:

 I1  What is sent to a member is in the log.
 I5  A live member has been sent every entry up to the head. One that is not live gets none until it is brought current.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeGuard

from crdt.chain import OPS_START
from crdt.errors import PeerError, ReplicaBroken
from crdt.ids import DeviceId
from crdt.limits import CHUNK_BYTES
from crdt.protocol.codec import deflate_raw, encode, encode_updates
from crdt.protocol.codes import Code, Retry
from crdt.protocol.frames import (
    SERVER_REF,
    Ack,
    Chunk,
    Cursor,
    Delta,
    DevicePresence,
    Mode,
    Opened,
    Resume,
)
from crdt.replica import Replica
from crdt.update import read_state_vector
from server.core.audits import REQUEST_BYTES, AuditRequest, Audits
from server.core.catchup import Diffs, choose
from server.core.desk import Desk
from server.core.effects import Publish, Send
from server.core.events import SessionId
from server.core.payloads import Payload
from server.core.records import LogEntry

if TYPE_CHECKING:
    from server.core.room import Room


BUSY_BYTES = 4 << 10
"""With more than this waiting for a commit, what is short is sent as it is: to deflate a list of keystrokes costs 5 us,
and a busy server spends less than 20 on each."""
LONG_BYTES = 1 << 10
"""What is this long is always deflated."""

LOOK_AGAIN_S = 5.0
"""A guest who claims to know more than the log has it read again so often at most: each time costs all members."""

_TOO_EARLY = Code.NOT_SAVED, "the device may know more than was read of the log, which is not read again so soon"


@dataclass(slots=True)
class Member:
    """A device that has the document open. While it is not `live`, `sent_seq` is the last entry that it was
    sent; None if only the device itself can tell."""

    session: SessionId
    device: DeviceId
    deflate: bool
    live: bool = False
    sent_seq: int | None = None
    payload: bytes | None = None
    """The id of an answer that goes out in chunks."""
    offset: int = 0
    """How much of `payload` went out in chunks."""
    presence: bytes | None = None
    is_outdated: bool = False
    """The epoch has changed since it last asked for the document: what it pushes has numbers of the old one."""


@dataclass(frozen=True, slots=True)
class OpenRequest:
    """An OPEN, a RESYNC (`ref` 0 and `wants_state_vector`), or a member to be brought current (`ref` 0)."""

    session: SessionId
    device: DeviceId
    ref: int
    cursor: Cursor | None
    state_vector: bytes | None
    resume: Resume | None = None
    wants_state_vector: bool = False

    @property
    def size(self) -> int:
        """About how many bytes it takes while it waits."""
        return REQUEST_BYTES + len(self.state_vector or b"")

    @property
    def is_unasked(self) -> bool:
        """The server itself wants to bring the member current."""
        return self.ref == SERVER_REF and not self.wants_state_vector

    @property
    def asks_for_head(self) -> bool:
        """It says nothing of what the device has, so it is told where the log is, and nothing of what is in it."""
        return self.cursor is None and self.state_vector is None and self.resume is None and not self.is_unasked


class Membership:
    """The members of one room, by device. Requests wait here until the room can answer: see `Room.advance`."""

    def __init__(self, room: Room, desk: Desk) -> None:
        self._room = room
        self._desk = desk
        self._members: dict[DeviceId, Member] = {}
        self._requests: list[OpenRequest | AuditRequest] = []
        self._diffs = Diffs()
        self._looks_again_s: dict[str, float] = {}
        """From when on the log may be read again for a user: one who claims to know more keeps no others waiting."""
        self._void_epoch: bytes | None = None
        """One that a device came from and the log, read again, no longer has."""
        self._audits = Audits(room, desk)

    def __len__(self) -> int:
        return len(self._members)

    def __iter__(self) -> Iterator[Member]:
        return iter(self._members.values())

    def get(self, device: DeviceId) -> Member | None:
        return self._members.get(device)

    # --- joining and leaving

    @property
    def has_requests(self) -> bool:
        return bool(self._requests)

    def request(self, request: OpenRequest | AuditRequest) -> None:
        """Answer at the next batch boundary. Until then it counts as queued: a session that asks on is not read."""
        self._requests.append(request)
        self._count(request, 1)

    def _count(self, request: OpenRequest | AuditRequest, sign: int) -> None:
        """It waits (1), or no longer (-1)."""
        self._desk.queued(request.session, sign * request.size)
        if not request.is_unasked:
            self._desk.ask(request.session, sign)

    def _take_requests(self, taken: Callable[[OpenRequest | AuditRequest], bool]) -> list[OpenRequest | AuditRequest]:
        """The requests that are to wait no longer."""
        gone = [request for request in self._requests if taken(request)]
        self._requests = [request for request in self._requests if not taken(request)]
        for request in gone:
            self._count(request, -1)
        return gone

    def answer(self, replica: Replica, *, fresh: bool) -> None:
        """Answer what waits, in order. The replica agrees with the log now (I1); `fresh`: it was read just now."""
        if not fresh:
            for early in self._take_requests(self._comes_too_early):
                assert isinstance(early, OpenRequest)
                self._refuse(early, PeerError(*_TOO_EARLY), int(LOOK_AGAIN_S * 1000))
        while self._requests:
            request = self._requests[0]
            if self._knows_more(request) and self._must_look(request, replica, fresh=fresh):
                return
            if not self._may_answer(request, replica):
                return
            self._requests.pop(0)
            self._count(request, -1)
            if isinstance(request, AuditRequest):
                self._audits.answer(request, replica)
                continue
            try:
                self._open(request, replica)
            except PeerError as exc:
                self._refuse(request, exc)
            except ReplicaBroken as exc:  # whatever it was asked for, the next one is asked of another replica (I6)
                self._desk.log("error", "document_unreadable", document=str(self._room.document), reason=str(exc))
                self._refuse(request, PeerError(Code.INTERNAL, "the document could not be read"))
                self._room.read_again()
                return

    def answer_unread(self) -> None:
        """Answer who asks for no more than how far the log goes: that is known once the document was loaded before."""
        while self._room.epoch and self._requests:
            request = self._requests[0]
            if isinstance(request, AuditRequest) or not request.asks_for_head or request.wants_state_vector:
                return
            if self._desk.sessions[request.session].wants_state_vector:
                return
            self._requests.pop(0)
            self._count(request, -1)
            self._open(request, None)

    def _may_answer(self, request: OpenRequest | AuditRequest, replica: Replica) -> bool:
        """True if there is time for it in this turn, and memory for what may be large; else it is for a later one."""
        if not self._desk.may_answer:
            self._desk.defer(self._room)
            return False
        if not self._desk.payloads.have_room(self._desk.now) and self._may_be_large(request, replica):
            self._desk.await_payload(self._room)
            return False
        return True

    def _may_be_large(self, request: OpenRequest | AuditRequest, replica: Replica) -> bool:
        """The answer may have to go out in chunks."""
        if isinstance(request, AuditRequest) or replica.v1_bytes <= CHUNK_BYTES or request.cursor == self._room.cursor:
            return False
        return self._tail_for(request.cursor) is None

    def refuse_all(self, error: PeerError, retry_after_ms: int | None = None) -> None:
        """Nothing can be answered: the document could not be loaded. Members who asked for nothing wait if they can."""
        for request in self._take_requests(lambda _: True):
            if isinstance(request, AuditRequest):
                continue
            if request.is_unasked and error.code.retry is not Retry.NEVER:
                self.request(request)
            else:
                self._refuse(request, error, retry_after_ms)

    def _refuse(self, request: OpenRequest, error: PeerError, retry_after_ms: int | None = None) -> None:
        handle: int | None = self._room.handle
        if request.device not in self._members:
            handle = None
            if not any(waiting.session == request.session for waiting in self._requests):
                self._desk.sessions[request.session].rooms.pop(self._room.handle, None)
        self._desk.refuse(request.session, error, ref=request.ref, handle=handle, retry_after_ms=retry_after_ms)

    def leave(self, session: SessionId, device: DeviceId) -> None:
        """The session no longer has the document open, or asks for it."""
        self._take_requests(lambda request: request.session == session)
        self._audits.forget(session)
        member = self._members.get(device)
        if member is not None and member.session == session:
            self.show(member, None)
            del self._members[device]
            if device.is_ephemeral:
                self._room.forget_gone(device)

    # --- who knows more than the log

    def _knows_more(self, request: OpenRequest | AuditRequest) -> TypeGuard[OpenRequest]:
        """True if the device itself says that it may know what we do not: more of this epoch, or another's epoch."""
        cursor = None if isinstance(request, AuditRequest) or request.is_unasked else request.cursor
        if cursor is None:
            return False
        if cursor.epoch != self._room.epoch:
            return cursor.epoch != self._void_epoch
        return cursor.seq > self._room.head_seq

    def _is_owners(self, request: OpenRequest) -> bool:
        return request.device.user == self._room.document.owner

    def _comes_too_early(self, request: OpenRequest | AuditRequest) -> bool:
        """A guest's, soon after the log was read for him: an answer without that could tell him that work is lost."""
        is_soon = self._desk.now < self._looks_again_s.get(request.device.user, 0.0)
        return is_soon and self._knows_more(request) and not self._is_owners(request)

    def _must_look(self, request: OpenRequest, replica: Replica, *, fresh: bool) -> bool:
        """True if it can be answered only when the log was read again.

        If the log does not know more of this epoch either, the store was set back to a backup: the owner's word is
        enough for that. An epoch that the log does not know is over.
        """
        assert request.cursor is not None
        if not fresh:
            now = self._desk.now
            self._looks_again_s = {user: at_s for user, at_s in self._looks_again_s.items() if at_s > now}
            self._looks_again_s[request.device.user] = now + LOOK_AGAIN_S
            self._desk.charge_answer(self._desk.sessions[request.session], replica.v1_bytes)
            self._room.read_again()
            return True
        if request.cursor.epoch != self._room.epoch:
            self._void_epoch = request.cursor.epoch
        elif self._is_owners(request):
            self._room.begin_epoch()
            return True
        return False

    # --- catching up

    def _open(self, request: OpenRequest, replica: Replica | None) -> None:
        """`replica` is None where the request asks for nothing that is in it."""
        if request.state_vector is not None:
            if len(request.state_vector) > self._desk.options.limits.state_vector_bytes:
                raise PeerError(Code.BAD_STATE, "the state vector is over its limit")
            read_state_vector(request.state_vector)
        if not request.is_unasked:
            self._room.device_opens(request.device)
        session = self._desk.sessions[request.session]
        known = self._members.get(request.device)
        member = Member(session.id, session.device, session.deflate)
        if known is not None:
            member.presence = known.presence
            member.is_outdated = known.is_outdated and request.is_unasked
        self._members[request.device] = member
        if not self._resume(member, request):
            if known is not None and known.payload is not None:
                self._desk.payloads.done(known.payload)
            self._catch_up(member, request, replica)
        if session.congested:
            self.stall(request.device)
        for other in self._members.values():
            if other is not member and other.presence is not None:
                self._desk.answered(session, len(other.presence))
                self._desk.send(member.session, self._presence_of(other))

    def _resume(self, member: Member, request: OpenRequest) -> bool:
        """Go on with a chunked answer that was cut off, if it is still here."""
        if request.resume is None:
            return False
        payload = self._desk.payloads.use(
            request.resume.payload_id, self._room.document, request.device, self._desk.now
        )
        if payload is None or payload.cursor.epoch != self._room.epoch or request.resume.offset > len(payload.data):
            return False
        later = self._tail_for(payload.cursor) or ()
        if any(entry.device == request.device for entry in later):
            return False  # it may not have what it wrote since: a tail has none of that, and OPENED would hide it
        self._send_opened(member, request, Mode.DIFF, (), payload)
        self._begin_transfer(member, payload, request.resume.offset)
        return True

    def _catch_up(self, member: Member, request: OpenRequest, replica: Replica | None) -> None:
        room, cursor = self._room, request.cursor

        def diff_of(state_vector: bytes) -> bytes:
            assert replica is not None
            return self._diffs.get(replica, room.cursor, state_vector)

        mode, updates = Mode.CURRENT, tuple[bytes, ...]()
        if cursor != room.cursor:
            tail = self._tail_for(cursor)
            mode, updates, read_bytes = choose(tail, request.device, request.state_vector, diff_of)
            self._desk.answered(self._desk.sessions[member.session], read_bytes)
        if request.is_unasked and mode is Mode.CURRENT:
            member.live = True
            return
        size = sum(map(len, updates))
        self._desk.meter.caught_up(mode, size)
        if size <= CHUNK_BYTES:
            self._send_opened(member, request, mode, updates, None)
            member.live = mode is not Mode.NEED_SV
            return
        packed = encode_updates(updates)
        data = deflate_raw(packed) if member.deflate else packed
        payload = self._desk.new_payload(room.document, member.device, data, room.cursor)
        self._send_opened(member, request, mode, (), payload)
        self._begin_transfer(member, payload, 0)

    def _tail_for(self, cursor: Cursor | None) -> list[LogEntry] | None:
        """The log after a cursor, if that is one of this history and all of it is at hand."""
        room = self._room
        if cursor is None or cursor.epoch != room.epoch or cursor.seq > room.head_seq:
            return None
        return room.tail.after(cursor.seq)

    def _send_opened(
        self, member: Member, request: OpenRequest, mode: Mode, updates: tuple[bytes, ...], payload: Payload | None
    ) -> None:
        room = self._room
        session = self._desk.sessions[member.session]
        access = session.access(room.document)
        assert access is not None, "a document without access is left when the token changes"
        new_epoch = request.cursor is not None and request.cursor.epoch != room.epoch
        is_wanted = session.wants_state_vector and not request.is_unasked
        tells_sv = new_epoch or request.wants_state_vector or is_wanted
        acked = room.ops.get(member.device, OPS_START)
        opened = Opened(
            request.ref, room.handle, mode,
            payload.cursor if payload else room.cursor,
            updates, acked.op,
            room.state_vector_bytes() if tells_sv else None,
            access, payload is not None, acked.chain,
            payload.id if payload else None,
        )  # fmt: skip
        self._desk.send(member.session, opened, deflate=member.deflate)

    def _begin_transfer(self, member: Member, payload: Payload, offset: int) -> None:
        member.payload, member.offset = payload.id, offset
        member.sent_seq = payload.cursor.seq
        self._send_chunk(member, payload)

    def _send_chunk(self, member: Member, payload: Payload) -> None:
        """One slice; the next one when the session's outbox has drained."""
        data = payload.data[member.offset : member.offset + CHUNK_BYTES]
        self._desk.send(member.session, Chunk(self._room.handle, member.offset, len(payload.data), data))
        member.offset += len(data)
        if member.offset >= len(payload.data):
            member.payload = None
            self._desk.payloads.done(payload.id)
        self._desk.await_drain(self._desk.sessions[member.session])

    def stall(self, device: DeviceId) -> None:
        """A slow reader: it gets no more until it has drained (I5)."""
        member = self._members.get(device)
        if member is not None and member.live:
            member.live = False
            member.sent_seq = self._room.head_seq

    def drained(self, device: DeviceId) -> None:
        """The session's outbox is empty: send the next chunk, or bring the member current."""
        member = self._members.get(device)
        if member is None or member.live or self._is_awaited(device):
            return
        if member.payload is not None:
            self._go_on(member, member.payload)
        elif member.sent_seq is not None:
            self._request_for(member, Cursor(self._room.epoch, member.sent_seq))
            self._room.advance()

    def _go_on(self, member: Member, payload_id: bytes) -> None:
        """The next chunk; if the answer had to give way to others, the device is asked what it has."""
        payload = self._desk.payloads.use(payload_id, self._room.document, member.device, self._desk.now)
        if payload is not None:
            self._send_chunk(member, payload)
            return
        member.payload = member.sent_seq = None
        self._request_for(member, None)
        self._room.advance()

    def _is_awaited(self, device: DeviceId) -> bool:
        """An OPENED is due to the device already."""
        return any(isinstance(request, OpenRequest) and request.device == device for request in self._requests)

    def _request_for(self, member: Member, cursor: Cursor | None) -> None:
        """Open again on the member's behalf, as far as the server knows where it is."""
        self.request(OpenRequest(member.session, member.device, SERVER_REF, cursor, state_vector=None))

    def restart_all(self) -> None:
        """No member's position means anything any more: have each say what it has."""
        for member in self._members.values():
            member.live = False
            member.payload = None
            member.sent_seq = None
            if not self._is_awaited(member.device):
                self._request_for(member, None)

    # --- what the log brings

    def publish(self, entries: Sequence[LogEntry]) -> int:
        """Durable entries: an ACK to the device that made one, a DELTA to every other live member (I1, I5).

        Returns the updates that went out, times the members that they went to.
        """
        deliveries = 0
        for deflate in (False, True):
            group = [member for member in self._members.values() if member.live and member.deflate is deflate]
            if not group:
                continue
            deltas: list[bytes] = []
            acks: dict[SessionId, dict[int, bytes]] = {}
            for index, entry in enumerate(entries):
                owner = self._members.get(entry.device)
                others = len(group)
                if owner is not None and owner.live and owner.deflate is deflate:
                    others -= 1
                    ack = Ack(self._room.handle, entry.last_op, entry.seq, entry.chain)
                    acks.setdefault(owner.session, {})[index] = encode(ack)
                delta = Delta(self._room.handle, entry.seq, entry.updates)
                deltas.append(encode(delta, deflate=deflate and self._is_worth_it(entry)) if others else b"")
                deliveries += others * len(entry.updates)
            self._desk.emit(Publish(tuple(deltas), tuple(member.session for member in group), acks))
        return deliveries

    def _is_worth_it(self, entry: LogEntry) -> bool:
        return self._desk.queued_bytes <= BUSY_BYTES or entry.update_bytes >= LONG_BYTES

    def acknowledge_again(self, device: DeviceId) -> None:
        """The device sent what is in the log already."""
        member, state = self._members.get(device), self._room.ops.get(device, OPS_START)
        if member is not None:
            self._desk.send(member.session, Ack(self._room.handle, state.op, 0, state.chain))

    # --- presence

    def show(self, member: Member, payload: bytes | None) -> None:
        """Relay what a device says of itself; None when it leaves, which slow readers must hear too. Never stored."""
        if payload is None and member.presence is None:
            return
        member.presence = payload
        others = tuple(
            other.session for other in self._members.values() if other is not member and (other.live or payload is None)
        )
        if others:
            self._desk.emit(Send(others, encode(self._presence_of(member))))

    def _presence_of(self, member: Member) -> DevicePresence:
        return DevicePresence(self._room.handle, str(member.device), member.presence)

    def digest_read(self, cursor: Cursor | None, digest: bytes | None) -> None:
        """The digest of the document at `cursor`; None if it could not be read."""
        self._audits.digest_read(cursor, digest)
