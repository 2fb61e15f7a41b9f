"""The ops of one document that wait for a commit, each checked against what will be there once those before it are in.

Invariants:

 I2  A device's ops are admitted in order, without gaps, once.
 I4  `expected` is the state vector of the document once all that is queued is in; every op was checked against it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Any, Final, TypeAlias

from crdt.chain import OPS_START, OpState, link
from crdt.errors import PeerError
from crdt.ids import DeviceId
from crdt.protocol.codec import bytes_of
from crdt.protocol.codes import Code
from crdt.update import (
    Id,
    StateVector,
    Update,
    continuation,
    needs_of,
    read_typed,
    read_update,
    without_right_origins,
    write_state_vector,
)
from server.core.events import SessionId
from server.core.inspector import NOBODY, Inspector

OP_BYTES: Final = 400
"""About what a queued op takes in memory beside its update."""


HEALS_MAX = 64
"""By so many ops a device may give back what the store had lost: no excision finds what they say to be its own."""

OPS_MAX = 64
"""How many updates are looked at together: those that are not taken are sliced off again."""


class Ops:
    """Numbered updates of a device on their way into the log: one, or several in a row where it just types.

    `number` is the first one's; `received_s` is when they came, on the driver's clock. With `heal` they give back what
    the store had lost; `rehearsed` ones were tried on a copy, or admitted before: they do no harm.
    """

    __slots__ = (
        "changes", "device", "heal", "is_padded", "number", "received_s", "rehearsed", "session", "size",
        "starts_run", "state", "structs", "teaches", "updates",
    )  # fmt: skip

    def __init__(
        self,
        session: SessionId,
        device: DeviceId,
        number: int,
        updates: tuple[bytes, ...],
        received_s: float,
        *,
        heal: bool = False,
        rehearsed: bool = False,
    ) -> None:
        self.session = session
        self.device = device
        self.number = number
        self.updates = updates
        self.received_s = received_s
        self.heal = heal
        self.rehearsed = rehearsed
        self.state = OPS_START
        """The device's ops once these are in."""
        self.size = 0
        """About how many bytes they take while they are queued."""
        self.changes = True
        """They have content that the document lacks. Where one has none (deletes only, say), applying it tells."""
        self.is_padded = False
        """It may have much that the document has already, as all has that Yjs clients send of their whole state."""
        self.starts_run = False
        """It builds on what another device has queued, so it can not move ahead of that into an earlier run."""
        self.structs = 0
        """How many structs and delete ranges had to be checked."""
        self.teaches = False
        """The check has learned from it: it goes into the log even if it changes nothing."""

    def one_by_one(self) -> list[Ops]:
        """The same as at first, before any of them was admitted; each by itself."""
        return [
            Ops(
                self.session, self.device, self.number + index, (update,), self.received_s,
                heal=self.heal, rehearsed=self.rehearsed,
            )
            for index, update in enumerate(self.updates)
        ]  # fmt: skip


def sizes_by_session(queued: Iterable[Ops]) -> dict[SessionId, int]:
    """About how many bytes they take, by the session that sent them."""
    sizes: dict[SessionId, int] = {}
    for ops in queued:
        sizes[ops.session] = sizes.get(ops.session, 0) + ops.size
    return sizes


Run: TypeAlias = list[Ops]
"""Ops of one device that enter the log together, as one entry."""


class Verdict(Enum):
    """What became of an op that was not refused."""

    QUEUED = "queued"
    DURABLE = "in the log already: acknowledge it again"
    DEAR = "applying it may take long: it is to be rehearsed first"
    IGNORED = "queued or in flight already, or sent after one that was refused: say nothing"


class Intake:
    """Takes ops in and gives them out again in batches. It knows the log through `durable`, the room's own record."""

    def __init__(self, durable: Mapping[DeviceId, OpState], update_bytes_max: int, owner: str) -> None:
        self.queue: list[Ops] = []
        self.expected: StateVector = {}
        self.inspector = Inspector()
        self.bytes_left = 0
        """How much larger the document may become."""
        self.was_lost = False
        """The store is known to have been set back in this document."""
        self._durable = durable
        self._update_bytes_max = update_bytes_max
        self._owner = owner
        self._admitted: dict[DeviceId, OpState] = {}
        self._refused: dict[DeviceId, int] = {}
        self._base: StateVector = {}
        self._writers: dict[int, DeviceId] = {}
        self._healing: dict[DeviceId, None] = {}
        """Those whose last op, queued or in the log, heals: nobody but they may go on with it."""
        self._typing: dict[DeviceId, tuple[int, int]] = {}
        """The client id, its user's own, and clock of each device's next character, if it goes on typing."""

    def restart(self, state_vector: StateVector, inspector: Inspector, healing: Iterable[DeviceId] = ()) -> None:
        """Begin with an empty queue on a replica with `state_vector`, read from the log just now.

        `healing`: the devices whose last op in the log gives back what the store had lost.
        """
        self.inspector = inspector
        self._healing = dict.fromkeys(healing)
        self.go_back(state_vector, {})

    def go_back(self, state_vector: StateVector, in_flight: Mapping[DeviceId, OpState]) -> None:
        """Begin with an empty queue again, on a replica with `state_vector`, which has the ops in flight."""
        self.queue = []
        self.inspector.truncate(state_vector)
        self._admitted = dict(in_flight)
        self._begin_batch(state_vector)

    def begin_epoch(self) -> None:
        """Op numbers begin anew, and client ids are nobody's: whoever types on is not known to own what it types on."""
        self._refused.clear()
        self._typing.clear()

    def last(self, device: DeviceId) -> OpState:
        """Where a device's ops are, with what is queued and in flight."""
        return self._admitted.get(device) or self._durable.get(device, OPS_START)

    def refuse(self, device: DeviceId, number: int) -> None:
        """Ignore what comes of this device until it sends op `number` (again), or opens the document again."""
        self._refused[device] = number

    def expect_again(self, device: DeviceId) -> None:
        """The device knows where it is: it has just opened the document."""
        self._refused.pop(device, None)

    def may_heal(self, device: DeviceId, number: int) -> bool:
        """It begins to give back what the store had lost, or goes on with that.

        That there was anything is plain where somebody has given something back, and possible where nobody has written.
        """
        goes_on = number == 1 or (number <= HEALS_MAX and device in self._healing)
        return goes_on and (self.was_lost or all(device.user == NOBODY for device in self._durable))

    def admit(self, ops: Ops) -> Verdict:
        """Check and queue the first of these, and those after it where all just type: `ops` is left with so many.

        Raises PeerError if the first is refused: it then takes no number.
        """
        last = self.last(ops.device)
        if ops.number == last.op + 1 and ops.device not in self._refused and not ops.heal and self._types(ops, last):
            self._enqueue(ops)
            return Verdict.QUEUED
        ops.updates = ops.updates[:1]
        if ops.number <= last.op:
            durable = self._durable.get(ops.device, OPS_START)
            return Verdict.DURABLE if ops.number <= durable.op else Verdict.IGNORED
        if self.ignores(ops.device, ops.number):
            return Verdict.IGNORED
        try:
            if not self._check(ops, last):
                return Verdict.DEAR
        except PeerError:
            self.refuse(ops.device, ops.number)
            raise
        if self._refused.get(ops.device) == ops.number:  # it has come again
            del self._refused[ops.device]
        self._enqueue(ops)
        return Verdict.QUEUED

    def _enqueue(self, ops: Ops) -> None:
        ops.rehearsed = True
        ops.size = OP_BYTES * len(ops.updates) + bytes_of(ops.updates)
        self._admitted[ops.device] = ops.state
        self.queue.append(ops)
        if ops.heal:
            self._healing[ops.device] = None
        elif self._healing:
            self._healing.pop(ops.device, None)

    def ignores(self, device: DeviceId, number: int) -> bool:
        """The op came behind one that was refused, and that has not come again (it is above the last, then)."""
        refused = self._refused.get(device)
        return refused is not None and self.last(device).op < refused < number

    def _types(self, ops: Ops, last: OpState) -> bool:
        """The short way for text that is typed. `ops` is left with the updates that are just that; False if none is."""
        device, updates = ops.device, ops.updates
        client, clock = self._typing.get(device, _NOWHERE)
        goes_on = self.expected.get(client) == clock and self._writers.get(client, device) == device
        chain, taken = last.chain, 0
        for update in updates:
            size = len(update)
            if size > self.bytes_left or size > self._update_bytes_max:
                break
            if goes_on and (length := continuation(update, client, clock)):
                self._writers[client], self.expected[client] = device, clock + length
                clock += length
            elif (writer := self._type(ops, update, is_first=not taken)) is not None:
                client, clock = writer, self.expected[writer]
                goes_on = self._writers[client] == device and self.inspector.goes_on(client)
            else:
                break
            self.bytes_left -= size
            chain = link(chain, update)
            taken += 1
        if not taken:
            return False
        ops.updates = updates[:taken]
        ops.state = OpState(last.op + taken, chain)
        self._typing[device] = (client, clock) if goes_on else _NOWHERE
        return True

    def _type(self, ops: Ops, update: bytes, *, is_first: bool) -> int | None:
        """The client that typed; None, and nothing has changed, if it is no such update, or has to start a run."""
        typed = read_typed(update)
        if typed is None:
            return None
        leans = self._leans(ops.device, needs_of(typed))
        if leans and not is_first:
            return None
        client = self.inspector.take_typed(typed, self.expected, ops.device.user)
        if client is not None:
            ops.structs += 1
            ops.starts_run |= leans
            self._wrote(ops.device, client)
        return client

    def _check(self, op: Ops, last: OpState) -> bool:
        """The long way, for any update. False if it is to be rehearsed first. Raises PeerError."""
        (update,) = op.updates
        if op.number != last.op + 1:
            raise PeerError(Code.OP_GAP, f"the next op is {last.op + 1}", expected=last.op + 1)
        if len(update) > self._update_bytes_max and op.device.user != NOBODY:
            raise PeerError(Code.TOO_BIG, f"an update has at most {self._update_bytes_max} bytes")
        if not self._read(op, update):
            return False
        self.bytes_left -= len(update)
        op.state = last.after(op.updates[0])
        return True

    def _read(self, op: Ops, data: bytes) -> bool:
        if op.device.user != NOBODY and not op.heal and len(data) <= self.bytes_left:
            deleted = self.inspector.take_deleted(data, self.expected)
            if deleted is not None:
                self._note(op, (deleted,), ())
                op.changes, op.structs = False, 1
                return True
        update = read_update(data, bounded=True)
        self._must_have(update.needs)
        if update.sections and len(data) > self.bytes_left and op.device.user != NOBODY:
            raise PeerError(Code.TOO_BIG, "the document is full: only deletes are taken")
        # The document's owner may give back whatever was in it, even where a guest has begun its client id anew.
        author = NOBODY if op.heal and op.device.user == self._owner else op.device.user
        unclear: list[Id] | None = [] if op.device.is_ephemeral or op.device.user == NOBODY else None
        if not self.inspector.admit(
            update, self.expected, author, heal=op.heal, rehearsed=op.rehearsed, unclear=unclear
        ):
            return False
        if unclear:
            op.updates = (without_right_origins(data, unclear),)
        op.is_padded = op.device.is_ephemeral and self._has_known(update)
        op.changes = update.advance(self.expected)
        op.structs = len(update.structs) + len(update.deletes)
        self._note(op, update.needs, [(client, end) for client, (_, end) in update.sections.items()])
        return True

    def _must_have(self, needs: Iterable[tuple[int, int]]) -> None:
        """Raises PeerError if one of these is neither in the document nor queued."""
        for client, clock in needs:
            if clock >= self.expected.get(client, 0):
                sv = write_state_vector(self.expected)
                raise PeerError(Code.MISSING_DEPS, f"client {client} is unknown at {clock}", sv=sv)

    def _note(self, op: Ops, needs: Iterable[tuple[int, int]], written: Iterable[tuple[int, int]]) -> None:
        """The op is in: who has queued what, by client ids and the clocks at which these go on."""
        device = op.device
        op.teaches = self.inspector.has_learned
        op.starts_run = self._leans(device, needs)
        self._typing[device] = _NOWHERE
        for client, end in written:
            self._wrote(device, client)
            if self.inspector.goes_on(client) and not op.heal:  # which says nothing of whose client id it is
                self._typing[device] = (client, end)

    def _leans(self, device: DeviceId, needs: Iterable[tuple[int, int]]) -> bool:
        """Another device has queued some of that."""
        for client, clock in needs:
            if self._writers.get(client, device) != device and clock >= self._base.get(client, 0):
                return True
        return False

    def _wrote(self, device: DeviceId, client: int) -> None:
        """The device has queued something under that client id."""
        self._writers[client] = device if self._writers.get(client, device) == device else _SEVERAL

    def _has_known(self, update: Update) -> bool:
        """It has deletes, most of which may be known, or structs that are."""
        known = any(start < self.expected.get(client, 0) for client, (start, _) in update.sections.items())
        return known or bool(update.deletes)

    def forget(self, gone: Iterable[DeviceId]) -> None:
        """These devices will not come back, and nothing of them is queued."""
        for device in gone:
            for table in self._tables:
                table.pop(device, None)

    @property
    def devices(self) -> list[DeviceId]:
        """All of which something is remembered."""
        return [device for table in self._tables for device in table]

    @property
    def _tables(self) -> tuple[dict[DeviceId, Any], ...]:
        return self._admitted, self._refused, self._healing, self._typing

    def take(self, most: int | None = None) -> list[Run]:
        """The queue's next `most` (all by default) as runs of one device each, in the order they enter the log.

        Ops of one device that lie apart in the queue come together in one run where none leans on what lies between.
        """
        taken, self.queue = self.queue[:most], self.queue[len(self.queue[:most]) :]
        if not self.queue:
            self._begin_batch(self.expected)
        runs: list[Run] = []
        open_runs: dict[DeviceId, Run] = {}
        for ops in taken:
            if ops.starts_run:
                open_runs.clear()
            run = open_runs.get(ops.device)
            if run is None or run[-1].heal is not ops.heal:
                run = open_runs[ops.device] = []
                runs.append(run)
            run.append(ops)
        return runs

    def withdraw(self) -> list[Ops]:
        """Give up the queue, in order. `restart` or `go_back` must follow."""
        withdrawn, self.queue = self.queue, []
        return withdrawn

    def _begin_batch(self, state_vector: StateVector) -> None:
        self.expected = dict(state_vector)
        self._base = dict(state_vector)
        self._writers = {}


_NOWHERE: Final = (-1, 0)
"""No client has this id."""

_SEVERAL: Final = DeviceId("", "")
"""Stands for more than one writer of a client id: no device is it, so every op that refers there starts a run."""
