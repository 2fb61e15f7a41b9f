"""Pushes on their way to the intake: no turn takes more than others can wait for; what is large or dear is rehearsed.

A *rehearsal* is a push applied to a copy of the document, in a process that may die of it. Until it has reported, later
pushes of the same device wait; others go on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from crdt.ids import DeviceId
from crdt.protocol.codec import bytes_of
from crdt.protocol.frames import Access, Push
from server.core.desk import Desk
from server.core.events import SessionId
from server.core.intake import OP_BYTES, Intake

TURN_OPS: Final = 1_000
"""What a room admits between two commits, at about 10 us an op."""
TURN_BYTES: Final = 64 << 10
"""The same in bytes. A push with more is rehearsed."""


def fits_a_turn(push: Push) -> bool:
    return len(push.updates) <= TURN_OPS and bytes_of(push.updates) <= TURN_BYTES


@dataclass(slots=True, eq=False)
class Arrival:
    """A PUSH that waits, or comes in. `rehearsed`: it was tried, and does no harm."""

    session: SessionId
    device: DeviceId
    access: Access
    push: Push
    received_s: float
    rehearsed: bool = False
    is_dear: bool = False
    """Its first op may take long to apply: it is to be rehearsed, however small it is."""

    @property
    def size(self) -> int:
        """About how many bytes it takes while it waits."""
        return self.update_bytes + OP_BYTES * len(self.push.updates)

    @property
    def update_bytes(self) -> int:
        return bytes_of(self.push.updates)

    def cut(self, ops: int) -> tuple[Arrival, Arrival | None]:
        """Its first ops, and the rest if there is one."""
        first_op, updates = self.push.first_op, self.push.updates
        if ops >= len(updates):
            return self, None
        return (
            replace(self, push=self.push._replace(updates=updates[:ops])),
            replace(self, push=self.push._replace(first_op=first_op + ops, updates=updates[ops:])),
        )

    def from_op(self, number: int) -> Arrival:
        """The rest of it, whose first op is dear."""
        _, rest = self.cut(number - self.push.first_op) if number > self.push.first_op else (None, self)
        assert rest is not None
        return replace(rest, is_dear=True)

    def turn(self) -> tuple[Arrival, Arrival | None]:
        """What fits a turn, one op at least, and the rest."""
        ops = size = 0
        for update in self.push.updates[:TURN_OPS]:
            size += len(update)
            if ops and size > TURN_BYTES:
                break
            ops += 1
        return self.cut(ops)


class Arrivals:
    """The pushes of one document that wait, in the order in which they came."""

    def __init__(self, desk: Desk, intake: Intake, rehearse: Callable[[tuple[bytes, ...]], None]) -> None:
        self._desk = desk
        self._intake = intake
        self._rehearse = rehearse
        self._waiting: list[Arrival] = []
        self._on_stage: Arrival | None = None
        """The one whose rehearsal is under way; it waits at its place."""

    def __bool__(self) -> bool:
        return bool(self._waiting)

    @property
    def is_rehearsing(self) -> bool:
        """A report will come, whether or not its push still waits."""
        return self._on_stage is not None

    def add(self, arrival: Arrival) -> None:
        """It counts as queued while it waits: a session with too much of it is not read."""
        self._desk.queued(arrival.session, arrival.size)
        self._waiting.append(arrival)

    def put_back(self, arrivals: list[Arrival]) -> None:
        """They were not admitted after all: they come before all others, in order."""
        for arrival in arrivals:
            self._desk.queued(arrival.session, arrival.size)
        self._waiting[:0] = arrivals

    def take(self, device: DeviceId | None = None) -> list[Arrival]:
        """Give up what waits, of one device or of all; a rehearsal of it means nothing any more."""
        taken = [one for one in self._waiting if device is None or one.device.is_or_acts_for(device)]
        for arrival in taken:
            self._replace(arrival, None)
        return taken

    def turn(self) -> list[Arrival]:
        """What is to be admitted now, a turn's worth at most; it waits no longer.

        Nothing of this document is queued or in flight, so a rehearsal that begins here finds all that its device built
        on in the log.
        """
        turn: list[Arrival] = []
        moved: dict[DeviceId, None] = {}
        held: dict[DeviceId, None] = {}
        ops = size = 0
        for arrival in list(self._waiting):
            device = arrival.device
            if device in held:
                continue
            now, later = self._part(arrival, is_first=device not in moved)
            if later is not None:
                held[device] = None
            if now is None:
                continue
            ops, size = ops + len(now.push.updates), size + now.update_bytes
            if turn and (ops > TURN_OPS or size > TURN_BYTES):
                break
            moved[device] = None
            self._replace(arrival, later)
            turn.append(now)
        return turn

    def rehearsed(self, tried: int) -> Arrival | None:
        """The rehearsal under way has reported: its first `tried` ops do no harm, the others are given up.

        Returns the push, or None if that was given up meanwhile.
        """
        arrival, self._on_stage = self._on_stage, None
        if arrival is None or arrival not in self._waiting:
            return None
        fine, _ = arrival.cut(tried)
        self._replace(arrival, replace(fine, rehearsed=True, is_dear=False) if tried else None)
        return arrival

    def _part(self, arrival: Arrival, *, is_first: bool) -> tuple[Arrival | None, Arrival | None]:
        """What of it can be admitted now, and what has to wait. `is_first`: no other of its device is in this turn."""
        if arrival.rehearsed or not (arrival.is_dear or arrival.update_bytes > TURN_BYTES):
            return arrival.turn()
        if not is_first:
            return None, arrival
        push = arrival.push
        known = self._intake.last(arrival.device).op + 1 - push.first_op
        if known > 0:
            return arrival.cut(known)
        if known < 0 or self._intake.ignores(arrival.device, push.first_op):
            return arrival, None
        if self._on_stage is None:
            self._on_stage = arrival
            self._desk.charge_rehearsal(arrival.session)
            self._rehearse(push.updates)
        return None, arrival

    def _replace(self, arrival: Arrival, rest: Arrival | None) -> None:
        """What is left of it takes its place, if anything is."""
        at = self._waiting.index(arrival)
        self._waiting[at : at + 1] = [rest] if rest else []
        self._desk.queued(arrival.session, (rest.size if rest else 0) - arrival.size)
