"""One document of a device: what it says to the server, and what it does with the answers.

Invariants:
  1. What the server sends is in only when updates and cursor are stored, in one transaction.
  2. An op leaves the outbox only after the server's hash at it was found equal to ours.
  3. A DELTA or an ACK moves the cursor only from `seq - 1`; a higher one asks for state again.
  4. Nothing is framed that the store does not hold, with its number.
"""

from __future__ import annotations

from collections.abc import Callable

from client_sim.core.backoff import Backoff, asked_s
from client_sim.core.catchup import (
    BEYOND_REPAIR,
    ENDS_MEMBERSHIP,
    Exchange,
    Verdict,
    compare,
    due,
    heals,
    is_beside,
    judge,
    take_in,
)  # fmt: skip
from client_sim.core.context import Context
from client_sim.core.copy import LocalCopy, Misfit
from client_sim.core.download import Download
from client_sim.core.effects import Acknowledged, DocumentChanged, Problem
from client_sim.core.holding import Holder
from client_sim.core.pending import Ages, Pending
from client_sim.core.ports import StoreDamaged, StoreError
from client_sim.core.presence import Presence
from client_sim.core.reasons import STORE_FAILED, TOO_MANY_OPEN, UNREADABLE
from client_sim.core.roots import Roots
from client_sim.core.sending import Sender
from client_sim.core.status import AWAITING, PHASES, Phase, State, Status, move, standing
from crdt.chain import OpState
from crdt.errors import BadUpdate, ReplicaBroken
from crdt.protocol import frames
from crdt.protocol.codec import bad_frame
from crdt.protocol.codes import Code, Retry
from crdt.protocol.frames import SERVER_REF, Access, Error, Mode, Open, Opened, Resync
from crdt.replica import Replica
from crdt.update import EMPTY_STATE_VECTOR, EMPTY_UPDATE
from crdt.values import Values

RESEND_CAP_S = 30.0


class Document:
    """Driven by the device, which finds the document by `handle` or `ref`. The app reads; it changes by events."""

    def __init__(self, context: Context, name: str) -> None:
        self.name = name
        self.phase = Phase.CLOSED
        self.handle: int | None = None
        self.ref: int | None = None
        self.access = Access.WRITE
        self.presence = Presence(context, name)
        self.retry_at: float | None = None
        self._context = context
        self._holder = Holder(context, name)
        self._exchange = Exchange.CATCH_UP
        self._refused_position = 0
        self._download = Download(self._holder)
        self._sender = Sender(context, self._holder)
        self._ages = Ages()
        self._blocked: str | None = None
        self._asks_again = False
        self._backoff = Backoff(context.rng, cap_s=RESEND_CAP_S)

    # --- what the app reads

    @property
    def copy(self) -> LocalCopy:
        """The document as the store has it, loaded when needed. Raises StoreError and StoreDamaged."""
        return self._holder.copy

    @property
    def pending(self) -> int:
        """How many entries of the outbox no server has acknowledged."""
        return len(self.copy.outbox)

    def backlog(self, now: float) -> Pending:
        """The edits in them, with their size and age."""
        return self._ages.pending(self.copy, now)

    def waits_since(self, now: float) -> float | None:
        """When the oldest edit was made that could be sent and was not; None if there is none."""
        if not self._can_push or (entry := self._holder.window.next_entry(self.copy)) is None:
            return None
        return self._ages.since(self.copy, entry.position, now)

    @property
    def aside(self) -> list[bytes]:
        """Edits that the server refuses, as v1 updates, for export. Unblocked drops them."""
        return self._context.store.aside(self.name)

    @property
    def replica(self) -> Replica:
        """For reading. Raises EditUnderWay inside of an edit: it has to end first."""
        self._context.check_no_edit(self.name)
        return self.copy.replica

    def values(self) -> Values:
        return self.replica.values()

    def status(self) -> Status:
        """Blocked, too, while the store can not be read."""
        try:
            pending, held = self.pending, self.copy.progress.held
        except (StoreError, StoreDamaged):
            return Status(State.BLOCKED, STORE_FAILED)
        blocked = self._blocked if self.phase is Phase.BLOCKED or pending else None
        return standing(self.phase, held or blocked, is_pending=bool(pending))

    @property
    def awaits_answer(self) -> bool:
        return self.phase in AWAITING or (self.phase is Phase.LIVE and self._holder.awaits_ack)

    # --- what the app does

    def edit(self, change: Callable[[Roots], object], now: float) -> None:
        """One op, for `flush` to send. Raises what `change` raises, EditTooBig and StoreError: then it is as it was."""
        at_once = self._may_push(now) and self._holder.window.is_open(self.copy)
        with self._holder.changing() as copy, self._context.editing(self.name):
            update = copy.edit(change, bytes_max=self._context.limits.update_bytes, number=at_once)
        if update is not None:
            self._context.counters.ops_made += 1
            self._ages.made(self.copy, now)
            self._context.emit(DocumentChanged(self.name, remote=False))

    def set_presence(self, payload: bytes | None) -> None:
        self.presence.set(payload, self.handle)

    def audit(self) -> None:
        """Compare with the server, where everything is acknowledged."""
        if self.phase is Phase.LIVE and not self.pending and (cursor := self.copy.cursor):
            self._context.send(frames.Audit(self._live_handle, cursor.seq, self.copy.replica.digest()))

    def unblock(self, now: float) -> None:
        """Go on after the app has decided. Where the server can merge nothing, its state takes the replica's place."""
        if self._blocked == Code.RESET_REQUIRED:
            self._exchange, self._refused_position = Exchange.REBUILD, 0
        with self._holder.changing() as copy:
            copy.hold(None)
            self._context.store.drop_aside(self.name)
        self._blocked = None
        if self.phase is Phase.BLOCKED:
            self._move(Phase.CLOSED)

    def crowd_out(self) -> None:
        """As many are open as the server takes: it waits until there is room."""
        self._block(TOO_MANY_OPEN)

    @property
    def is_crowded_out(self) -> bool:
        return self.phase is Phase.BLOCKED and self._blocked == TOO_MANY_OPEN

    def leave(self) -> None:
        if self.handle is not None:
            self._context.send(frames.Leave(self.handle))
        self.disconnected()

    # --- the connection

    def opening(self) -> Open:
        """OPEN's fields, for HELLO or alone. A state vector goes along only where there is no cursor."""
        self._move(Phase.OPENING)
        self.ref = self._context.next_ref()
        self.retry_at = None
        self._exchange = due(self._exchange, self.copy)
        if self._exchange is not Exchange.CATCH_UP:
            return Open(self.ref, self.name, None, EMPTY_STATE_VECTOR)
        cursor = self.copy.cursor
        state_vector = self.copy.replica.state_vector_bytes() if cursor is None else None
        return Open(self.ref, self.name, cursor, state_vector, self._download.resume)

    def disconnected(self) -> None:
        """Handles, refs and what peers said end with the connection; a download goes on in the next one."""
        if self.phase not in (Phase.CLOSED, Phase.BLOCKED):
            self._move(Phase.CLOSED)
        self.handle = self.ref = self.retry_at = None
        self._asks_again = False
        self.presence.disconnected()

    def forget(self) -> None:
        """The store was wiped: what it has now counts."""
        self.lose_numbers()
        if self.phase is Phase.BLOCKED:
            self._move(Phase.CLOSED)
        self._blocked = self.presence.own = None
        self._exchange = Exchange.CATCH_UP
        self._context.emit(DocumentChanged(self.name, remote=True))

    def lose_numbers(self) -> None:
        """The device has another name, under which the store has made no op yet: what it has now counts."""
        self._holder.drop()

    # --- catching up

    def on_opened(self, opened: Opened, now: float) -> None:
        """Raises Forked."""
        if is_beside(opened, self.phase, self.ref):
            if opened.cursor.epoch == self.copy.progress.epoch:
                self.on_ack(frames.Ack(opened.handle, opened.acked_op, 0, opened.chain), now)
            return
        judge(self.copy, opened)  # a fork shows before anything more is asked for
        self.handle, self.ref, self.access = opened.handle, None, opened.access
        if opened.mode is Mode.NEED_SV:
            self._download.drop()
            self._resync(cursor=opened.cursor.epoch == self.copy.progress.epoch)
        elif opened.more:
            self._download.announced(opened)
            self._move(Phase.RECEIVING)
        else:
            self._settle(opened, opened.updates, now)

    def on_chunk(self, chunk: frames.Chunk, now: float) -> None:
        if self.phase is not Phase.RECEIVING:
            return
        if not self._download.add(chunk):
            self._resync()
        elif self._download.is_complete(chunk.total):
            self._settle(*self._download.finished(), now)

    def _settle(self, opened: Opened, updates: tuple[bytes, ...], now: float) -> None:
        """Take in a catch-up whose updates are all there."""
        verdict = judge(self.copy, opened)
        if verdict is Verdict.WENT_BACK and opened.state_vector is None and self._exchange is not Exchange.REBUILD:
            self._download.drop()
            self._resync(cursor=False)
        else:
            try:
                self._integrate(opened, updates, verdict)
            except (Misfit, BadUpdate, ReplicaBroken) as exc:
                self._misfit(exc)
            else:
                self._go_live(opened, updates, now)

    def _go_live(self, opened: Opened, updates: tuple[bytes, ...], now: float) -> None:
        self._exchange = Exchange.CATCH_UP
        self._blocked = None
        self._holder.window.restart(self.copy)
        self._move(Phase.LIVE)
        self._context.counters.caught_up(opened.mode.value)
        self._received(updates)
        if opened.ref != SERVER_REF:
            self.presence.tell_again(opened.handle)
        self._push_again(now)
        if self._asks_again:
            self.ask_again()

    def _integrate(self, opened: Opened, updates: tuple[bytes, ...], verdict: Verdict) -> None:
        healing, numbers = heals(self._exchange, verdict), OpState(opened.acked_op, opened.chain)
        acked = 0
        with self._holder.changing() as copy:
            if not healing:
                acked = copy.acknowledge(numbers)
            position = self._refused_position if verdict is Verdict.GOES_ON else 0
            take_in(copy, self._exchange, updates, position, self._context)
            if healing:
                assert opened.state_vector is not None
                push = self.access is Access.WRITE or bool(copy.outbox)
                client_id, bytes_max = self._context.next_client_id(), self._context.limits.update_bytes
                copy.heal(numbers, opened.state_vector, client_id, bytes_max, push=push)
            copy.reach(opened.cursor)
            copy.drop_partial()
        self._context.counters.heals += healing
        self._count_acked(acked, opened.acked_op)

    def _misfit(self, exc: Exception) -> None:
        """What came does not fit what is here: ask for everything, once."""
        self._download.drop()
        if self._exchange is Exchange.CATCH_UP:
            self._exchange = Exchange.FULL
            self._resync()
        else:
            self._context.emit(Problem(UNREADABLE, str(exc), self.name))
            self._block(UNREADABLE, leave=True)

    def _resync(self, *, cursor: bool = True) -> None:
        self._context.counters.resyncs += 1
        self._move(Phase.RESYNCING)
        if self._exchange is not Exchange.CATCH_UP:
            self._context.send(Resync(self._live_handle, None, EMPTY_STATE_VECTOR))
        else:
            known = self.copy.cursor if cursor else None
            self._context.send(Resync(self._live_handle, known, self.copy.replica.state_vector_bytes()))

    # --- following the log

    def on_delta(self, delta: frames.Delta) -> None:
        if self.phase is not Phase.LIVE:  # an OPENED is awaited, and covers it
            return
        cursor = self.copy.live_cursor
        if delta.seq > cursor.seq + 1:
            self._resync()
        elif delta.seq == cursor.seq + 1:
            try:
                with self._holder.changing() as copy:
                    copy.take(delta.updates)
                    copy.reach(cursor._replace(seq=delta.seq))
            except (Misfit, BadUpdate, ReplicaBroken) as exc:
                self._misfit(exc)
            else:
                self._received(delta.updates)

    def on_ack(self, ack: frames.Ack, now: float) -> None:
        """Raises Forked."""
        copy = self.copy
        if self.phase is Phase.BLOCKED or copy.progress.epoch is None:
            return
        is_news = ack.op > copy.progress.acked.op
        if ack.op >= copy.progress.acked.op:
            compare(copy, ack.op, ack.chain)
        cursor = copy.cursor
        moves = self.phase is Phase.LIVE and cursor is not None and ack.seq == cursor.seq + 1
        if is_news or moves:
            self._acknowledged(ack, moves=moves)
        if self.phase is Phase.LIVE and ack.seq > self.copy.live_cursor.seq:
            self._resync()
        self.flush(now)

    def _acknowledged(self, ack: frames.Ack, *, moves: bool) -> None:
        acked = 0
        with self._holder.changing() as copy:
            if ack.op > copy.progress.acked.op:
                acked = copy.acknowledge(OpState(ack.op, ack.chain))
                self._download.acknowledged(ack)
            if moves:
                copy.reach(self.copy.live_cursor._replace(seq=ack.seq))
        self._holder.window.acknowledged(copy)
        self._count_acked(acked, ack.op)

    def _count_acked(self, count: int, op: int) -> None:
        self._context.counters.ops_acked += count
        self._ages.forget(self.copy)
        if count:
            self._backoff.reset()
            self._context.emit(Acknowledged(self.name, op))

    def _received(self, updates: tuple[bytes, ...]) -> None:
        received = sum(update != EMPTY_UPDATE for update in updates)
        self._context.counters.updates_received += received
        if received:
            self._context.emit(DocumentChanged(self.name, remote=True))

    # --- pushing

    @property
    def _can_push(self) -> bool:
        """False if nothing may be sent until something else has happened."""
        held = self._blocked or self.copy.progress.held
        return self.phase is Phase.LIVE and self._context.pushing and self.access is Access.WRITE and not held

    def _may_push(self, now: float) -> bool:
        is_time = self.retry_at is None or now >= self.retry_at
        return is_time and self._context.pacing.is_open and self._can_push

    def flush(self, now: float) -> None:
        """Frame pending edits, where it is time for it, as far as the window allows."""
        if self._may_push(now) and not self._sender.send(self._live_handle):
            self._context.emit(Problem(Code.TOO_BIG, "an edit is larger than the server takes", self.name))
            self._blocked = Code.TOO_BIG
        if self.phase is Phase.LIVE and self.access is Access.READ and self.pending:
            self._blocked = Code.FORBIDDEN

    def _push_again(self, now: float) -> None:
        """What was sent before is not made to wait once more."""
        self._context.pacing.release()
        self.flush(now)

    def on_time(self, now: float) -> None:
        if self.retry_at is None or now < self.retry_at:
            return
        self.retry_at = None
        if self.phase is Phase.CLOSED:
            self._context.send(self.opening())
        elif self.phase is Phase.RESYNCING:
            self._resync()
        else:
            self._push_again(now)

    # --- refusals

    def on_error(self, error: Error, now: float) -> None:
        """An ERROR about this document. No other document minds."""
        self._context.emit(Problem.of(error, self.name))
        op = (error.detail or {}).get("op")
        if isinstance(op, int):
            self._on_push_refused(error, op, now)
        elif self.phase is Phase.OPENING or error.code in ENDS_MEMBERSHIP:
            self._on_open_refused(error, now)
        elif self.phase is Phase.RESYNCING:
            self._on_resync_refused(error, now)

    def _on_open_refused(self, error: Error, now: float) -> None:
        """There is no OPENED, or no grant any more. Another connection, or another token, asks again."""
        self.handle = self.ref = None
        if error.retry in (Retry.NOW, Retry.LATER):
            self._move(Phase.CLOSED)
            self._retry_after(error, now)
        elif error.retry == Retry.AFTER_RESYNC and self._exchange is Exchange.CATCH_UP:
            self._exchange = Exchange.FULL
            self._context.send(self.opening())
        else:
            self._block(error.code)

    def _on_resync_refused(self, error: Error, now: float) -> None:
        if error.retry in (Retry.NOW, Retry.LATER):
            self._retry_after(error, now)
        elif error.retry == Retry.AFTER_RESYNC and self._exchange is Exchange.CATCH_UP:
            self._exchange = Exchange.FULL
            self._resync()
        else:
            self._block(error.code, leave=True)

    def _on_push_refused(self, error: Error, op: int, now: float) -> None:
        """The server refused `op`, and ignores later ones until it comes again."""
        if self.phase is not Phase.LIVE:  # the OPENED that is awaited says what to send again
            return
        detail = error.detail or {}
        if error.code == Code.OP_GAP:
            self._send_from(detail.get("expected"), now)
        elif not self.copy.is_pending(op):  # of before an answer that settled it
            return
        elif error.code == Code.MISSING_DEPS:
            self._replace_from(op, detail.get("sv"), now)
        elif error.code in BEYOND_REPAIR:
            self._rebuild(op, error.code)
        elif error.retry in (Retry.NOW, Retry.LATER):
            self._holder.window.rewind(self.copy, op)
            self._retry_after(error, now)
        elif error.retry == Retry.AFTER_RESYNC:
            self._resync()
        else:
            self._holder.window.rewind(self.copy, op)
            self._blocked = error.code

    def _replace_from(self, op: int, state_vector: object, now: float) -> None:
        if not isinstance(state_vector, bytes):
            raise bad_frame("missing_deps without the server's state vector")
        with self._holder.changing() as copy:
            copy.replace_from(op, state_vector, self._context.limits.update_bytes)
        self._holder.window.rewind(self.copy, op)
        self._push_again(now)

    def _send_from(self, op: object, now: float) -> None:
        """The server expects this op next. If it is acknowledged already, the two do not agree on where they are."""
        if isinstance(op, int) and self.copy.is_pending(op):
            self._holder.window.rewind(self.copy, op)
            self._push_again(now)
        else:
            self._resync()

    def _rebuild(self, op: int, code: str) -> None:
        """A refused update can not be mended: it and all later ones go aside, the replica is built anew."""
        with self._holder.changing() as copy:
            copy.hold(code)
        self._exchange, self._refused_position = Exchange.REBUILD, self.copy.position_of(op)
        self._resync()

    def _retry_after(self, error: Error, now: float) -> None:
        self.retry_at = now + self._backoff.next_wait_s(asked_s(error.retry_after_ms))

    def _block(self, reason: str, *, leave: bool = False) -> None:
        if leave and self.handle is not None:
            self._context.send(frames.Leave(self.handle))
        self.handle = self.ref = None
        self._blocked = reason
        self._move(Phase.BLOCKED)

    def on_audited(self, audited: frames.Audited) -> None:
        if not audited.ok and self.phase is Phase.LIVE:
            self._context.emit(Problem("audit_failed", f"not the server's document at {audited.seq}", self.name))
            self._exchange = Exchange.FULL
            self._resync()

    def ask_again(self) -> None:
        """There is another token: ask for what the last one did not allow, once the answer that comes is in."""
        self._asks_again = self.phase is Phase.RECEIVING
        if not self._asks_again and (self._blocked == Code.FORBIDDEN or self.access is Access.READ):
            self._context.send(self.opening())

    @property
    def _live_handle(self) -> int:
        assert self.handle is not None
        return self.handle

    def _move(self, phase: Phase) -> None:
        self.phase = move(PHASES, self.phase, phase)
