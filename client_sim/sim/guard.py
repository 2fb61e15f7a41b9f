"""What stands between a server process and its links: all that leaves is held against the truth at that moment."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from client_sim.sim.history import History
from client_sim.sim.issuer import Issuer, claims_of
from client_sim.sim.link import type_of
from client_sim.sim.truth import Truth, hold
from crdt.errors import PeerError
from crdt.ids import DeviceId, DocumentId
from crdt.limits import Limits
from crdt.protocol.codec import decode_device_frame, decode_server_frame, decode_updates
from crdt.protocol.frames import (
    Ack,
    Auth,
    Chunk,
    Cursor,
    Delta,
    Error,
    Hello,
    Leave,
    Mode,
    Open,
    Opened,
    Push,
    Resync,
    ServerFrame,
)  # fmt: skip
from server.core.audits import REQUEST_BYTES
from server.core.effects import Append
from server.core.intake import OP_BYTES
from server.core.options import CoreOptions

_ASKING = (Hello.TYPE, Open.TYPE, Leave.TYPE, Resync.TYPE, Auth.TYPE, Push.TYPE)
_TELLING = (Opened.TYPE, Delta.TYPE, Ack.TYPE, Chunk.TYPE, Error.TYPE)
_INTRUDERS = ("mallory", "peter", "eve")


@dataclass(slots=True)
class _Seat:
    """One session: whose end it is in the history, what its token says, and what it asked for."""

    label: str
    key: str | None = None
    """The thumbprint of the one that the peer has."""
    bound_to: str | None = None
    """The one that the token asks for."""
    came_under_load: bool = False
    device: DeviceId | None = None
    grants: Mapping[str, str] = field(default_factory=dict)
    asked: dict[int, DocumentId] = field(default_factory=dict)
    cursors: dict[DocumentId, set[Cursor | None]] = field(default_factory=dict)
    """Where it said that it was."""
    is_accepted: bool = False
    deflates: bool = False
    is_overfull: bool = False
    pushes: set[int] = field(default_factory=set)
    """Handles of what it has pushed to, if it asked for nothing since, and was refused nothing."""
    downloads: dict[int, bytearray] = field(default_factory=dict)

    def may_read(self, document: DocumentId) -> bool:
        assert self.device is not None
        return document.owner == self.device.user or str(document) in self.grants


class Guard:
    """One process's. `revoked` is what the process was told last."""

    def __init__(self, name: str, truth: Truth, history: History, issuer: Issuer, limits: Limits) -> None:
        self.revoked: frozenset[DeviceId] = frozenset()
        self.may_differ = False
        """The store was set back behind everybody's back: audits find it."""
        self.is_under_load = False
        """The process knows that it has too much to do."""
        self.readers: tuple[str, ...] = ()
        """Users who may have more than a store that was restored, and can not give it back."""
        self._name = name
        self.truth = truth
        self._history = history
        self._issuer = issuer
        self._limits = limits
        self._lenient = Limits(hello_bytes=1 << 30, token_bytes=1 << 20)
        self._failed_appends = 0
        self._largest = REQUEST_BYTES + limits.state_vector_bytes
        """What one message may add to a queue, so far."""
        self._seats: dict[int, _Seat] = {}
        self._devices: dict[DeviceId, None] = {}
        self._rooms: dict[int, DocumentId] = {}
        self._shut: dict[DocumentId, str] = {}
        """What could not be loaded when it was tried last, and why."""
        self._untold: dict[tuple[DeviceId, DocumentId], tuple[int, bytes]] = {}
        """The first op of a device in an append that failed, and its epoch: until the device hears of it, or goes."""

    # --- what happens to the process

    def started(self) -> None:
        self.revoked, self.is_under_load = frozenset(), False
        self._seats, self._rooms, self._shut, self._devices, self._untold = {}, {}, {}, {}, {}

    def opened(self, session: int, label: str, key: str | None) -> None:
        """`key` is the thumbprint of the one that the peer has."""
        self._seats[session] = _Seat(label, key)

    def accepted(self, session: int) -> None:
        """HELLO is answered. Raises Broken."""
        seat = self._seats[session]
        seat.is_accepted = True
        hold(seat.bound_to in (None, seat.key), "a token is of no use without its key", f"{seat.label} was let in")
        hold(not seat.came_under_load, "nobody new comes in under load", f"{seat.label} was let in")

    def message_bytes_max(self, session: int) -> int:
        return self._limits.message_bytes if self._seats[session].is_accepted else self._limits.hello_bytes

    def overfull(self, session: int) -> None:
        self._seats[session].is_overfull = True

    def drained(self, session: int) -> None:
        self._seats[session].is_overfull = False

    def check_queue(self, queued_bytes: int, options: CoreOptions) -> None:
        """What waits is within its bounds, beside what each device sent until it was read no more. Raises Broken."""
        devices = 1 + len(self._devices)
        most = min(options.queued_bytes_max, devices * options.session_queued_bytes_max) + devices * self._largest
        hold(queued_bytes <= most, "queues are bounded", f"{queued_bytes} bytes wait in {self._name}, of {most}")

    def append_failed(self, effect: Append) -> None:
        """Nobody knows what of it is durable."""
        self._failed_appends += 1
        for append in effect.batch:
            seats = [seat for seat in self._seats.values() if append.document in map(self._rooms.get, seat.pushes)]
            pushing = [seat.device for seat in seats]
            for entry in reversed(append.entries):
                if entry.device in pushing:
                    self._untold[entry.device, append.document] = entry.first_op, append.epoch

    def settled(self, document: DocumentId, epoch: bytes) -> None:
        """The process knows what is durable now, and has done what follows. Raises Broken."""
        for device, about in [key for key in self._untold if key[1] == document]:
            op, then = self._untold.pop((device, about))
            is_in = self.truth.of(document).last_ops.get((device, epoch), 0) >= op
            is_told = is_in or epoch != then or device in self.revoked
            hold(is_told, "what is not saved is told", f"{device} was not told that op {op} of {document} is not in")

    def parted(self, session: int) -> None:
        """The session ends, asks for something, or is refused something: what it has to hear follows from that."""
        seat = self._seats[session]
        seat.pushes.clear()
        for key in [key for key in self._untold if key[0] == seat.device]:
            del self._untold[key]

    def logged(self, level: str, event: str, fields: Mapping[str, Any]) -> None:
        """Nothing is logged as an error that no fault explains."""
        if level == "error":
            self._history.note(self._name, "error logged", event)
            hold(self._explains(event, fields), "no unexplained errors", f"{event} {dict(fields)}")
        elif level == "warning":
            self._history.note(self._name, "warning logged", event)
            honest = str(fields.get("device", "")).partition("/")[0] not in (*_INTRUDERS, *self.readers)
            if event == "audit_failed" and honest:
                hold(self.may_differ, "equal values", f"an audit failed: {dict(fields)}")

    def _explains(self, event: str, fields: Mapping[str, Any]) -> bool:
        """A fault of late causes such a line."""
        match event:
            case "append_failed":
                self._failed_appends -= 1
                return self._failed_appends >= 0
            case "document_unreadable":
                return fields["document"] in map(str, self.truth.rotten)
            case _:
                return False

    def loaded(self, document: DocumentId, trouble: str | None) -> None:
        """The process has read a document, or could not, or may not."""
        if trouble is None:
            self._shut.pop(document, None)
        else:
            self._shut[document] = trouble

    def quarantined(self, document: DocumentId) -> None:
        self._history.note(self._name, "quarantined", str(document))
        hold(document in self.truth.rotten, "documents load", f"{document} was quarantined")

    # --- what goes through

    def receiving(self, session: int, data: bytes) -> None:
        if type_of(data) not in _ASKING:
            return
        try:
            frame = decode_device_frame(data, self._lenient)
        except PeerError:
            return
        seat = self._seats[session]
        if not isinstance(frame, Push):
            self.parted(session)
        match frame:
            case Hello(token=token, options=asked, opens=opens):
                self._read_token(seat, token)
                seat.came_under_load = self.is_under_load
                seat.deflates = asked.get("deflate") is True
                for opened in opens:
                    self._ask(seat, opened)
            case Open():
                self._ask(seat, frame)
            case Resync(handle=handle, cursor=cursor) if handle in self._rooms:
                seat.cursors.setdefault(self._rooms[handle], set()).add(cursor)
            case Auth(token):
                self._read_token(seat, token)
            case Push(handle=handle, updates=updates):
                seat.pushes.add(handle)
                self._largest = max(self._largest, sum(map(len, updates)) + OP_BYTES * len(updates))
            case _:
                pass

    def _read_token(self, seat: _Seat, token: str) -> None:
        with suppress(ValueError, IndexError, KeyError, TypeError):  # it is refused
            claims = claims_of(token)
            seat.device, seat.grants = DeviceId(claims["sub"], claims["did"]), claims["docs"]
            self._devices[seat.device] = None
            seat.bound_to = claims["cnf"]["jkt"] if "cnf" in claims else None

    def _ask(self, seat: _Seat, opened: Open) -> None:
        if seat.device is None:
            return
        with suppress(ValueError):  # it is refused
            document = seat.asked[opened.ref] = DocumentId.parse(opened.doc, seat.device.user)
            seat.cursors.setdefault(document, set()).add(opened.cursor)

    def sending(self, session: int, data: bytes) -> None:
        """Raises Broken."""
        kind = type_of(data)
        if kind not in _TELLING:
            return
        frame = decode_server_frame(data)
        seat = self._seats[session]
        if isinstance(frame, Error):
            self._history.counts[f"told {frame.code}"] += 1
            self.parted(session)
        elif seat.device is None:
            hold(False, "only members receive", f"session {session} got {type(frame).__name__} before HELLO")
        elif frame is not None:
            self._check(seat, seat.device, frame)

    def _check(self, seat: _Seat, device: DeviceId, frame: ServerFrame) -> None:
        if isinstance(frame, Opened) and frame.ref:
            hold(frame.ref in seat.asked, "only members receive", f"{device} did not ask for ref {frame.ref}")
            self._rooms[frame.handle] = seat.asked[frame.ref]
        assert isinstance(frame, Opened | Delta | Ack | Chunk)
        document = self._rooms.get(frame.handle)
        hold(document is not None, "only members receive", f"{device} was sent {frame.handle}, which nobody opened")
        assert document is not None
        hold(seat.may_read(document), "only members receive", f"{device} was sent {document}")
        hold(seat.bound_to in (None, seat.key), "a token is of no use without its key", f"{device} was sent {document}")
        match frame:
            case Opened():
                mode = "chunked" if frame.more else frame.mode.value
                self._history.counts[f"catch-up {mode}"] += 1
                self._history.say(seat.label, "caught up", lambda: f"{document} from {self._name}: {mode}")
                is_there = frame.mode is not Mode.CURRENT or frame.cursor in seat.cursors.get(document, ())
                hold(is_there, "who is current has the cursor", f"{device} in {document} is not at {frame.cursor.seq}")
                self.truth.check_opened(document, device, frame)
                seat.downloads.pop(frame.handle, None)
            case Delta():
                hold(not seat.is_overfull, "slow readers wait", f"{device} was sent DELTA {frame.seq} all the same")
                self.truth.check_delta(document, frame)
            case Ack():
                self.truth.check_ack(document, device, frame)
            case Chunk():
                self._check_chunk(seat, document, frame)

    def _check_chunk(self, seat: _Seat, document: DocumentId, chunk: Chunk) -> None:
        """Resumed downloads begin in the middle: only those that were seen whole can be read."""
        data = seat.downloads.setdefault(chunk.handle, bytearray())
        if chunk.offset != len(data):
            return
        data += chunk.data
        if len(data) == chunk.total:
            self.truth.check_content(document, decode_updates(bytes(data), deflated=seat.deflates))

    def appending(self, effect: Append) -> None:
        """What goes to the log comes from devices that may write there. Raises Broken."""
        for append in effect.batch:
            shut = self._shut.get(append.document)
            hold(shut is None, "what can not be read is shut", f"{append.document}: {shut}")
            for entry in append.entries:
                device, document = entry.device, append.document
                is_deadly = any(update in self.truth.deadly for update in entry.updates)
                hold(not is_deadly, "what kills a worker is in no log", f"{device} wrote it to {document}")
                hold(device not in self.revoked, "the revoked write nothing", f"{device} wrote to {document}")
                granted = self._issuer.ever.get(device.user, {}).get(str(document))
                may_write = device.user in (document.owner, "") or granted == "rw"
                hold(may_write, "only writers write", f"{device} wrote to {document}")
