"""One document on this server: its replica, and the way of an op from a device into the log.

Invariants, cited where they are kept (I2 and I4 in `intake`, I1 and I5 also in `membership`):

 I1  What is sent to a member is in the log: acks, deltas and catch-ups go out only when replica and log agree.
 I3  The replica has exactly what the log has, plus the batch in flight.
 I6  A replica that may be wrong is dropped, and what hung on it starts again from storage.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from crdt.chain import OPS_START, OpState
from crdt.errors import BadUpdate, PeerError, ReplicaBroken
from crdt.ids import DeviceId, DocumentId
from crdt.protocol.frames import EPOCH_BYTES, Access, Cursor, Push
from crdt.replica import Replica
from crdt.update import EMPTY_STATE_VECTOR
from server.core.arrivals import Arrival, Arrivals, fits_a_turn
from server.core.batch import Flight, Outcome, apply_runs, entries_of, expected_after, parted
from server.core.catchup import Tail
from server.core.compaction import LogGrowth
from server.core.desk import Desk
from server.core.effects import BeginEpoch, Inspect, Quarantine, Rehearse
from server.core.events import SessionId
from server.core.imports import IMPORTER, Imports
from server.core.inspector import Inspector
from server.core.intake import OPS_MAX, Intake, Ops, Run, Verdict, sizes_by_session
from server.core.membership import Membership
from server.core.phases import FAILED_LOADS_MAX, NOT_SAVED, QUARANTINED, READ_ONLY, Phase, Recovery, Refusal
from server.core.records import DocumentAppend, LogEntry, StoredDocument
from server.core.refusals import Refusals

RETRY_LOAD_AFTER_MS = 1_000

ROOM_BYTES = 4096
"""About what a room takes that has nothing loaded."""


class Room:
    """A document that somebody has open, or lately had. The hub calls its methods; `advance` decides what follows."""

    def __init__(self, document: DocumentId, handle: int, desk: Desk) -> None:
        self.document = document
        self.handle = handle
        self.epoch = b""
        self.head_seq = 0
        self.ops: dict[DeviceId, OpState] = {}
        self.tail = Tail(desk.options.tail_bytes_max)
        self.growth = LogGrowth()
        self.members = Membership(self, desk)
        self._desk = desk
        self._phase = Phase.READY
        self._replica: Replica | None = None
        self._intake = Intake(self.ops, desk.options.limits.update_bytes, document.owner)
        self._flight: Flight | None = None
        self._arrivals = Arrivals(desk, self._intake, lambda updates: desk.emit(Rehearse(document, updates)))
        self._imports = Imports(desk)
        self._refusals = Refusals(handle, desk, self.members, self._intake, self._imports)
        self._held: list[Ops] = []
        self._recovery = Recovery.RETRY
        self._one_by_one = self._failed_loads = 0
        self._inspecting = False
        self._elsewhere: dict[bytes, int] = {}
        """How far the log goes by the word of other processes, by epoch, since we looked."""

    # --- what the room is

    @property
    def cursor(self) -> Cursor:
        return Cursor(self.epoch, self.head_seq)

    @property
    def resident_bytes(self) -> int:
        """About how much memory the document takes; its members and queues are bounded elsewhere."""
        if self._replica is None:
            return ROOM_BYTES
        held = self._replica.resident_bytes + self._intake.inspector.resident_bytes
        return ROOM_BYTES + self.tail.resident_bytes + held

    @property
    def busy(self) -> bool:
        """Something is queued, in flight or waited for: the room and its replica are needed."""
        waiting = self._wants_replica or self._intake.queue
        reports = self._flight is not None or self._phase is not Phase.READY
        return bool(waiting) or reports or self._arrivals.is_rehearsing or self._inspecting

    @property
    def _wants_replica(self) -> bool:
        return bool(self.members.has_requests or self._arrivals or self._imports.are_waiting or self._held)

    @property
    def unsaved(self) -> bool:
        """There are ops that came in and whose fate is open."""
        waiting = self._arrivals or self._imports.are_waiting or self._held
        return bool(waiting or self._intake.queue or self._flight)

    @property
    def wants_commit(self) -> bool:
        """Ops are queued, and no batch of this room is in flight."""
        return bool(self._intake.queue) and self._flight is None and self._phase is Phase.READY

    def state_vector_bytes(self) -> bytes:
        return self._replica.state_vector_bytes() if self._replica else EMPTY_STATE_VECTOR

    @property
    def is_loaded(self) -> bool:
        return self._replica is not None

    def evict(self) -> None:
        """Drop the replica and the tail; who is a member stays so. The room must not be busy."""
        assert not self.busy
        self._replica = None
        self._intake.inspector = Inspector()
        self.tail.clear()

    # --- one decision: what can be done now

    def advance(self, *, fresh: bool = False) -> None:
        """Load if something needs the replica; at a batch boundary, answer and admit what waits. Call it any time.

        `fresh`: the log was read just now.
        """
        if self._phase is not Phase.READY or self._flight is not None:
            return
        if self._is_behind():
            self.read_again()
            return
        if self._replica is None:
            self.members.answer_unread()
            if self._wants_replica:
                self._load()
            return
        self.members.answer(self._replica, fresh=fresh)
        if self._phase is not Phase.READY:  # a request knew more than we do
            return
        if (self._arrivals or self._imports.are_waiting) and self._can_inspect():
            self._take_turns()

    def _can_inspect(self) -> bool:
        """The check knows the document, or soon will; where that is much to read it is read elsewhere first."""
        if not (self._intake.inspector.is_light or self._inspecting):
            self._inspecting = True
            self._desk.emit(Inspect(self.document))
        return self._intake.inspector.is_light

    def inspected(self, cursor: Cursor | None, packed: bytes) -> None:
        """What the check knows of the document at `cursor` has been read; None if it could not be."""
        self._inspecting = False
        if cursor is None:
            self._intake.inspector.is_light = True
        elif cursor == self.cursor:
            self._intake.inspector = Inspector.unpack(packed, self._warn_of_check)
        elif self._phase is Phase.READY and self._replica is not None and self._flight is None:
            self.read_again()  # another process has written: what was read would never be of where we are
        self.advance()

    def _take_turns(self) -> None:
        self._intake.expect_again(IMPORTER)
        while op := self._imports.next(self._intake.last(IMPORTER).op + 1):
            self._queue((op,))
        while not self._intake.queue and (turn := self._arrivals.turn()):
            back: list[Arrival] = []
            for arrival in turn:
                behind = any(arrival.device == waiting.device for waiting in back)
                rest = arrival if behind else self._admit(arrival)
                if rest is not None:
                    back.append(rest)
            self._arrivals.put_back(back)

    # --- ops come in

    def push(self, session: SessionId, device: DeviceId, access: Access, push: Push) -> None:
        """Ops of a device. They are checked now, or when it is their turn, and then wait for a commit."""
        member = self.members.get(device)
        if member is not None and member.is_outdated:
            return
        ready = self._replica is not None and self._phase is Phase.READY and self._intake.inspector.is_light
        arrival = Arrival(session, device, access, push, self._desk.now)
        rest = self._admit(arrival) if ready and not self._arrivals and fits_a_turn(push) else arrival
        if rest is not None:
            self._arrivals.add(rest)
            self.advance()

    def rehearsed(self, tried: int, error: PeerError | None) -> None:
        """A rehearsal has reported: how many updates of the push do no harm, and what is wrong with the next."""
        self._desk.meter.rehearsed(error.code if error else "fine")
        arrival = self._arrivals.rehearsed(tried)
        if arrival is not None and error is not None:
            number = arrival.push.first_op + tried
            self._refusals.refuse(arrival.session, arrival.device, number, error)
        self.advance()

    def import_update(self, request: int, update: bytes) -> None:
        """An operator's update. Answered by ImportFinished with `request`."""
        self._imports.add(request, update)
        self.advance()

    def _admit(self, arrival: Arrival) -> Arrival | None:
        """Check and queue its ops. Returns the rest, from the first that has to be rehearsed."""
        session, device, push = arrival.session, arrival.device, arrival.push
        if arrival.access is not Access.WRITE:
            self._refusals.refuse(session, device, push.first_op, PeerError(*READ_ONLY))
            return None
        again, size, structs, rest, at = False, 0, 0, None, 0
        while at < len(push.updates):
            number, left = push.first_op + at, push.updates[at : at + OPS_MAX]
            heal = push.heal and self._intake.may_heal(device, number)
            ops = Ops(session, device, number, left, arrival.received_s, heal=heal, rehearsed=arrival.rehearsed)
            verdict = self._try(ops)
            at += len(ops.updates)
            structs += ops.structs
            if verdict is Verdict.QUEUED:
                size += ops.size
            elif verdict is Verdict.DEAR:
                rest = arrival.from_op(number)
                break
            again = again or verdict is Verdict.DURABLE
        self._desk.queued(session, size)
        self._desk.charge_structs(session, structs)
        if again:
            self.members.acknowledge_again(device)
        return rest

    def _try(self, ops: Ops) -> Verdict | None:
        """Check and queue as many as `Intake.admit` takes; the device is told if the first is refused."""
        try:
            return self._intake.admit(ops)
        except PeerError as exc:
            self._refusals.refuse(ops.session, ops.device, ops.number, exc)
            return None

    def _queue(self, waiting: Iterable[Ops]) -> None:
        """As `_try`, for ops that were in the queue before, or come from no session."""
        for op in [op for ops in waiting for op in ops.one_by_one()]:
            if self._try(op) is Verdict.QUEUED:
                self._desk.queued(op.session, op.size)

    def device_opens(self, device: DeviceId) -> None:
        """The device is about to learn where its ops are: what it sends from now on counts."""
        self._intake.expect_again(device)

    def forbid_writing(self, session: SessionId, device: DeviceId) -> None:
        """The device may only read from now on: its ops whose append has not begun are refused."""
        numbers = [op.number for op in (*self._held, *self._intake.queue) if op.device == device]
        numbers += [arrival.push.first_op for arrival in self._arrivals.take(device)]
        if numbers:
            self.drop_queued(device)
            self._refusals.refuse(session, device, numbers[0], PeerError(*READ_ONLY))

    def drop_queued(self, device: DeviceId) -> None:
        """The device may write no more: forget its ops whose append has not begun."""
        self._arrivals.take(device)
        self._held = [op for op in self._held if not op.device.is_or_acts_for(device)]
        if self._flight is not None:
            self._flight = replace(self._flight, barred=self._flight.barred | {device})
        if self._replica is None or not any(op.device.is_or_acts_for(device) for op in self._intake.queue):
            return
        queue = self._withdraw()
        self._intake.go_back(self._replica.state_vector(), self._flight.states if self._flight else {})
        self._queue(ops for ops in queue if not ops.device.is_or_acts_for(device))

    def forget_gone(self, *left: DeviceId) -> None:
        """Ephemeral devices that left will not come back; without names, all that are no members (now and then)."""
        if not self.unsaved:
            gone = [device for device in left or (*self.ops, *self._intake.devices) if self._is_gone(device)]
            self._intake.forget(gone)
            for device in gone:
                self.ops.pop(device, None)

    def _is_gone(self, device: DeviceId) -> bool:
        return device.is_ephemeral and self.members.get(device) is None

    def _withdraw(self) -> list[Ops]:
        queue = self._intake.withdraw()
        self._release(queue)
        return queue

    def _release(self, ops: Iterable[Ops]) -> None:
        """Ops went out of the queue: their sessions may send more."""
        for session, size in sizes_by_session(ops).items():
            self._desk.queued(session, -size)

    # --- a batch

    def _bytes_left(self, replica: Replica) -> int:
        most = self._desk.options.limits.document_bytes
        return most - replica.state_bytes(most * 7 // 8)

    def begin_commit(self) -> DocumentAppend | None:
        """Apply the queue to the replica and give what is to be appended (I3); None if there is nothing to append yet.

        What the library refuses has reached no log and no other device.
        """
        if not self.wants_commit:
            return None
        assert self._replica is not None
        runs = self._intake.take(1 if self._one_by_one else None)
        self._release(ops for run in runs for ops in run)
        try:
            expected = expected_after(self._replica, runs) if self._intake.queue else self._intake.expected
            apply_runs(self._replica, runs, expected)
        except ReplicaBroken as exc:
            self._suspect(runs, exc)
            return None
        self._one_by_one = max(0, self._one_by_one - 1)
        self._intake.bytes_left = self._bytes_left(self._replica)
        runs, idle = parted(runs)
        if not runs:
            self._settle(idle)
            return None
        entries = entries_of(runs, self.head_seq, self._desk.wall_ms())
        self._flight = Flight(entries, runs, idle)
        return DocumentAppend(self.document, self.epoch, entries)

    def _suspect(self, runs: list[Run], reason: ReplicaBroken) -> None:
        """The library stumbled over a batch: find the culprit by trying the ops one at a time (I6)."""
        ops = [op for run in runs for taken in run for op in taken.one_by_one()]
        self._desk.log("warning", "replica_broken", document=str(self.document), ops=len(ops), reason=str(reason))
        if len(ops) == 1:
            culprit = ops.pop()
            error = BadUpdate("malformed", "the update can not be integrated")
            self._refusals.refuse(culprit.session, culprit.device, culprit.number, error)
        self._one_by_one = len(ops) + sum(len(queued.updates) for queued in self._intake.queue)
        self._start_over(ops, Recovery.RETRY)

    def commit_done(self, *, committed: bool) -> Outcome | None:
        """The append of the batch in flight has reported. Not committed: the log went on without us."""
        flight = self._flight
        assert flight is not None
        if not committed:
            self._start_over(flight.ops, Recovery.RETRY)
            return None
        self._flight = None
        deliveries = self._publish(flight.entries)
        self._settle(flight.idle)
        for entry, run in zip(flight.entries, flight.runs, strict=True):
            for op in run if entry.device == IMPORTER else ():
                self._imports.finish(op.number, entry.seq if op.changes else 0)
        self.advance()
        return Outcome(flight.op_count, deliveries, min(run[0].received_s for run in flight.runs))

    def _settle(self, idle: Iterable[Run]) -> None:
        """All that these rest on is in the log, and they add nothing to it: their devices may go on."""
        for last in (run[-1] for run in idle):
            if last.state.op > self.ops.get(last.device, OPS_START).op:
                self.ops[last.device] = last.state
            self.members.acknowledge_again(last.device)

    def commit_failed(self) -> None:
        """The append failed, or nobody knows: what the log holds is acknowledged, the rest is to be sent again."""
        flight = self._flight
        assert flight is not None
        self._start_over(flight.ops, Recovery.RESEND)

    def _publish(self, entries: Sequence[LogEntry]) -> int:
        """Entries are in the log: the room and its members move on to the last (I1). Updates times receivers."""
        for entry in entries:
            assert entry.seq == self.head_seq + 1
            self.head_seq = entry.seq
            self.ops[entry.device] = OpState(entry.last_op, entry.chain)
            self.growth.add(entry.update_bytes, entry.time_ms)
            self._intake.was_lost |= entry.heal
        self.tail.extend(entries)
        return self.members.publish(entries) if entries else 0

    # --- loading, and starting over

    def _start_over(self, ops: list[Ops], recovery: Recovery) -> None:
        """Drop the replica and load again; `ops` and the queue are settled by `recovery` once the log is known (I6)."""
        self._set_aside(ops, recovery)
        self._load()

    def _set_aside(self, ops: list[Ops], recovery: Recovery) -> None:
        self._flight = None
        self._replica = None
        self._recovery = recovery
        self._held = []
        for op in [op for taken in ops + self._withdraw() for op in taken.one_by_one()]:
            if op.device != IMPORTER:
                self._held.append(op)
            elif recovery is Recovery.RETRY:
                self._imports.wait_again(op)
            else:
                self._imports.finish(op.number, 0, "the storage failed: whether the update is in is not known")

    def _load(self) -> None:
        self._phase = Phase.LOADING
        self._desk.load(self.document)

    def loaded(self, stored: StoredDocument) -> None:
        """Storage has answered Load."""
        assert self._phase is Phase.LOADING
        if stored.quarantine is not None:
            self._phase = Phase.READY
            self._give_up(QUARANTINED)
            return
        try:
            replica = Replica.load(stored.state_updates())
        except ReplicaBroken as exc:
            self.load_failed(corrupt=str(exc))
            return
        self._phase = Phase.READY
        self._failed_loads = 0
        self._follow(stored)
        self._replica = replica
        self.ops.clear()
        self.ops.update(stored.ops())
        self.tail.restart(entry for entry in stored.entries if entry.seq > stored.epoch_seq)
        self.growth.restart(len(stored.snapshot.state) if stored.snapshot else 0, stored.unsnapshotted)
        self._intake.restart(replica.state_vector(), Inspector(stored, self._warn_of_check), stored.healing)
        self._intake.was_lost = stored.was_lost
        self._intake.bytes_left = self._bytes_left(replica)
        held, self._held = self._held, []
        if self._recovery is Recovery.RESEND:
            lost = [(op.session, op.device, op.number) for op in held if op.number > self._intake.last(op.device).op]
            self._refusals.refuse_first(lost, PeerError(*NOT_SAVED))
        else:
            self._queue(held)
        self._recovery = Recovery.RETRY
        self.advance(fresh=True)

    def _warn_of_check(self, reason: str) -> None:
        self._desk.log("error", "check_failed", document=str(self.document), reason=reason)

    def _follow(self, stored: StoredDocument) -> None:
        """Bring head and members to where the log is."""
        news = [entry for entry in stored.entries if entry.seq > self.head_seq]
        if stored.epoch == self.epoch and stored.head_seq - self.head_seq == len(news):
            self._publish(news)
            return
        if self.epoch and stored.epoch != self.epoch:
            self._forget_epoch()
        self.epoch, self.head_seq = stored.epoch, stored.head_seq
        self.members.restart_all()

    def _forget_epoch(self) -> None:
        """Op numbers begin anew: what devices sent before they know it must not be taken for what they send then."""
        self._held = []
        self._arrivals.take()
        self._intake.begin_epoch()
        for member in self.members:
            member.is_outdated = True

    def load_failed(self, corrupt: str | None) -> None:
        """Storage could not answer Load; `corrupt` says what is wrong if that lies in what is stored."""
        self._phase = Phase.READY
        if corrupt is None:
            self._give_up(NOT_SAVED, RETRY_LOAD_AFTER_MS)
            return
        self._desk.log("error", "document_unreadable", document=str(self.document), reason=corrupt)
        self._failed_loads += 1
        if self._failed_loads < FAILED_LOADS_MAX:
            self._load()
            return
        self._desk.meter.quarantined()
        self._desk.emit(Quarantine(self.document, corrupt))
        self._give_up(QUARANTINED)

    def _give_up(self, error: Refusal, retry_after_ms: int | None = None) -> None:
        """The document can not be loaded now: nothing waits any longer. The next request tries again."""
        held, self._held = self._held, []
        pushes = [(op.session, op.device, op.number) for op in held]
        pushes += [(arrival.session, arrival.device, arrival.push.first_op) for arrival in self._arrivals.take()]
        self._recovery = Recovery.RETRY
        self._refusals.refuse_first(pushes, PeerError(*error))
        self.members.refuse_all(PeerError(*error), retry_after_ms)
        self._imports.fail_waiting("the document can not be loaded")

    # --- what others know, and epochs

    def grew_elsewhere(self, cursor: Cursor) -> None:
        """Another process says that it has written up to there; its word may be late, and come twice or never."""
        self._elsewhere[cursor.epoch] = max(cursor.seq, self._elsewhere.get(cursor.epoch, 0))
        self.advance()

    def _is_behind(self) -> bool:
        """The log has something for a member, or for the replica, that is not known here; others load first."""
        heard, self._elsewhere = self._elsewhere, {}
        is_news = any(epoch != self.epoch or seq > self.head_seq for epoch, seq in heard.items())
        return is_news and (self.is_loaded or len(self.members) > 0)

    def read_again(self) -> None:
        """Somebody knows more of the log than we do (called at a batch boundary)."""
        self._start_over([], Recovery.RETRY)

    def begin_epoch(self) -> None:
        """The store was set back: what devices know of this history is void (called at a batch boundary)."""
        assert self._phase is Phase.READY
        assert self._flight is None
        self._set_aside([], Recovery.RETRY)
        self._phase = Phase.BEGINNING_EPOCH
        self._desk.log("warning", "new_epoch", document=str(self.document), head_seq=self.head_seq)
        self._desk.emit(BeginEpoch(self.document, self._desk.entropy(EPOCH_BYTES)))

    def epoch_begun(self) -> None:
        """Storage has answered BeginEpoch."""
        self._load()
