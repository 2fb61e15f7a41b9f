"""Nothing is acknowledged or shown before it is in the log (I1), and acks follow the device, not the socket (I2)."""

from __future__ import annotations

import pytest

from crdt import chain
from crdt.protocol import frames
from crdt.protocol.codes import Code
from crdt.protocol.frames import CHAIN_START, Ack, Audited, Cursor, Delta, Error, Mode, Opened
from crdt.update import EMPTY_STATE_VECTOR
from server.core import effects
from tests.unit.server.core.lab import Lab, Writer, values


def kinds(lab: Lab, session: int) -> list[str]:
    return [type(frame).__name__ for frame in lab.received(session)]


# --- durable before visible


def test_an_op_is_acknowledged_and_shown_when_its_commit_has_reported_and_not_before() -> None:
    lab = Lab()
    writer, (phone, handle), (laptop, _) = Writer(1), lab.join(), lab.join(device="laptop")
    update = writer.type("a")
    lab.push(phone, handle, 1, update)
    lab.turn()
    assert [type(effect) for effect in lab.held] == [effects.Append]
    assert lab.received(phone) == []
    assert lab.received(laptop) == []
    lab.answer()
    assert lab.received(phone) == [Ack(handle, 1, 1, writer.chain)]
    assert lab.received(laptop) == [Delta(handle, 1, (update,))]


@pytest.mark.parametrize("request_of", ["open", "resync", "audit"])
def test_requests_wait_while_a_batch_is_in_flight(request_of: str) -> None:
    lab = Lab()
    writer, (phone, handle), (laptop, _) = Writer(1), lab.join(), lab.join(device="laptop")
    lab.push(phone, handle, 1, writer.type("secret"))
    lab.turn()
    match request_of:
        case "open":
            lab.send(laptop, frames.Open(2, "main", None, EMPTY_STATE_VECTOR))
        case "resync":
            lab.send(laptop, frames.Resync(handle, None, EMPTY_STATE_VECTOR))
        case _:
            lab.send(laptop, frames.Audit(handle, 1, writer.replica.digest()))
    assert lab.received(laptop) == []
    lab.answer()
    came = lab.received(laptop)
    assert isinstance(came[0], Delta)
    if request_of != "audit":
        opened = came[1]
        assert isinstance(opened, Opened)
        assert opened.cursor.seq == 1


def test_an_open_before_the_commit_begins_shows_nothing_of_what_is_queued() -> None:
    lab = Lab()
    phone, handle = lab.join()
    lab.push(phone, handle, 1, Writer(1).type("secret"))
    laptop = lab.hello("alice", "laptop", frames.Open(1, "main", None, EMPTY_STATE_VECTOR))
    opened = lab.take(laptop, Opened)
    assert (opened.cursor.seq, opened.updates) == (0, (b"\x00\x00",))
    lab.settle()
    assert lab.take(laptop, Delta).seq == 1


def test_chunks_under_way_hold_only_what_was_durable_and_deltas_wait_behind_them() -> None:
    lab = Lab()
    writer = Writer(1)
    phone, handle = lab.join()
    lab.push(phone, handle, 1, writer.type("x" * 200_000))
    lab.settle()
    laptop, _ = lab.join(device="laptop")
    lab.push(phone, handle, 2, writer.type("later"))
    lab.settle()
    assert kinds(lab, laptop) == ["Chunk"]
    while lab.awaiting_drain:
        lab.drain(laptop)
    assert kinds(lab, laptop) == ["Chunk", "Chunk", "Chunk", "Opened"]


# --- acks and numbers


def test_a_device_that_reconnects_is_acknowledged_where_it_is_now() -> None:
    lab = Lab()
    writer, (old, handle) = Writer(1), lab.join()
    lab.push(old, handle, 1, writer.type("a"))
    lab.turn()
    new = lab.hello("alice", "phone", frames.Open(1, "main", None, EMPTY_STATE_VECTOR))
    assert lab.closed[old] == (4409, Code.SUPERSEDED)
    lab.push(new, handle, 1, writer.type("b"))
    lab.settle()
    opened = lab.take(new, Opened)
    assert (opened.acked_op, opened.cursor.seq) == (1, 1)
    assert [entry.last_op for entry in lab.durable()] == [1]


@pytest.mark.parametrize("when", ["queued", "in flight", "committed"])
def test_sending_again_after_a_reconnect_is_taken_once(when: str) -> None:
    lab = Lab()
    writer, (old, handle) = Writer(1), lab.join()
    update = writer.type("a")
    lab.push(old, handle, 1, update)
    if when != "queued":
        lab.turn()
    if when == "committed":
        lab.settle()
    lab.disconnect(old)
    new = lab.hello("alice", "phone", frames.Open(1, "main", None, EMPTY_STATE_VECTOR))
    lab.push(new, handle, 1, update, writer.type("b"))
    lab.settle()
    assert [(entry.first_op, entry.last_op) for entry in lab.durable()] in ([(1, 1), (2, 2)], [(1, 2)])
    last = lab.received(new)[-1]
    assert isinstance(last, Ack)
    assert (last.op, last.chain) == (2, writer.chain)


def test_the_ack_goes_to_the_session_that_has_the_document_open_when_the_commit_reports() -> None:
    lab = Lab()
    writer, (old, handle) = Writer(1), lab.join()
    lab.push(old, handle, 1, writer.type("a"))
    new, _ = lab.hello("alice", "phone", frames.Open(1, "main", None, EMPTY_STATE_VECTOR)), lab.received(old)
    lab.settle()
    assert lab.received(old) == []
    assert [type(frame) for frame in lab.received(new)] == [Opened, Ack]


def test_known_ops_are_acknowledged_once_for_each_push_without_a_seq() -> None:
    lab = Lab()
    writer, (phone, handle) = Writer(1), lab.join()
    updates = [writer.type(char) for char in "abc"]
    lab.push(phone, handle, 1, *updates)
    lab.settle()
    lab.received(phone)
    lab.push(phone, handle, 1, *updates[:2])
    assert lab.received(phone) == [Ack(handle, 3, 0, writer.chain)]


def test_a_push_that_overlaps_is_taken_from_the_first_new_op_on() -> None:
    lab = Lab()
    writer, (phone, handle) = Writer(1), lab.join()
    updates = [writer.type(char) for char in "abcd"]
    lab.push(phone, handle, 1, *updates[:2])
    lab.settle()
    lab.push(phone, handle, 2, *updates[1:])
    lab.settle()
    assert [entry.last_op for entry in lab.durable()] == [2, 4]
    assert values(lab.durable()) == {"t": "dcba"}


def test_a_gap_is_refused_and_says_what_is_expected() -> None:
    lab = Lab()
    writer, (phone, handle) = Writer(1), lab.join()
    first, second, third = (writer.type(char) for char in "abc")
    lab.push(phone, handle, 3, third)
    error = lab.take(phone, Error)
    assert (error.code, error.detail) == (Code.OP_GAP, {"op": 3, "expected": 1})
    lab.push(phone, handle, 4, third)
    assert lab.received(phone) == []
    lab.push(phone, handle, 1, first, second, third)
    lab.settle()
    assert [entry.last_op for entry in lab.durable()] == [3]


def test_a_refused_op_takes_no_number_and_what_was_under_way_behind_it_is_ignored() -> None:
    lab = Lab()
    writer, (phone, handle) = Writer(1), lab.join()
    good = writer.type("a")
    lab.push(phone, handle, 1, good, b"\x01junk", writer.type("b"))
    lab.push(phone, handle, 4, writer.type("c"))
    lab.settle()
    error, ack = lab.received(phone)
    assert isinstance(error, Error)
    assert (error.code, error.detail and error.detail["op"]) == (Code.BAD_UPDATE, 2)
    assert ack == Ack(handle, 1, 1, chain.extend(CHAIN_START, (good,)))
    fresh = Writer(2).type("d")
    lab.push(phone, handle, 2, fresh)
    lab.settle()
    assert lab.take(phone, Ack) == Ack(handle, 2, 2, chain.extend(CHAIN_START, (good, fresh)))


@pytest.mark.parametrize("by", ["open", "resync", "reconnect"])
def test_a_device_that_opens_again_need_not_repeat_the_refused_op(by: str) -> None:
    lab = Lab()
    writer, (phone, handle) = Writer(1), lab.join()
    lab.push(phone, handle, 1, writer.type("a"), b"\x01junk")
    match by:
        case "open":
            lab.send(phone, frames.Open(2, "main", None, EMPTY_STATE_VECTOR))
        case "resync":
            lab.send(phone, frames.Resync(handle, None, EMPTY_STATE_VECTOR))
        case _:
            phone, _ = lab.join()
    lab.settle()
    lab.received(phone)
    lab.push(phone, handle, 3, writer.type("b"))
    assert lab.take(phone, Error).code == Code.OP_GAP


def test_an_op_that_builds_on_the_unknown_is_refused_with_what_is_known_here() -> None:
    lab = Lab()
    writer, (phone, handle) = Writer(1), lab.join()
    writer.type("lost")
    lab.push(phone, handle, 1, writer.type("a"))
    error = lab.take(phone, Error)
    assert error.detail == {"op": 1, "sv": b"\x00"}
    assert error.code == Code.MISSING_DEPS
    whole = writer.replica.diff(b"\x00")
    lab.push(phone, handle, 1, whole)
    lab.settle()
    assert lab.take(phone, Ack).chain == chain.extend(CHAIN_START, (whole,))


def test_what_another_queued_op_waits_for_keeps_its_refusal() -> None:
    """The laptop's token ends: its queued ops go, the phone's are queued again, and the phone is still refused."""
    lab = Lab()
    phone, handle = lab.join()
    laptop, _ = lab.join(device="laptop", ttl_s=10.0)
    writer = Writer(1)
    lab.push(phone, handle, 1, writer.type("a"), b"\x01junk")
    lab.received(phone)
    lab.push(laptop, handle, 1, Writer(2).type("b"))
    lab.now += 10.0
    lab.turn()
    assert laptop in lab.closed
    lab.push(phone, handle, 3, writer.type("c"))
    assert not any(isinstance(frame, Error) for frame in lab.received(phone))
    lab.settle()
    assert [(entry.device.name, entry.last_op) for entry in lab.durable()] == [("phone", 1)]


# --- ops that change nothing


def test_ops_that_change_nothing_are_numbered_and_acknowledged_without_an_update() -> None:
    lab = Lab()
    writer, (phone, handle), (laptop, _) = Writer(1), lab.join(), lab.join(device="laptop")
    update = writer.type("a")
    lab.push(phone, handle, 1, update)
    lab.settle()
    lab.received(laptop)
    lab.push(laptop, handle, 1, update, update)
    lab.settle()
    assert [(entry.first_op, entry.last_op, entry.updates) for entry in lab.durable()[1:]] == [(1, 2, ())]
    assert lab.take(laptop, Ack) == Ack(handle, 2, 2, chain.extend(CHAIN_START, (update, update)))
    assert lab.received(phone)[-1] == Delta(handle, 2, ())
    lab.start()
    laptop, handle = lab.join(device="laptop")
    lab.push(laptop, handle, 3, update)
    lab.settle()
    assert [entry.last_op for entry in lab.durable()] == [1, 2, 3]


def test_thousands_of_ops_that_change_nothing_cost_what_others_do() -> None:
    lab = Lab()
    phone, handle = lab.join()
    lab.push(phone, handle, 1, *[b"\x00\x00"] * 10_000)
    lab.settle()
    assert all(entry.updates == () for entry in lab.durable())
    assert lab.durable()[-1].last_op == 10_000


def test_audits_are_judged_at_the_head_and_only_there() -> None:
    lab = Lab()
    writer, (phone, handle) = Writer(1), lab.join()
    lab.push(phone, handle, 1, writer.type("a"))
    lab.settle()
    lab.received(phone)
    lab.send(phone, frames.Audit(handle, 0, bytes(16)))
    assert lab.received(phone) == []
    lab.send(phone, frames.Audit(handle, 1, writer.replica.digest()))
    lab.send(phone, frames.Audit(handle, 1, bytes(16)))
    lab.settle()
    assert lab.received(phone) == [Audited(handle, 1, ok=True), Audited(handle, 1, ok=False)]
    assert lab.meter.of("audited") == [(True,), (False,)]


def test_a_restart_forgets_nothing_that_was_acknowledged() -> None:
    lab = Lab()
    writer, (phone, handle) = Writer(1), lab.join()
    lab.push(phone, handle, 1, writer.type("a"))
    lab.settle()
    lab.push(phone, handle, 2, writer.type("b"))
    lab.start()
    phone = lab.hello("alice", "phone", frames.Open(1, "main", Cursor(lab.epoch(), 1), None))
    lab.settle()
    opened = lab.take(phone, Opened)
    assert (opened.mode, opened.acked_op) == (Mode.CURRENT, 1)
