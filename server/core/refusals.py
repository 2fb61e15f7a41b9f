"""How a room tells devices that ops of theirs are not taken."""

from __future__ import annotations

from crdt.errors import PeerError
from crdt.ids import DeviceId
from server.core.desk import Desk
from server.core.events import SessionId
from server.core.imports import IMPORTER, Imports
from server.core.intake import Intake
from server.core.membership import Membership


class Refusals:
    """Of one room, whose documents its members know by `handle`."""

    def __init__(self, handle: int, desk: Desk, members: Membership, intake: Intake, imports: Imports) -> None:
        self._handle = handle
        self._desk = desk
        self._members = members
        self._intake = intake
        self._imports = imports

    def refuse(self, session: SessionId, device: DeviceId, number: int, error: PeerError) -> None:
        """Op `number` is not taken, and later ones are ignored until it comes again: tell who speaks for the device."""
        self._intake.refuse(device, number)
        if device == IMPORTER:
            self._imports.finish(number, 0, error.message)
            return
        member = self._members.get(device)
        told = PeerError(error.code, error.message, **{**error.detail, "op": number})
        self._desk.refuse(member.session if member else session, told, handle=self._handle)

    def refuse_first(self, pushes: list[tuple[SessionId, DeviceId, int]], error: PeerError) -> None:
        """The first of each device's ops is not taken, and so none is."""
        told: dict[DeviceId, None] = {}
        for session, device, number in pushes:
            if device not in told:
                told[device] = None
                self.refuse(session, device, number, error)
