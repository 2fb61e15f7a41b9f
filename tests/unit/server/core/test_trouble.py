"""Storage that fails, and a library that stumbles (I3, I6)."""

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
from crdt.protocol.frames import Ack, Delta, Error, Open, Opened
from crdt.replica import Replica
from crdt.update import EMPTY_STATE_VECTOR
from server.core import effects, events
from server.core.records import DocumentAppend, LogEntry
from tests.unit.server.core.lab import MAIN, Lab, Writer, acked_ops, now_of, refused_ops, values

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
    assert acked_ops(lab, phone) == [(1, 1), (2, 2)]


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
    assert refused_ops(lab, phone) == [(Code.NOT_SAVED, 1)]
    lab.push(phone, handle, 1, *updates)
    lab.settle()
    assert acked_ops(lab, phone)[-1][0] == 2
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
    assert acked_ops(lab, new) == [(1, 1)]


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
        assert acked_ops(lab, phone) == [(1, 0 if durable else 1)]
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
    assert refused_ops(lab, phone) == [(code, 1)]
    assert refused_ops(lab, laptop) == [(code, 1)]


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


# --- what the library stumbles over


@pytest.mark.interpreted
def test_a_culprit_is_refused_and_honest_ops_are_committed_once_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    lab = Lab()
    apply = Replica.apply
    bad = Writer(66)
    culprit = bad.type("culprit")

    def stumble(self: Replica, updates: Iterable[bytes]) -> bytes:
        kept = list(updates)
        if culprit in kept:
            raise ReplicaBroken("a marked update")
        return apply(self, kept)

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
    assert refused_ops(lab, devices["evil"][0]) == [(Code.BAD_UPDATE, 1)]
    for name in writers:
        assert acked_ops(lab, devices[name][0])[-1][0] == 3
    log = lab.durable()
    done: dict[str, int] = {}
    for entry in log:
        assert entry.first_op == done.get(entry.device.name, 0) + 1
        done[entry.device.name] = entry.last_op
    assert done == {"phone": 3, "laptop": 3}
    assert sorted(values(log)["t"]) == sorted("plplpl")
    lab.push(devices["evil"][0], handle, 1, Writer(67).type("honest now"))
    lab.settle()
    assert acked_ops(lab, devices["evil"][0])[-1][0] == 1


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


@pytest.mark.interpreted
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
    assert acked_ops(lab, phone) == [(1, 1), (2, 2)]
