"""A device's own copy of one document: replica, outbox and progress, in memory exactly as in the store.

Every method that changes something is called inside a transaction of the store. If the transaction fails, the copy
may be half changed: whoever holds it drops it and loads another.

Invariants:
  1. The replica holds the store's state and cache log, and nothing else; every pending edit is in there too.
  2. In the outbox numbered entries come first, their ops consecutive from `acked.op + 1`, each with the hash up to it.
  3. The bytes of a numbered op never change, unless the server refused it (that consumes no number)
     or its epoch ended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from client_sim.core.merging import merged
from client_sim.core.parting import within_bounds
from client_sim.core.ports import DeviceStore, OutboxEntry, Progress, StoreDamaged, StoredDocument
from client_sim.core.roots import Roots
from crdt.chain import OpState
from crdt.errors import BadUpdate, ReplicaBroken
from crdt.protocol.frames import Cursor
from crdt.replica import Replica
from crdt.update import EMPTY_UPDATE, StateVector, read_state_vector, read_update

CACHED_UPDATES_MIN = 500
CACHED_BYTES_MIN = 64 << 10
STATE_BYTES_PER_UPDATE = 1 << 10
"""The cache log is compacted into the state when it has outgrown it: when it has more bytes than the state, or more
than an update for each KiB of it; less than the first two figures never is too much.

So writing states anew costs no more than twice what was written to the log, or 1 KiB an update. A load reads no more
than twice the state, and applies an update for each KiB: what a phone does in the time in which it reads that.
"""


class Misfit(Exception):
    """The server's updates build on what this replica lacks."""


class EditTooBig(ValueError):
    """The edit makes a larger or more complicated update than a server takes. It was not made: split it."""


class LocalCopy:
    """One document's durable state, mirrored. `acked` is in `progress`, and counts in its epoch."""

    def __init__(self, store: DeviceStore, name: str, client_id: int) -> None:
        """Load the document. Raises StoreError and StoreDamaged."""
        stored = store.load(name)
        self._store = store
        self._name = name
        self.progress: Progress = stored.progress
        self.outbox: list[OutboxEntry] = list(stored.outbox)
        self.next_position = self.outbox[-1].position + 1 if self.outbox else 1
        """Where the next edit will be in the outbox."""
        self._numbered = sum(entry.number is not None for entry in self.outbox)
        self._state_bytes = len(stored.state or b"")
        self._cached = len(stored.updates)
        self._cached_bytes = sum(map(len, stored.updates))
        self.partial_id = stored.partial.payload_id if stored.partial else None
        """Of an answer that comes in chunks and is not complete: which payload; None if there is none."""
        self.partial = bytearray(stored.partial.data if stored.partial else b"")
        """What is here of it."""
        self.replica = _load_replica(name, stored, client_id)
        self._check_numbers()

    def _check_numbers(self) -> None:
        number = self.progress.acked
        for entry in self.outbox[: self._numbered]:
            number = number.after(entry.update)
            if entry.number != number:
                raise StoreDamaged(f"the outbox of {self._name} is not what was written to it")

    # --- what it knows

    @property
    def cursor(self) -> Cursor | None:
        epoch, seq = self.progress.epoch, self.progress.seq
        return None if epoch is None or seq is None else Cursor(epoch, seq)

    @property
    def live_cursor(self) -> Cursor:
        """The server has answered: there is one."""
        assert self.cursor is not None
        return self.cursor

    @property
    def last_position(self) -> int:
        """Where the last edit is in the outbox, while it is there."""
        return self.outbox[-1].position if self.outbox else 0

    def is_acknowledged(self, position: int) -> bool:
        """True if every edit up to that place is."""
        return not self.outbox or self.outbox[0].position > position

    @property
    def last_number(self) -> OpState:
        """The last op that has a number, acknowledged or not."""
        last = self.outbox[self._numbered - 1].number if self._numbered else None
        return last or self.progress.acked

    def chain_at(self, op: int) -> bytes | None:
        """The hash up to `op`; None for ops that were never made here, or were acknowledged long ago."""
        if op == self.progress.acked.op:
            return self.progress.acked.chain
        number = self.outbox[self._index(op)].number if self.is_pending(op) else None
        return number.chain if number else None

    @property
    def numbered(self) -> int:
        """How many entries of the outbox have their op: the first ones."""
        return self._numbered

    def is_pending(self, op: int) -> bool:
        """True if `op` has a number here and no acknowledgement."""
        return self.progress.acked.op < op <= self.last_number.op

    def position_of(self, op: int) -> int:
        """Where a pending op is in the outbox: that stays, whatever number it gets."""
        assert self.is_pending(op)
        return self.outbox[self._index(op)].position

    def _index(self, op: int) -> int:
        return op - self.progress.acked.op - 1

    # --- local edits

    def edit(self, change: Callable[[Roots], object], *, bytes_max: int, number: bool) -> bytes | None:
        """Run `change` as one edit: into the replica, the cache and the outbox. None if it changed nothing.

        With `number` it gets its op at once, since it is about to be framed. Raises EditTooBig, and what `change` does.
        """
        update = self.replica.edit(lambda doc: change(Roots(doc)))
        if update is None:
            return None
        if len(update) > bytes_max:
            raise EditTooBig(f"an edit of {len(update)} bytes; the server takes {bytes_max}")
        try:
            read_update(update, bounded=True)
        except BadUpdate as exc:  # no server would take it, and it could not be read again here
            raise EditTooBig(f"an edit that no server takes: {exc}") from exc
        self._cache((update,))
        self._enqueue(update)
        if number:
            self.number_up_to(len(self.outbox))
        self._compact_if_due()
        return update

    def _enqueue(self, update: bytes, *, heal: bool = False) -> None:
        entry = OutboxEntry(self.next_position, update, heal=heal)
        self.next_position += 1
        self.outbox.append(entry)
        self._store.save_outbox(self._name, (entry,))

    def merge_waiting(self, bytes_max: int) -> int:
        """Let one edit take the place of those without a number, where that is shorter; by how many there are less."""
        waiting = self.outbox[self._numbered :]
        if len(waiting) < 2 or any(entry.heal for entry in waiting):
            return 0
        update = merged(self.replica, [entry.update for entry in waiting])
        if update is None or len(update) > bytes_max:
            return 0
        entry = OutboxEntry(waiting[0].position, update)
        self._store.drop_outbox(self._name, waiting[1].position, waiting[-1].position)
        self._store.save_outbox(self._name, (entry,))
        self.outbox[self._numbered :] = [entry]
        return len(waiting) - 1

    def number_up_to(self, count: int) -> None:
        """Give the first `count` entries of the outbox their ops, where they have none."""
        number = self.last_number
        for index in range(self._numbered, count):
            entry = self.outbox[index]
            number = number.after(entry.update)
            self.outbox[index] = replace(entry, number=number)
        self._store.save_outbox(self._name, self.outbox[self._numbered : count])
        self._numbered = max(self._numbered, count)

    # --- the server's answers

    def take(self, updates: Sequence[bytes]) -> None:
        """Integrate what the server sent. Raises Misfit, BadUpdate and ReplicaBroken."""
        check_fit(updates, self.replica.state_vector())
        self._cache(updates)
        self.replica.apply(updates)
        self._compact_if_due()

    def start_over(self, updates: Sequence[bytes], client_id: int, bytes_max: int) -> None:
        """Build the replica anew from the server's whole state, then what only this device has.

        What of that is not pending is pushed, by ops of `bytes_max`. Raises Misfit, BadUpdate and ReplicaBroken.
        """
        own, server_sv = self.replica, self._load(updates, client_id)
        if self.progress.salvaged:
            self._reunite(own, bytes_max)
        else:
            self.replica.apply([own.diff(server_sv)])
            if not self.outbox and self._has_more_than(server_sv):
                self.push_missing(server_sv, bytes_max, heal=True)
        self._compact()

    def _reunite(self, own: Replica, bytes_max: int) -> None:
        """Bring together the server's state, the outbox and the cache, of which a damaged store has lost any part.

        What the server has leaves the outbox. What is only in the cache gets a place in it. An entry that builds on
        what is in neither is put aside: nobody can use it as it is.
        """
        saved = list(self.outbox)
        self._truncate_outbox(0)
        for entry in saved:
            if not self._fits(entry.update):
                self._give_back_all(own, bytes_max)
            if self._fits(entry.update):
                self._give_back(entry.update, heal=entry.heal)
            else:
                self._store.put_aside(self._name, [entry.update])
        self._give_back_all(own, bytes_max)
        self._advance(salvaged=False)

    def _fits(self, update: bytes) -> bool:
        return not read_update(update).missing(self.replica.state_vector())

    def _give_back(self, update: bytes, *, heal: bool = False) -> None:
        if self.replica.apply_if_new(update):
            self._enqueue(update, heal=heal)

    def _give_back_all(self, own: Replica, bytes_max: int) -> None:
        known = self.replica.state_vector_bytes()
        for part in within_bounds(own.diff(known), known, bytes_max):
            self._give_back(part)

    def rebuild(self, updates: Sequence[bytes], client_id: int, refused_position: int) -> None:
        """Build the replica anew from the server's whole state, then the pending edits before `refused_position`.

        Those there and later are put aside. Raises Misfit, BadUpdate and ReplicaBroken.
        """
        kept = sum(entry.position < refused_position for entry in self.outbox)
        self._store.put_aside(self._name, [entry.update for entry in self.outbox[kept:]])
        self._truncate_outbox(kept)
        self._load([*updates, *(entry.update for entry in self.outbox)], client_id)
        self._compact()

    def _load(self, updates: Sequence[bytes], client_id: int) -> bytes:
        """Let these updates take the replica's place; their state vector."""
        check_fit(updates, {})
        self.replica = Replica.load(updates, client_id)
        return self.replica.state_vector_bytes()

    def acknowledge(self, acked: OpState) -> int:
        """Drop what is acknowledged, `acked.chain` having been compared; how many ops that were."""
        dropped = [entry for entry in self.outbox[: self._numbered] if entry.number and entry.number.op <= acked.op]
        if dropped:
            self._store.drop_outbox(self._name, dropped[0].position, dropped[-1].position)
            del self.outbox[: len(dropped)]
            self._numbered -= len(dropped)
        self._advance(acked=acked)
        return len(dropped)

    def reach(self, cursor: Cursor) -> None:
        """Entry `cursor.seq` and all before it are in."""
        self._advance(epoch=cursor.epoch, seq=cursor.seq)

    def heal(self, acked: OpState, server_sv: bytes, client_id: int, bytes_max: int, *, push: bool) -> None:
        """The server's history went back, or is another: with `push`, give it what it lacks of ours.

        Ops go on after `acked`, which is where the server has them, and under a fresh client id. Raises BadUpdate.
        """
        self.replica = Replica.load([self.replica.state()], client_id)
        self._truncate_outbox(0)
        self._advance(acked=acked)
        if push:
            self.push_missing(server_sv, bytes_max, heal=True)

    def push_missing(self, server_sv: bytes, bytes_max: int, *, heal: bool) -> None:
        """Put what the server lacks into the outbox, as one op if an op may be so large; nothing, if it lacks nothing.

        Raises BadUpdate.
        """
        diff = self.replica.diff(server_sv)
        if diff != EMPTY_UPDATE:
            for part in within_bounds(diff, server_sv, bytes_max):
                self._enqueue(part, heal=heal)

    def replace_from(self, op: int, server_sv: bytes, bytes_max: int) -> None:
        """The server refused `op` for what it lacks: put a diff in the place of it and of all later edits.

        Raises BadUpdate.
        """
        read_state_vector(server_sv)
        self._truncate_outbox(self._index(op))
        self.push_missing(server_sv, bytes_max, heal=False)

    def _has_more_than(self, server_sv: bytes) -> bool:
        """True if the replica has structs that the server's state vector does not cover."""
        known = read_state_vector(server_sv)
        return any(clock > known.get(client, 0) for client, clock in self.replica.state_vector().items())

    def hold(self, reason: str | None) -> None:
        """Remember why nothing is sent until the app decides; None: go on."""
        self._advance(held=reason)

    def _truncate_outbox(self, count: int) -> None:
        if dropped := self.outbox[count:]:
            self._store.drop_outbox(self._name, dropped[0].position, dropped[-1].position)
            del self.outbox[count:]
            self.next_position = dropped[0].position  # what stands in for it is as old as it was
            self._numbered = min(self._numbered, count)

    def _advance(self, **changes: Any) -> None:
        self.progress = replace(self.progress, **changes)
        self._store.save_progress(self._name, self.progress)

    # --- an answer in chunks

    def keep_chunk(self, payload_id: bytes, offset: int, data: bytes) -> None:
        """Keep the slice at `offset`, where what is kept of that payload ends; or the first one, of it alone."""
        if offset == 0:
            self.drop_partial()
            self.partial_id = payload_id
        assert (self.partial_id, len(self.partial)) == (payload_id, offset)
        self.partial += data
        self._store.append_chunk(self._name, payload_id, offset, data)

    def drop_partial(self) -> None:
        if self.partial_id is not None:
            self._store.drop_chunks(self._name)
            self.partial_id = None
            self.partial.clear()

    # --- the cache

    def _cache(self, updates: Sequence[bytes]) -> None:
        self._store.append_updates(self._name, updates)
        self._cached += len(updates)
        self._cached_bytes += sum(map(len, updates))

    def _compact_if_due(self) -> None:
        updates_max = max(CACHED_UPDATES_MIN, self._state_bytes // STATE_BYTES_PER_UPDATE)
        if self._cached > updates_max or self._cached_bytes > max(CACHED_BYTES_MIN, self._state_bytes):
            self._compact()

    def _compact(self) -> None:
        state = self.replica.state()
        self._store.replace_state(self._name, state)
        self._state_bytes, self._cached, self._cached_bytes = len(state), 0, 0


def check_fit(updates: Iterable[bytes], known: StateVector) -> None:
    """Raise Misfit if an update does not build on `known` and on those before it, BadUpdate if it is not one.

    The library would keep the first kind where nobody sees it, and may panic on the second.
    """
    known = dict(known)
    for update in updates:
        read = read_update(update)
        if missing := read.missing(known):
            raise Misfit(f"an update builds on {missing}, which is not here")
        read.advance(known)


def _load_replica(name: str, stored: StoredDocument, client_id: int) -> Replica:
    updates = [stored.state, *stored.updates] if stored.state is not None else list(stored.updates)
    try:
        check_fit(updates, {})
        return Replica.load(updates, client_id)
    except (Misfit, BadUpdate, ReplicaBroken) as exc:
        raise StoreDamaged(f"what is stored of {name} can not be read: {exc}") from exc
