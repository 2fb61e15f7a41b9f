"""What devices show of themselves, passed on as often as they may: of what comes in between the last one counts."""

from __future__ import annotations

from crdt.errors import PeerError
from crdt.protocol.codes import Code
from server.core.desk import Desk
from server.core.session import Session
from server.core.timers import TIMER_SLACK_S, Timer

BURST_S = 1.0
"""So many seconds' worth may come at once."""


class Presences:
    """Presence of all sessions on its way to the rooms."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def show(self, session: Session, handle: int, payload: bytes | None) -> None:
        """Relay a PRESENCE, or keep it until the device may show itself again. Only members are shown."""
        room = session.rooms.get(handle)
        if room is None or room.members.get(session.device) is None:
            return
        if payload is not None and len(payload) > self._desk.options.limits.presence_bytes:
            error = PeerError(Code.TOO_BIG, "the presence is over its limit")
            self._desk.refuse(session.id, error, handle=handle)
        elif session.presences or self._over_s(session) > 0:
            self._keep(session, handle, payload)
        else:
            self._relay(session, handle, payload)

    def due(self, session: Session) -> None:
        """Relay what was kept, as far as the device may."""
        while session.presences and self._over_s(session) <= TIMER_SLACK_S:
            handle = next(iter(session.presences))
            self._relay(session, handle, session.presences.pop(handle))
        if session.presences:
            self._look_again(session)

    def _keep(self, session: Session, handle: int, payload: bytes | None) -> None:
        if not session.presences:
            self._look_again(session)
        if handle in session.presences:
            self._desk.meter.presence_dropped()
        session.presences[handle] = payload

    def _look_again(self, session: Session) -> None:
        self._desk.timers.set(self._desk.now + self._over_s(session), Timer.PRESENCE, session.id)

    def _relay(self, session: Session, handle: int, payload: bytes | None) -> None:
        assert session.account is not None
        session.account.shown.charge(self._desk.tariff.presence_s, self._desk.now)
        room = session.rooms.get(handle)
        member = room.members.get(session.device) if room is not None else None
        if room is not None and member is not None:
            room.members.show(member, payload)

    def _over_s(self, session: Session) -> float:
        """How long until the device may show itself again."""
        assert session.account is not None
        return max(0.0, session.account.shown.owed_s(self._desk.now) - BURST_S)
