"""Storage that fails, documents that other processes write too, and a library that stumbles (I3, I6)."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any

import pytest
from pycrdt import Doc, Map

from crdt.errors import ReplicaBroken
from crdt.ids import DeviceId
from crdt.protocol import frames
from crdt.protocol.codes import Code
from crdt.protocol.frames import Ack, Cursor, Delta, Error, Mode, Open, Opened
from crdt.replica import Replica
from crdt.update import EMPTY_STATE_VECTOR
from server.core import effects, events
from server.core.membership import LOOK_AGAIN_S
from server.core.records import DocumentAppend, LogEntry
from tests.unit.server.core.lab import MAIN, Lab, Writer, now_of, values


def refusals(lab: Lab, session: int) -> list[tuple[str, object]]:
    found = [frame for frame in lab.received(session) if isinstance(frame, Error)]
    return [(error.code, (error.detail or {}).get("op")) for error in found]


def acked(lab: Lab, session: int) -> list[tuple[int, int]]:
    return [(frame.op, frame.seq) for frame in lab.received(session) if isinstance(frame, Ack)]


# --- an append that failed


@pytest.mark.parametrize("durable", [True, False])
def test_what_a_failed_append_left_in_the_log_is_acknowledged_and_the_rest_sent_again(durable: bool) -> None:
    lab = Lab()
    writer, (phone, handle), (laptop, _) = Writer(1), lab.join(), lab.join(device="laptop")
    updates = [writer.type(char) for char in "abc"]
    lab.push(phone, handle, 1, updates[0])
    lab.turn()
    lab.push(phone, handle, 2, updates[1])
    lab.fail(durable=durable)
    assert lab.received(phone) == []
    lab.push(phone, handle, 3, updates[2])
    lab.answer()
    if durable:
        ack, error = lab.received(phone)
        assert isinstance(ack, Ack)
        assert (ack.op, ack.seq) == (1, 1)
    else:
        (error,) = lab.received(phone)
    assert isinstance(error, Error)
    first = 2 if durable else 1
    assert (error.code, error.detail) == (Code.NOT_SAVED, {"op": first})
    lab.settle()
    assert len(lab.durable()) == int(durable)
    lab.push(phone, handle, first, *updates[first - 1 :])
    lab.settle()
    assert [entry.last_op for entry in lab.durable()] == ([1, 3] if durable else [3])
    assert [frame.seq for frame in lab.received(laptop) if isinstance(frame, Delta)] == ([1, 2] if durable else [1])


def test_an_op_that_turns_out_to_be_saved_holds_up_no_later_one() -> None:
    """The phone was told to send op 1 again, but learns from another's load that it is in the log, and goes on."""
    lab = Lab()
    writer, (phone, handle), (laptop, _) = Writer(1), lab.join(), lab.join(device="laptop")
    lab.push(phone, handle, 1, writer.type("a"))
    lab.turn()
    lab.fail(durable=True)
    lab.fail()
    lab.send(laptop, frames.Resync(handle, None, EMPTY_STATE_VECTOR))
    lab.settle()
    lab.push(phone, handle, 2, writer.type("b"))
    lab.settle()
    assert acked(lab, phone) == [(1, 1), (2, 2)]


@pytest.mark.parametrize("durable", [True, False])
def test_a_load_that_fails_after_a_failed_append_loses_nothing(durable: bool) -> None:
    lab = Lab()
    writer, (phone, handle), (laptop, _) = Writer(1), lab.join(), lab.join(device="laptop")
    updates = [writer.type(char) for char in "ab"]
    lab.push(phone, handle, 1, updates[0])
    lab.turn()
    lab.push(phone, handle, 2, updates[1])
    lab.fail(durable=durable)
    lab.fail()
    assert refusals(lab, phone) == [(Code.NOT_SAVED, 1)]
    lab.push(phone, handle, 1, *updates)
    lab.settle()
    assert acked(lab, phone)[-1][0] == 2
    assert values(lab.durable()) == {"t": "ba"}
    assert [frame.seq for frame in lab.received(laptop) if isinstance(frame, Delta)] == list(
        range(1, len(lab.durable()) + 1)
    )


def test_a_device_that_reconnected_meanwhile_is_told_on_its_new_session() -> None:
    lab = Lab()
    writer, (old, handle) = Writer(1), lab.join()
    update = writer.type("a")
    lab.push(old, handle, 1, update)
    lab.turn()
    new = lab.hello("alice", "phone", Open(1, "main", None, EMPTY_STATE_VECTOR))
    lab.fail()
    lab.settle()
    lab.received(old)
    assert lab.take(new, Opened).acked_op == 0
    lab.push(new, handle, 1, update)
    lab.settle()
    assert acked(lab, new) == [(1, 1)]


def test_a_crash_before_the_commit_reports_leaves_what_the_log_has() -> None:
    for durable in (True, False):
        lab = Lab()
        writer, (phone, handle) = Writer(1), lab.join()
        update = writer.type("a")
        lab.push(phone, handle, 1, update)
        lab.turn()
        append = lab.held.popleft()
        assert isinstance(append, effects.Append)
        if durable:
            now_of(lab.storage.append(append.batch))
        lab.start()
        phone = lab.hello("alice", "phone", Open(1, "main", None, EMPTY_STATE_VECTOR))
        lab.settle()
        assert lab.take(phone, Opened).acked_op == int(durable)
        lab.push(phone, handle, 1, update)
        lab.settle()
        assert acked(lab, phone) == [(1, 0 if durable else 1)]
        assert len(lab.durable()) == 1


# --- a document that can not be loaded


@pytest.mark.parametrize(
    ("corrupt", "code", "retry_after_ms"), [(None, Code.NOT_SAVED, 1000), ("a gap", Code.DOC_QUARANTINED, None)]
)
def test_an_open_of_what_can_not_be_loaded_is_refused_and_tried_again_when_asked(
    corrupt: str | None, code: Code, retry_after_ms: int | None
) -> None:
    lab = Lab()
    phone = lab.hello("alice", "phone", Open(3, "main", None, EMPTY_STATE_VECTOR))
    fail_to_load(lab, corrupt)
    error = lab.take(phone, Error)
    assert (error.ref, error.handle, error.code, error.retry_after_ms) == (3, None, code, retry_after_ms)
    lab.send(phone, Open(4, "main", None, EMPTY_STATE_VECTOR))
    lab.settle()
    assert lab.take(phone, Opened).ref == 4


@pytest.mark.parametrize(("corrupt", "code"), [(None, Code.NOT_SAVED), ("a gap", Code.DOC_QUARANTINED)])
def test_pushes_to_what_can_not_be_loaded_are_refused_once_for_each_device(corrupt: str | None, code: Code) -> None:
    lab = Lab(resident_bytes_max=0)
    writer = Writer(1)
    (phone, handle), (laptop, _) = lab.join(), lab.join(device="laptop")
    lab.push(phone, handle, 1, writer.type("a"))
    lab.push(phone, handle, 2, writer.type("b"))
    lab.push(laptop, handle, 1, Writer(2).type("c"))
    lab.push(phone, handle, 3, writer.type("d"))
    fail_to_load(lab, corrupt)
    assert refusals(lab, phone) == [(code, 1)]
    assert refusals(lab, laptop) == [(code, 1)]


def fail_to_load(lab: Lab, corrupt: str | None) -> None:
    """Storage fails once, or finds the document damaged as often as it is asked to look."""
    while any(isinstance(effect, effects.Load) for effect in lab.held):
        lab.held = deque(effect for effect in lab.held if not isinstance(effect, effects.Load))
        lab.feed(events.LoadFailed(MAIN, corrupt))


def test_a_slow_reader_that_could_not_be_brought_current_is_so_later() -> None:
    """It asked for nothing and may think that it is live: an error would say nothing to it."""
    lab = Lab(resident_bytes_max=0, sweep_s=60.0)
    (phone, handle), (laptop, _) = lab.join(), lab.join(device="laptop")
    lab.feed(events.OutboxOverfull(laptop))
    lab.push(phone, handle, 1, Writer(1).type("a"))
    lab.settle()
    lab.drain(laptop)
    lab.fail()
    assert lab.received(laptop) == []
    lab.advance(61.0)
    assert lab.take(laptop, Opened).cursor.seq == 1


def test_an_audit_of_what_can_not_be_loaded_is_not_answered() -> None:
    lab = Lab(resident_bytes_max=0)
    phone, handle = lab.join()
    lab.send(phone, frames.Audit(handle, 0, bytes(16)))
    lab.fail()
    assert lab.received(phone) == []


# --- other processes


def test_two_processes_converge_and_all_members_get_everything_in_order() -> None:
    first = Lab()
    second = Lab(storage=first.storage)
    labs = (first, second)
    members = [lab.join(device=f"{name}-{index}") for index, lab in enumerate(labs) for name in ("a", "b")]
    writers = [Writer(number) for number in (1, 2, 3, 4)]
    for round_ in range(3):
        for index, ((session, handle), writer) in enumerate(zip(members, writers, strict=True)):
            labs[index // 2].push(session, handle, round_ + 1, writer.type("abcd"[index]))
        for lab in labs:
            lab.turn()
        for lab in labs:
            lab.settle()
    log = first.durable()
    assert [entry.seq for entry in log] == list(range(1, len(log) + 1))
    assert len(values(log)["t"]) == 12
    done: dict[DeviceId, int] = {}
    for entry in log:
        assert entry.first_op == done.get(entry.device, 0) + 1
        done[entry.device] = entry.last_op
    assert list(done.values()) == [3, 3, 3, 3]
    for index, (session, handle) in enumerate(members):
        lab = labs[index // 2]
        seqs = [frame.seq for frame in lab.received(session) if isinstance(frame, Ack | Delta) and frame.seq]
        assert seqs == list(range(1, len(seqs) + 1))
        assert handle == 1


def test_an_op_that_another_process_took_in_is_not_taken_twice() -> None:
    first = Lab()
    second = Lab(storage=first.storage)
    writer, (session, handle) = Writer(1), first.join()
    update = writer.type("a")
    first.push(session, handle, 1, update)
    first.turn()
    roamed, handle = second.join()
    second.push(roamed, handle, 1, update)
    second.settle()
    first.settle()
    assert acked(second, roamed) == [(1, 1)]
    assert acked(first, session) == [(1, 1)]
    assert len(first.durable()) == 1


def test_a_log_that_went_far_on_makes_members_say_what_they_have() -> None:
    """Another process wrote and compacted: the entries that the members lack are gone from the log."""
    lab = Lab()
    other = Lab(storage=lab.storage)
    writer, (phone, handle) = Writer(1), lab.join()
    foreign, (tablet, _) = Writer(2), other.join(device="tablet")
    for number in range(1, 4):
        other.push(tablet, handle, number, foreign.type("x"))
        other.settle()
        other.held.append(effects.Compact(MAIN))
        other.settle()
    lab.push(phone, handle, 1, writer.type("a"))
    lab.settle()
    opened = lab.received(phone)[0]
    assert isinstance(opened, Opened)
    assert opened.mode is Mode.NEED_SV
    assert opened.ref == 0
    lab.send(phone, frames.Resync(handle, None, EMPTY_STATE_VECTOR))
    lab.settle()
    opened = lab.take(phone, Opened)
    assert (opened.cursor.seq, opened.acked_op) == (4, 1)


def test_a_device_that_knows_more_than_a_stale_process_starts_no_new_epoch() -> None:
    first = Lab()
    second = Lab(storage=first.storage)
    first.join(device="laptop")
    session, handle = second.join()
    second.push(session, handle, 1, Writer(1).type("a"))
    second.settle()
    epoch = first.epoch()
    roamed = first.hello("alice", "phone", Open(1, "main", Cursor(epoch, 1), None))
    first.settle()
    opened = first.take(roamed, Opened)
    assert (opened.mode, opened.cursor, opened.acked_op) == (Mode.CURRENT, Cursor(epoch, 1), 1)
    assert first.epoch() == epoch


@pytest.mark.parametrize("user", ["alice", "bob"])
def test_a_device_from_an_epoch_that_another_process_began_goes_on_in_it(user: str) -> None:
    """A process that took the new epoch for a void one would have its devices heal what is in the log already."""
    behind = Lab()
    other = Lab(storage=behind.storage)
    behind.join(device="laptop")
    old = behind.epoch()
    other.hello("alice", "tablet", Open(1, "main", Cursor(old, 9), EMPTY_STATE_VECTOR))
    other.settle()
    new = Cursor(other.epoch(), 0)
    roamed = behind.hello(user, "phone", Open(1, "alice/main", new, None), docs={"alice/main": "rw"})
    behind.settle()
    opened = behind.take(roamed, Opened)
    assert new.epoch != old
    assert (opened.mode, opened.cursor) == (Mode.CURRENT, new)


def test_for_devices_of_an_epoch_that_is_over_the_log_is_read_again_once() -> None:
    lab = Lab()
    lab.join()
    loads = 0
    for number in range(5):
        session = lab.hello("alice", f"d{number}", Open(1, "main", Cursor(b"over now", 3), EMPTY_STATE_VECTOR))
        loads += sum(isinstance(effect, effects.Load) for effect in lab.held)
        lab.settle()
        assert lab.take(session, Opened).cursor == Cursor(lab.epoch(), 0)
    assert loads == 1


def test_a_guest_who_knows_more_is_told_to_come_again_and_not_that_its_work_is_lost() -> None:
    """The log was read again for him a moment ago; since then another process has written."""
    behind = Lab()
    other = Lab(storage=behind.storage)
    behind.join(device="laptop")
    docs = {"alice/main": "rw"}
    behind.hello("bob", "y", Open(1, "alice/main", Cursor(behind.epoch(), 99), EMPTY_STATE_VECTOR), docs=docs)
    behind.settle()
    session, handle = other.join()
    other.push(session, handle, 1, Writer(1).type("a"))
    other.settle()
    open_ = Open(1, "alice/main", Cursor(behind.epoch(), 1), None)
    bob = behind.hello("bob", "x", open_, docs=docs)
    behind.settle()
    error = behind.take(bob, Error)
    assert (error.code, error.ref, error.retry_after_ms) == (Code.NOT_SAVED, 1, LOOK_AGAIN_S * 1000)
    behind.advance(LOOK_AGAIN_S)
    behind.send(bob, open_)
    behind.settle()
    assert behind.take(bob, Opened).mode is Mode.CURRENT


@pytest.mark.parametrize("epoch", ["over now", None])
def test_a_guest_who_claims_to_know_more_all_the_time_keeps_nobody_else_out(epoch: str | None) -> None:
    behind = Lab()
    other = Lab(storage=behind.storage)
    behind.join(device="laptop")
    docs = {"alice/main": "rw"}
    claimed = Cursor(epoch.encode() if epoch else behind.epoch(), 99)
    eve = behind.hello("eve", "x", Open(1, "alice/main", claimed, EMPTY_STATE_VECTOR), docs=docs)
    behind.settle()
    session, handle = other.join()
    other.push(session, handle, 1, Writer(1).type("a"))
    other.settle()
    behind.send(eve, Open(2, "alice/main", Cursor(b"made up.", 5), EMPTY_STATE_VECTOR))
    bob = behind.hello("bob", "x", Open(1, "alice/main", Cursor(behind.epoch(), 1), None), docs=docs)
    behind.settle()
    assert behind.take(bob, Opened).mode is Mode.CURRENT
    behind.take(eve, Opened)
    assert behind.take(eve, Error).code == Code.NOT_SAVED


# --- epochs


def test_an_owners_device_ahead_of_the_log_begins_a_new_epoch_for_all() -> None:
    lab = Lab()
    (phone, handle), (laptop, _) = lab.join(), lab.join(device="laptop")
    epoch = lab.epoch()
    lab.push(phone, handle, 1, Writer(1).type("a"))
    tablet = lab.hello("alice", "tablet", Open(1, "main", Cursor(epoch, 9), EMPTY_STATE_VECTOR))
    lab.settle()
    assert lab.epoch() != epoch
    opened = lab.take(tablet, Opened)
    assert opened.cursor == Cursor(lab.epoch(), 0)
    assert opened.state_vector is not None
    for session in (phone, laptop):
        told = lab.take(session, Opened)
        assert (told.ref, told.mode, told.cursor.epoch) == (0, Mode.NEED_SV, lab.epoch())
        assert lab.received(session) == []


def test_a_grantee_ahead_of_the_log_begins_no_epoch() -> None:
    lab = Lab()
    epoch = lab.epoch()
    cursor = Cursor(epoch, 9)
    bob = lab.hello("bob", "x", Open(1, "alice/main", cursor, EMPTY_STATE_VECTOR), docs={"alice/main": "rw"})
    lab.settle()
    opened = lab.take(bob, Opened)
    assert (opened.mode, opened.cursor) == (Mode.DIFF, Cursor(epoch, 0))


def test_for_a_grantee_ahead_of_this_process_the_log_is_read_again() -> None:
    """Another process has written what the device knows: its cursor is good."""
    lab = Lab()
    lab.join(device="laptop")
    other = Lab(storage=lab.storage)
    session, handle = other.join()
    other.push(session, handle, 1, Writer(1).type("a"))
    other.settle()
    cursor = Cursor(lab.epoch(), 1)
    bob = lab.hello("bob", "x", Open(1, "alice/main", cursor, None), docs={"alice/main": "rw"})
    lab.settle()
    opened = lab.take(bob, Opened)
    assert (opened.mode, opened.cursor) == (Mode.CURRENT, cursor)


def test_ops_of_the_old_epoch_are_not_taken_for_those_of_the_new_one() -> None:
    """A device's first op was under way when the epoch changed; what it sends once it knows has the same number."""
    lab = Lab()
    writer, (laptop, handle) = Writer(1), lab.join(device="laptop")
    stale = writer.type("a")
    lab.hello("alice", "phone", Open(1, "main", Cursor(lab.epoch(), 9), EMPTY_STATE_VECTOR))
    lab.push(laptop, handle, 1, stale)
    lab.settle()
    lab.push(laptop, handle, 1, stale)
    lab.settle()
    assert lab.durable() == []
    assert lab.take(laptop, Opened).mode is Mode.NEED_SV
    lab.send(laptop, frames.Resync(handle, None, EMPTY_STATE_VECTOR))
    heal = writer.replica.diff(EMPTY_STATE_VECTOR)
    lab.send(laptop, frames.Push(handle, 1, (heal,), heal=True))
    lab.settle()
    assert lab.take(laptop, Opened).acked_op == 0
    assert acked(lab, laptop) == [(1, 1)]


def test_ops_of_the_old_epoch_do_not_outlive_it_in_a_document_that_is_being_loaded() -> None:
    """They come while the document is read once more, and their device has reconnected when that is done."""
    lab = Lab()
    writer, (laptop, handle) = Writer(1), lab.join(device="laptop")
    stale = [writer.type(char) for char in "abcd"]
    lab.hello("alice", "phone", Open(1, "main", Cursor(lab.epoch(), 9), EMPTY_STATE_VECTOR))
    lab.settle()
    lab.hello("alice", "tablet", Open(1, "main", Cursor(lab.epoch(), 9), EMPTY_STATE_VECTOR))
    lab.push(laptop, handle, 1, *stale)
    cursor = Cursor(b"old old!", 0)
    laptop = lab.hello("alice", "laptop", Open(1, "main", cursor, EMPTY_STATE_VECTOR))
    lab.fail()
    lab.settle()
    assert lab.take(laptop, Error).code == Code.NOT_SAVED
    lab.send(laptop, Open(2, "main", cursor, EMPTY_STATE_VECTOR))
    lab.settle()
    assert lab.take(laptop, Opened).acked_op == 0
    assert lab.durable() == []


def test_a_resync_that_waited_while_the_epoch_changed_is_answered_once_and_counts() -> None:
    lab = Lab()
    writer, (laptop, handle) = Writer(1), lab.join(device="laptop")
    lab.hello("alice", "phone", Open(1, "main", Cursor(lab.epoch(), 9), EMPTY_STATE_VECTOR))
    lab.send(laptop, frames.Resync(handle, Cursor(lab.epoch(), 0), EMPTY_STATE_VECTOR))
    lab.settle()
    (opened,) = lab.received(laptop)
    assert isinstance(opened, Opened)
    assert (opened.mode, opened.cursor.epoch) == (Mode.DIFF, lab.epoch())
    lab.push(laptop, handle, 1, writer.type("a"))
    lab.settle()
    assert acked(lab, laptop) == [(1, 1)]


def test_when_a_new_epoch_can_not_begin_queued_ops_are_to_be_sent_again() -> None:
    lab = Lab()
    phone, handle = lab.join()
    lab.push(phone, handle, 1, Writer(1).type("a"))
    tablet = lab.hello("alice", "tablet", Open(1, "main", Cursor(lab.epoch(), 9), EMPTY_STATE_VECTOR))
    lab.answer()
    lab.fail()
    assert refusals(lab, phone) == [(Code.NOT_SAVED, 1)]
    assert refusals(lab, tablet) == [(Code.NOT_SAVED, None)]


def test_an_epoch_that_another_process_began_is_followed() -> None:
    first = Lab()
    second = Lab(storage=first.storage, entropy=1000)
    session, handle = first.join()
    second.hello("alice", "tablet", Open(1, "main", Cursor(first.epoch(), 9), EMPTY_STATE_VECTOR))
    second.settle()
    first.push(session, handle, 1, Writer(1).type("a"))
    first.settle()
    opened = first.take(session, Opened)
    assert (opened.mode, opened.cursor.epoch) == (Mode.NEED_SV, first.epoch())
    assert first.durable() == []


# --- what the library stumbles over


def test_a_culprit_is_refused_and_honest_ops_are_committed_once_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    lab = Lab()
    apply = Replica.apply
    bad = Writer(66)
    culprit = bad.type("culprit")

    def stumble(self: Replica, updates: Iterable[bytes]) -> None:
        kept = list(updates)
        if culprit in kept:
            raise ReplicaBroken("a marked update")
        apply(self, kept)

    monkeypatch.setattr(Replica, "apply", stumble)
    devices = {name: lab.join(device=name) for name in ("phone", "laptop", "evil")}
    writers = {"phone": Writer(1), "laptop": Writer(2)}
    handle = 1
    for number in range(1, 4):
        for name, writer in writers.items():
            lab.push(devices[name][0], handle, number, writer.type(name[0]))
        if number == 2:
            lab.push(devices["evil"][0], handle, 1, culprit, bad.type("and later"))
    lab.settle()
    assert refusals(lab, devices["evil"][0]) == [(Code.BAD_UPDATE, 1)]
    for name in writers:
        assert acked(lab, devices[name][0])[-1][0] == 3
    log = lab.durable()
    done: dict[str, int] = {}
    for entry in log:
        assert entry.first_op == done.get(entry.device.name, 0) + 1
        done[entry.device.name] = entry.last_op
    assert done == {"phone": 3, "laptop": 3}
    assert sorted(values(log)["t"]) == sorted("plplpl")
    lab.push(devices["evil"][0], handle, 1, Writer(67).type("honest now"))
    lab.settle()
    assert acked(lab, devices["evil"][0])[-1][0] == 1


def test_a_document_too_deep_to_be_read_is_not_audited_and_harms_nobody() -> None:
    lab = Lab()
    phone, handle = lab.join()

    def nest(doc: Doc[Any]) -> None:
        node = doc.get("m", type=Map)
        for _ in range(400):
            node["k"] = Map()
            node = node["k"]

    update = Replica(1).edit(nest)
    assert update is not None
    lab.push(phone, handle, 1, update)
    lab.settle()
    lab.received(phone)
    lab.send(phone, frames.Audit(handle, 1, bytes(16)))
    assert lab.received(phone) == []
    assert phone not in lab.closed


def test_a_log_that_the_library_can_not_load_is_quarantined(monkeypatch: pytest.MonkeyPatch) -> None:
    lab = Lab()
    entry = LogEntry(1, DeviceId("alice", "x"), 1, 1, bytes(8), (b"\x01\x01junk",), 0)
    now_of(lab.storage.append([DocumentAppend(MAIN, lab.epoch(), (entry,))]))
    phone = lab.hello("alice", "phone", Open(1, "main", None, EMPTY_STATE_VECTOR))
    lab.settle()
    assert lab.take(phone, Error).code == Code.DOC_QUARANTINED


def test_a_request_that_the_library_stumbles_over_costs_its_session_and_the_replica(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lab = Lab()
    (phone, handle), diff = lab.join(), Replica.diff
    lab.push(phone, handle, 1, Writer(1).type("a"))
    lab.settle()
    marked = b"\x01\x63\x01"

    def stumble(self: Replica, state_vector: bytes) -> bytes:
        if state_vector == marked:
            raise ReplicaBroken("a marked state vector")
        return diff(self, state_vector)

    monkeypatch.setattr(Replica, "diff", stumble)
    opens = Open(1, "main", None, EMPTY_STATE_VECTOR)
    evil = lab.hello("alice", "evil", Open(1, "main", None, marked))
    laptop = lab.hello("alice", "laptop", opens)
    lab.settle()
    assert lab.closed == {evil: (1011, Code.INTERNAL)}
    assert lab.take(laptop, Opened).cursor.seq == 1
    lab.push(phone, handle, 2, Writer(2).type("b"))
    lab.settle()
    assert acked(lab, phone) == [(1, 1), (2, 2)]
