"""AUDITs of one document: what a device has is compared with what the server has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from crdt.ids import DeviceId
from crdt.protocol.frames import Audited, Cursor
from crdt.replica import Replica
from server.core.desk import Desk
from server.core.effects import ReadDigest
from server.core.events import SessionId

if TYPE_CHECKING:
    from server.core.room import Room

REQUEST_BYTES = 500
"""About what a request takes in memory beside its state vector."""


@dataclass(frozen=True, slots=True)
class AuditRequest:
    session: SessionId
    device: DeviceId
    seq: int
    digest: bytes
    size = REQUEST_BYTES
    is_unasked = False


class Audits:
    """Those of one room. An audit costs a reading of the whole document, once however many devices ask."""

    def __init__(self, room: Room, desk: Desk) -> None:
        self._room = room
        self._desk = desk
        self._digest: tuple[Cursor, bytes] | None = None
        """The last one read."""
        self._waiting: list[AuditRequest] = []
        """For a digest that is being read, of the head that they ask about."""

    def answer(self, request: AuditRequest, replica: Replica) -> None:
        """Compare with the digest of the head; one of another entry says nothing. A missing answer is no judgement."""
        is_known = self._digest is not None and self._digest[0] == self._room.cursor
        if not is_known:
            self._desk.charge_answer(self._desk.sessions[request.session], replica.v1_bytes)
        if request.seq != self._room.head_seq:
            return
        if self._digest is not None and is_known:
            self._judge(request, self._digest[1])
            return
        if not self._waiting:
            self._desk.emit(ReadDigest(self._room.document))
        self._waiting.append(request)

    def forget(self, session: SessionId) -> None:
        """It waits for no answer any more."""
        self._waiting = [request for request in self._waiting if request.session != session]

    def digest_read(self, cursor: Cursor | None, digest: bytes | None) -> None:
        """The digest of the document at `cursor`; None if it could not be read."""
        waiting, self._waiting = self._waiting, []
        if cursor is None or digest is None:
            self._desk.log("warning", "audit_impossible", document=str(self._room.document))
            return
        self._digest = (cursor, digest)
        for request in waiting:
            if cursor == Cursor(self._room.epoch, request.seq):
                self._judge(request, digest)

    def _judge(self, request: AuditRequest, digest: bytes) -> None:
        ok = request.digest == digest
        self._desk.meter.audited(ok)
        if not ok:
            self._desk.log(
                "warning", "audit_failed", document=str(self._room.document), device=str(request.device),
                seq=request.seq,
            )  # fmt: skip
        self._desk.send(request.session, Audited(self._room.handle, request.seq, ok))
