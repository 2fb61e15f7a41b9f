"""What stands between a server process and its links: all that leaves is held against the truth at that moment."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from client_sim.sim.history import History
from client_sim.sim.issuer import Issuer
from client_sim.sim.truth import Truth, hold
from crdt.errors import PeerError
from crdt.ids import DeviceId, DocumentId
from crdt.limits import Limits
from crdt.protocol.codec import decode_device_frame, decode_server_frame, decode_updates
from crdt.protocol.frames import Ack, Auth, Chunk, Delta, Error, Hello, Open, Opened, ServerFrame
from server.core.effects import Append

_OPENING = (Hello.TYPE, Open.TYPE, Auth.TYPE)
_TELLING = (Opened.TYPE, Delta.TYPE, Ack.TYPE, Chunk.TYPE, Error.TYPE)
_INTRUDERS = ("mallory", "peter", "eve")
EXPLAINED = ("append_failed",)
"""Lines at error level that a fault may cause."""


def _type_of(data: bytes) -> int:
    """A frame's type, without reading it; -1 for what is none."""
    return data[1] if len(data) > 1 and data[0] >> 4 == 0x9 else -1


@dataclass(slots=True)
class _Seat:
    """One session: whose end it is in the history, what its token says, and what it asked for."""

    label: str
    device: DeviceId | None = None
    grants: Mapping[str, str] = field(default_factory=dict)
    asked: dict[int, DocumentId] = field(default_factory=dict)
    is_accepted: bool = False
    deflates: bool = False
    is_overfull: bool = False
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
        self.readers: tuple[str, ...] = ()
        """Users who may have more than a store that was restored, and can not give it back."""
        self._name = name
        self._truth = truth
        self._history = history
        self._issuer = issuer
        self._limits = limits
        self._lenient = Limits(hello_bytes=1 << 30, token_bytes=1 << 20)
        self._failed_appends = 0
        self._seats: dict[int, _Seat] = {}
        self._rooms: dict[int, DocumentId] = {}

    # --- what happens to the process

    def started(self) -> None:
        self.revoked = frozenset()
        self._seats, self._rooms = {}, {}

    def opened(self, session: int, label: str) -> None:
        self._seats[session] = _Seat(label)

    def accepted(self, session: int) -> None:
        self._seats[session].is_accepted = True

    def message_bytes_max(self, session: int) -> int:
        return self._limits.message_bytes if self._seats[session].is_accepted else self._limits.hello_bytes

    def overfull(self, session: int) -> None:
        self._seats[session].is_overfull = True

    def drained(self, session: int) -> None:
        self._seats[session].is_overfull = False

    def append_failed(self) -> None:
        self._failed_appends += 1

    def logged(self, level: str, event: str, fields: Mapping[str, Any]) -> None:
        """Nothing is logged as an error that no fault explains."""
        if level == "error":
            self._history.note(self._name, "error logged", event)
            hold(event in EXPLAINED and self._failed_appends > 0, "no unexplained errors", f"{event} {dict(fields)}")
            self._failed_appends -= 1
        elif level == "warning":
            self._history.note(self._name, "warning logged", event)
            honest = str(fields.get("device", "")).partition("/")[0] not in (*_INTRUDERS, *self.readers)
            if event == "audit_failed" and honest:
                hold(self.may_differ, "equal values", f"an audit failed: {dict(fields)}")

    def quarantined(self, document: DocumentId) -> None:
        hold(False, "documents load", f"{document} was quarantined")

    # --- what goes through

    def receiving(self, session: int, data: bytes) -> None:
        if _type_of(data) not in _OPENING:
            return
        try:
            frame = decode_device_frame(data, self._lenient)
        except PeerError:
            return
        seat = self._seats[session]
        match frame:
            case Hello(token=token, options=asked, opens=opens):
                self._read_token(seat, token)
                seat.deflates = asked.get("deflate") is True
                for opened in opens:
                    self._ask(seat, opened)
            case Open():
                self._ask(seat, frame)
            case Auth(token):
                self._read_token(seat, token)
            case _:
                pass

    def _read_token(self, seat: _Seat, token: str) -> None:
        with suppress(ValueError, IndexError, KeyError, TypeError):  # it is refused
            payload = token.split(".")[1]
            claims = json.loads(urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
            seat.device, seat.grants = DeviceId(claims["sub"], claims["did"]), claims["docs"]

    def _ask(self, seat: _Seat, opened: Open) -> None:
        if seat.device is None:
            return
        with suppress(ValueError):  # it is refused
            seat.asked[opened.ref] = DocumentId.parse(opened.doc, seat.device.user)

    def sending(self, session: int, data: bytes) -> None:
        """Raises Broken."""
        kind = _type_of(data)
        if kind not in _TELLING:
            return
        frame = decode_server_frame(data)
        seat = self._seats[session]
        if isinstance(frame, Error):
            self._history.counts[f"told {frame.code}"] += 1
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
        match frame:
            case Opened():
                mode = "chunked" if frame.more else frame.mode.value
                self._history.counts[f"catch-up {mode}"] += 1
                self._history.say(seat.label, "caught up", lambda: f"{document} from {self._name}: {mode}")
                self._truth.check_opened(document, device, frame)
                seat.downloads.pop(frame.handle, None)
            case Delta():
                hold(not seat.is_overfull, "slow readers wait", f"{device} was sent DELTA {frame.seq} all the same")
                self._truth.check_delta(document, frame)
            case Ack():
                self._truth.check_ack(document, device, frame)
            case Chunk():
                self._check_chunk(seat, document, frame)

    def _check_chunk(self, seat: _Seat, document: DocumentId, chunk: Chunk) -> None:
        """Resumed downloads begin in the middle: only those that were seen whole can be read."""
        data = seat.downloads.setdefault(chunk.handle, bytearray())
        if chunk.offset != len(data):
            return
        data += chunk.data
        if len(data) == chunk.total:
            self._truth.check_content(document, decode_updates(bytes(data), deflated=seat.deflates))

    def appending(self, effect: Append) -> None:
        """What goes to the log comes from devices that may write there. Raises Broken."""
        for append in effect.batch:
            for entry in append.entries:
                device, document = entry.device, append.document
                hold(device not in self.revoked, "the revoked write nothing", f"{device} wrote to {document}")
                granted = self._issuer.ever.get(device.user, {}).get(str(document))
                may_write = device.user in (document.owner, "") or granted == "rw"
                hold(may_write, "only writers write", f"{device} wrote to {document}")
