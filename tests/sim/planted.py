"""Bugs to plant: each takes one rule away, in the product's own code, by name. The simulator has to find every one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest

from client_sim.core import catchup as device_catchup
from client_sim.core import document as device_document
from client_sim.core import reasons, salvage
from client_sim.core.context import Context
from client_sim.core.copy import LocalCopy
from client_sim.core.device import Device
from client_sim.core.line import Line
from client_sim.core.merging import merged
from client_sim.core.pushing import Window
from crdt import excise
from crdt.chain import OpState
from crdt.protocol import frames
from crdt.protocol.frames import Access, Mode
from crdt.protocol.proof import OPTION_KEY, PublicKey
from crdt.replica import Replica
from crdt.update import read_update
from crdt.update.writer import Writer
from server.core import auth, catchup, gate, membership
from server.core.admission import AdmissionPolicy
from server.core.auth import Claims
from server.core.desk import Desk
from server.core.gate import Gate
from server.core.hub import Hub
from server.core.intake import Intake
from server.core.membership import Membership
from server.core.records import StoredDocument
from server.core.room import Room
from server.storage import compaction
from server.storage.memory import MemoryStorage

Plant = Callable[[pytest.MonkeyPatch], None]


@dataclass(frozen=True, slots=True)
class Planted:
    """A bug. `seed`: the first one from 1 on that finds it."""

    name: str
    seed: int
    plant: Plant


def _nothing(*_: Any, **__: Any) -> None:
    pass


# --- the server: what is told, and when


def ack_before_commit(patch: pytest.MonkeyPatch) -> None:
    begin = Room.begin_commit

    def begin_commit(self: Room) -> Any:
        append = begin(self)
        for entry in append.entries if append else ():
            if member := self.members.get(entry.device):
                self._desk.send(member.session, frames.Ack(self.handle, entry.last_op, entry.seq, entry.chain))
        return append

    patch.setattr(Room, "begin_commit", begin_commit)


def relay_before_commit(patch: pytest.MonkeyPatch) -> None:
    begin = Room.begin_commit

    def begin_commit(self: Room) -> Any:
        append = begin(self)
        for entry in append.entries if append else ():
            for member in self.members:
                if member.live and member.device != entry.device:
                    self._desk.send(member.session, frames.Delta(self.handle, entry.seq, entry.updates))
        return append

    patch.setattr(Room, "begin_commit", begin_commit)


def opened_is_one_ahead(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Room, "cursor", property(lambda self: frames.Cursor(self.epoch, self.head_seq + 1)))


def tail_misses_one(patch: pytest.MonkeyPatch) -> None:
    after = catchup.Tail.after

    def misses(self: catchup.Tail, seq: int) -> Any:
        entries = after(self, seq)
        return entries[1:] if entries else entries

    patch.setattr(catchup.Tail, "after", misses)


def equal_vectors_are_current(patch: pytest.MonkeyPatch) -> None:
    choose = catchup.choose

    def chooses(tail: Any, device: Any, state_vector: bytes | None, diff_of: Callable[[bytes], bytes]) -> Any:
        if state_vector is not None and not read_update(diff_of(state_vector)).structs:
            return Mode.CURRENT, (), 0
        return choose(tail, device, state_vector, diff_of)

    patch.setattr(membership, "choose", chooses)


def slow_readers_are_not_spared(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Membership, "stall", _nothing)


def acks_without_the_hash(patch: pytest.MonkeyPatch) -> None:
    ack = frames.Ack
    patch.setattr(membership, "Ack", lambda handle, op, seq, chain: ack(handle, op, seq, bytes(len(chain))))


# --- the server: what is taken


def no_dedupe(patch: pytest.MonkeyPatch) -> None:
    admit = Intake.admit

    def admits(self: Intake, op: Any) -> Any:
        op.number = max(op.number, self.last(op.device).op + 1)
        return admit(self, op)

    patch.setattr(Intake, "admit", admits)


def readers_may_write(patch: pytest.MonkeyPatch) -> None:
    admit = Room._admit

    patch.setattr(Room, "_admit", lambda self, arrival: admit(self, replace(arrival, access=Access.WRITE)))


def everybody_may_read(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Claims, "access", lambda self, document: Access.WRITE)


def the_revoked_stay(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Gate, "shut_out", _nothing)


def deletes_are_not_logged(patch: pytest.MonkeyPatch) -> None:
    apply_if_new = Replica.apply_if_new

    def applies(self: Replica, update: bytes) -> bool:
        apply_if_new(self, update)
        return False

    patch.setattr(Replica, "apply_if_new", applies)


# --- the server: what becomes of commits


def a_failed_commit_counts(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Room, "commit_failed", lambda self: self.commit_done(committed=True))


def a_failed_commit_is_forgotten(patch: pytest.MonkeyPatch) -> None:
    def commit_failed(self: Room) -> None:
        self._start_over([], self._recovery)

    patch.setattr(Room, "commit_failed", commit_failed)


def an_overtaken_commit_counts(patch: pytest.MonkeyPatch) -> None:
    done = Room.commit_done
    patch.setattr(Room, "commit_done", lambda self, *, committed: done(self, committed=True))


def the_second_room_is_not_told(patch: pytest.MonkeyPatch) -> None:
    appended = Hub._appended

    def appends(self: Hub, committed: Any) -> None:
        self._committing = self._committing[:1]
        appended(self, committed)

    patch.setattr(Hub, "_appended", appends)


# --- the server: who comes in


def proofs_are_not_checked(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(gate, "_check_proof", _nothing)


def any_key_will_do(patch: pytest.MonkeyPatch) -> None:
    proves = auth.proves

    def proving(options: Any, key_thumbprint: str, token_id: str, nonce: bytes) -> bool:
        try:
            shown = PublicKey.read(options.get(OPTION_KEY, "")).thumbprint
        except ValueError:
            return False
        return proves(options, shown, token_id, nonce)

    patch.setattr(gate, "proves", proving)


def nonces_repeat(patch: pytest.MonkeyPatch) -> None:
    opened = Gate.opened

    def opens(self: Gate, session: Any) -> None:
        entropy, self._desk.entropy = self._desk.entropy, bytes
        opened(self, session)
        self._desk.entropy = entropy

    patch.setattr(Gate, "opened", opens)


def the_door_stands_open(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(AdmissionPolicy, "is_overloaded", lambda self, pressure, *, was: False)


def once_overloaded_always_overloaded(patch: pytest.MonkeyPatch) -> None:
    judge = AdmissionPolicy.is_overloaded
    patch.setattr(
        AdmissionPolicy, "is_overloaded", lambda self, pressure, *, was: was or judge(self, pressure, was=was)
    )


# --- the server: documents that can not be read, and pushes that kill


def the_quarantined_are_opened(patch: pytest.MonkeyPatch) -> None:
    loaded = Room.loaded
    patch.setattr(Room, "loaded", lambda self, stored: loaded(self, replace(stored, quarantine=None)))


def what_is_damaged_looks_empty(patch: pytest.MonkeyPatch) -> None:
    failed = Room.load_failed

    def load_failed(self: Room, corrupt: str | None) -> None:
        if corrupt is None:
            failed(self, corrupt)
        else:
            self.loaded(StoredDocument(self.epoch or bytes(8), 0, None, ()))

    patch.setattr(Room, "load_failed", load_failed)


def the_death_of_a_worker_is_no_refusal(patch: pytest.MonkeyPatch) -> None:
    rehearsed = Room.rehearsed
    patch.setattr(Room, "rehearsed", lambda self, tried, error: rehearsed(self, 1 << 30, None))


def nobody_waits_for_a_full_queue(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Desk, "_judge_queue", _nothing)


def emoji_may_be_parted(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Writer, "is_second_half", lambda self, clock: False)


def excision_passes_over_an_edit(patch: pytest.MonkeyPatch) -> None:
    take = excise._Scratch._take

    def takes(self: excise._Scratch, steps: Any) -> None:
        for step in steps[:1]:
            self._apply(step.update, step.read, excise._OTHERS)
        take(self, steps[1:])

    patch.setattr(excise._Scratch, "_take", takes)


# --- the store


def the_head_is_not_checked(patch: pytest.MonkeyPatch) -> None:
    append = MemoryStorage._append

    def appends(self: MemoryStorage, wanted: Any) -> Any:
        held = self._documents.get(wanted.document)
        if held is None or held.head_seq < wanted.entries[0].seq:
            return append(self, wanted)
        held.entries.extend(wanted.entries)
        return append(self, wanted)._replace(committed=True)

    patch.setattr(MemoryStorage, "_append", appends)


def a_snapshot_without_the_last_entry(patch: pytest.MonkeyPatch) -> None:
    build = compaction.build_snapshot

    def builds(stored: StoredDocument, time_ms: int) -> Any:
        shorter = replace(stored, entries=stored.entries[:-1])
        state = Replica.load(shorter.state_updates()).state()
        return replace(build(stored, time_ms), state=state)

    patch.setattr(compaction, "build_snapshot", builds)
    patch.setattr(compaction, "verify", _nothing)


def a_snapshot_without_op_numbers(patch: pytest.MonkeyPatch) -> None:
    build = compaction.build_snapshot
    patch.setattr(compaction, "build_snapshot", lambda stored, time_ms: replace(build(stored, time_ms), ops={}))


def compaction_drops_what_came_since(patch: pytest.MonkeyPatch) -> None:
    save = MemoryStorage.save_snapshot

    async def saves(self: MemoryStorage, document: Any, snapshot: Any) -> None:
        held = self._documents[document]
        await save(self, document, replace(snapshot, seq=held.head_seq))

    patch.setattr(MemoryStorage, "save_snapshot", saves)


def op_numbers_outlive_their_epoch(patch: pytest.MonkeyPatch) -> None:
    def ops(self: StoredDocument) -> Any:
        known = dict(self.snapshot.ops) if self.snapshot else {}
        return known | {entry.device: OpState(entry.last_op, entry.chain) for entry in self.unsnapshotted}

    patch.setattr(StoredDocument, "ops", ops)


# --- the device


def an_edit_is_not_in_the_outbox(patch: pytest.MonkeyPatch) -> None:
    enqueue = LocalCopy._enqueue

    def enqueues(self: LocalCopy, update: bytes, *, heal: bool = False) -> None:
        if len(update) % 16:
            enqueue(self, update, heal=heal)

    patch.setattr(LocalCopy, "_enqueue", enqueues)


def the_outbox_is_not_stored(patch: pytest.MonkeyPatch) -> None:
    def enqueues(self: LocalCopy, update: bytes, *, heal: bool = False) -> None:
        save, self._store.save_outbox = self._store.save_outbox, _nothing  # type: ignore[method-assign]
        try:
            enqueue(self, update, heal=heal)
        finally:
            self._store.save_outbox = save  # type: ignore[method-assign]

    enqueue = LocalCopy._enqueue
    patch.setattr(LocalCopy, "_enqueue", enqueues)


def an_ack_drops_one_too_many(patch: pytest.MonkeyPatch) -> None:
    acknowledge = LocalCopy.acknowledge

    def acknowledges(self: LocalCopy, acked: OpState) -> int:
        count = acknowledge(self, acked)
        if count and self.outbox:
            self._store.drop_outbox(self._name, self.outbox[0].position, self.outbox[0].position)
        return count

    patch.setattr(LocalCopy, "acknowledge", acknowledges)


def what_comes_is_not_stored(patch: pytest.MonkeyPatch) -> None:
    take = LocalCopy.take

    def takes(self: LocalCopy, updates: Any) -> None:
        append, self._store.append_updates = self._store.append_updates, _nothing  # type: ignore[method-assign]
        try:
            take(self, updates)
        finally:
            self._store.append_updates = append  # type: ignore[method-assign]

    patch.setattr(LocalCopy, "take", takes)


def nothing_is_sent_again(patch: pytest.MonkeyPatch) -> None:
    def restart(self: Window, copy: LocalCopy) -> None:
        self._sent_op = max(copy.progress.acked.op, min(self._sent_op, copy.last_number.op))

    patch.setattr(Window, "restart", restart)


def hashes_are_not_compared(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(device_catchup, "compare", _nothing)
    patch.setattr(device_document, "compare", _nothing)


def client_ids_are_not_fresh(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Context, "next_client_id", lambda self: 4711)


def who_is_sent_away_comes_at_once(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Line, "stay_away", _nothing)


def who_is_sent_away_never_comes_back(patch: pytest.MonkeyPatch) -> None:
    stay_away = Line.stay_away

    def stays_away(self: Line, seconds: float, now: float) -> None:
        stay_away(self, 1e12 if seconds else 0.0, now)

    patch.setattr(Line, "stay_away", stays_away)


def healing_gives_nothing_back(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(LocalCopy, "push_missing", _nothing)


def damage_is_not_noticed(patch: pytest.MonkeyPatch) -> None:
    def restores(store: Any, name: str, stored: Any, *_: Any, **__: Any) -> None:
        store.save_progress(name, stored.progress)
        if stored.state is not None:
            store.replace_state(name, stored.state)
        store.append_updates(name, stored.updates)
        store.save_outbox(name, stored.outbox)

    patch.setattr(salvage, "_restore_document", restores)


def salvage_drops_the_outbox(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(salvage, "_sorted_out", lambda outbox: ([], []))


def what_has_a_number_is_merged_too(patch: pytest.MonkeyPatch) -> None:
    merge = LocalCopy.merge_waiting

    def merges(self: LocalCopy, bytes_max: int) -> int:
        if 0 < self._numbered < len(self.outbox):
            self._numbered -= 1
            self.outbox[self._numbered] = replace(self.outbox[self._numbered], number=None)
        return merge(self, bytes_max)

    patch.setattr(LocalCopy, "merge_waiting", merges)


def merging_drops_the_last_edit(patch: pytest.MonkeyPatch) -> None:
    def merges(replica: Replica, updates: Sequence[bytes]) -> bytes | None:
        return merged(replica, updates) and updates[0]

    patch.setattr("client_sim.core.copy.merged", merges)


def who_is_suspended_loses_what_waits(patch: pytest.MonkeyPatch) -> None:
    stop = Device._stop

    def stops(self: Device, reason: str | None) -> None:
        stop(self, reason)
        for document in self.documents.all() if reason == reasons.SUSPENDED else ():
            with document._holder.changing() as copy:
                copy._truncate_outbox(copy.numbered)

    patch.setattr(Device, "_stop", stops)


PLANTED = tuple(
    Planted(plant.__name__.replace("_", " "), seed, plant)
    for seed, plant in (
        (1, ack_before_commit),
        (1, relay_before_commit),
        (1, opened_is_one_ahead),
        (3, tail_misses_one),
        (1, equal_vectors_are_current),
        (49, slow_readers_are_not_spared),
        (1, acks_without_the_hash),
        (7, no_dedupe),
        (19, readers_may_write),
        (1, everybody_may_read),
        (53, the_revoked_stay),
        (1, deletes_are_not_logged),
        (8, a_failed_commit_counts),
        (9, a_failed_commit_is_forgotten),
        (1, an_overtaken_commit_counts),
        (3, the_second_room_is_not_told),
        (1, the_head_is_not_checked),
        (2, a_snapshot_without_the_last_entry),
        (2, a_snapshot_without_op_numbers),
        (2, compaction_drops_what_came_since),
        (1, op_numbers_outlive_their_epoch),
        (1, an_edit_is_not_in_the_outbox),
        (3, the_outbox_is_not_stored),
        (50, an_ack_drops_one_too_many),
        (1, what_comes_is_not_stored),
        (11, nothing_is_sent_again),
        (17, hashes_are_not_compared),
        (1, client_ids_are_not_fresh),
        (1, healing_gives_nothing_back),
        (14, proofs_are_not_checked),
        (14, any_key_will_do),
        (14, nonces_repeat),
        (21, the_door_stands_open),
        (13, once_overloaded_always_overloaded),
        (4, the_quarantined_are_opened),
        (4, what_is_damaged_looks_empty),
        (1, the_death_of_a_worker_is_no_refusal),
        (35, nobody_waits_for_a_full_queue),
        (6, emoji_may_be_parted),
        (14, excision_passes_over_an_edit),
        (21, who_is_sent_away_comes_at_once),
        (4, who_is_sent_away_never_comes_back),
        (3, damage_is_not_noticed),
        (3, salvage_drops_the_outbox),
        (4, what_has_a_number_is_merged_too),
        (1, merging_drops_the_last_edit),
        (34, who_is_suspended_loses_what_waits),
    )
)
