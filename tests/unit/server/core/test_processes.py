"""Documents that other processes write too, and epochs that begin anew (I3, I6)."""

from __future__ import annotations

from collections import deque

import pytest

from crdt.ids import DeviceId, DocumentId
from crdt.protocol import frames
from crdt.protocol.codes import Code
from crdt.protocol.frames import Ack, Cursor, Delta, Error, Mode, Open, Opened
from crdt.update import EMPTY_STATE_VECTOR
from server.core import effects, events
from server.core.membership import LOOK_AGAIN_S
from tests.unit.server.core.lab import MAIN, Lab, Writer, acked_ops, now_of, refused_ops, values


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


def two_processes() -> tuple[Lab, tuple[int, int], Lab, tuple[int, int], Writer]:
    """Each with a member of one document, which has a letter that both know."""
    here = Lab()
    elsewhere = Lab(storage=here.storage)
    writer, other = Writer(1), elsewhere.join(device="tablet")
    elsewhere.push(*other, 1, writer.type("a"))
    elsewhere.settle()
    return here, here.join(), elsewhere, other, writer


def cursor_of(lab: Lab) -> Cursor:
    return Cursor(lab.epoch(), len(lab.durable()))


def test_word_of_another_process_brings_members_what_it_wrote() -> None:
    here, (phone, _), elsewhere, other, writer = two_processes()
    elsewhere.push(*other, 2, writer.type("b"))
    elsewhere.settle()
    here.feed(events.LogGrew(MAIN, cursor_of(here)))
    here.settle()
    assert [delta.seq for delta in here.received(phone) if isinstance(delta, Delta)] == [2]


def test_word_of_what_is_known_or_of_a_document_that_is_not_here_costs_no_look() -> None:
    here, _, _, _, _ = two_processes()
    here.feed(events.LogGrew(MAIN, cursor_of(here)))
    here.feed(events.LogGrew(DocumentId("alice", "notes"), cursor_of(here)))
    assert not here.held


def test_word_that_comes_while_the_log_is_read_is_not_lost() -> None:
    here, (phone, _), elsewhere, other, writer = two_processes()
    elsewhere.push(*other, 2, writer.type("b"))
    elsewhere.settle()
    here.feed(events.LogGrew(MAIN, cursor_of(here)))
    stored = now_of(here.storage.load(MAIN))
    elsewhere.push(*other, 3, writer.type("c"))
    elsewhere.settle()
    here.feed(events.LogGrew(MAIN, cursor_of(here)))
    here.held.clear()
    here.feed(events.DocumentLoaded(MAIN, stored))
    here.settle()
    assert [delta.seq for delta in here.received(phone) if isinstance(delta, Delta)] == [2, 3]


def test_word_amid_a_commit_waits_for_its_end_and_nothing_is_lost() -> None:
    here, (phone, handle), elsewhere, other, writer = two_processes()
    mine = Writer(2)
    here.push(phone, handle, 1, mine.type("x"))
    here.turn()
    elsewhere.push(*other, 2, writer.type("b"))
    elsewhere.settle()
    here.feed(events.LogGrew(MAIN, cursor_of(here)))
    here.settle()
    assert acked_ops(here, phone)[-1] == (1, 3)
    assert [entry.seq for entry in here.durable()] == [1, 2, 3]


def test_false_word_is_looked_into_once() -> None:
    here, _, _, _, _ = two_processes()
    here.feed(events.LogGrew(MAIN, Cursor(here.epoch(), 99)))
    assert here.held == deque([effects.Load(MAIN)])
    here.answer()
    here.turn()
    assert not here.held


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
    assert acked_ops(second, roamed) == [(1, 1)]
    assert acked_ops(first, session) == [(1, 1)]
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
    assert acked_ops(lab, laptop) == [(1, 1)]


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
    assert acked_ops(lab, laptop) == [(1, 1)]


def test_when_a_new_epoch_can_not_begin_queued_ops_are_to_be_sent_again() -> None:
    lab = Lab()
    phone, handle = lab.join()
    lab.push(phone, handle, 1, Writer(1).type("a"))
    tablet = lab.hello("alice", "tablet", Open(1, "main", Cursor(lab.epoch(), 9), EMPTY_STATE_VECTOR))
    lab.answer()
    lab.fail()
    assert refused_ops(lab, phone) == [(Code.NOT_SAVED, 1)]
    assert refused_ops(lab, tablet) == [(Code.NOT_SAVED, None)]


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
