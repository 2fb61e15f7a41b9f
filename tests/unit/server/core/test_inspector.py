"""What the check knows of a document: kept, packed, and read where it holds up nobody."""

from __future__ import annotations

from dataclasses import replace

import msgpack
import pytest

from crdt.errors import BadUpdate, PeerError
from crdt.protocol.codes import Code
from crdt.protocol.frames import Ack, Cursor, Open, Opened
from crdt.replica import Replica
from crdt.update import read_update
from server.core import effects, events
from server.core.inspector import LIGHT_BYTES, Inspector
from server.core.records import LogEntry, StoredDocument
from server.storage.compaction import verified_snapshot
from tests.unit.server.core.lab import MAIN, Lab, Writer, now_of, phone

ARRAY = bytes.fromhex("01010100080101610177016100")
"""Client 1 puts "a" into the array `a`."""
STRING = read_update(bytes.fromhex("0101050004010161016100"))
"""Client 5 types "a" into the text `a`."""


def holding(*updates: bytes) -> StoredDocument:
    entries = tuple(LogEntry(seq, phone(), seq, seq, bytes(8), (update,), 0) for seq, update in enumerate(updates, 1))
    return StoredDocument(b"epoch..8", 0, None, entries)


def refuses(inspector: Inspector) -> str:
    with pytest.raises(BadUpdate) as refused:
        inspector.admit(STRING, {1: 1}, "alice")
    return str(refused.value.detail["reason"])


def test_what_is_stored_is_known() -> None:
    assert refuses(Inspector(holding(ARRAY))) == "schema"


def test_so_is_what_was_packed() -> None:
    assert refuses(Inspector.unpack(Inspector(holding(ARRAY)).pack(), print)) == "schema"


PACKED = Inspector(holding(ARRAY)).pack()
BY_ANOTHER_VERSION = msgpack.packb([b"\x01\x01\x01", b"other", {}])


@pytest.mark.parametrize("check", [None, PACKED, BY_ANOTHER_VERSION])
def test_so_is_what_a_snapshot_has_with_or_without_what_was_kept_beside_it(check: bytes | None) -> None:
    stored = holding(ARRAY)
    snapshot = replace(verified_snapshot(stored, 0), check=check)
    assert refuses(Inspector(replace(stored, snapshot=snapshot, entries=()))) == "schema"


TEXT_IN_ARRAY = bytes.fromhex("0101050004010161016100")
HARMLESS = read_update(bytes.fromhex("0101060004010162016200"))


def test_a_document_that_does_not_pass_the_check_takes_nothing_more() -> None:
    """Half a check could be had by whoever finds a way to confuse it."""
    told: list[str] = []
    stored = holding(ARRAY, TEXT_IN_ARRAY)
    for inspector in (Inspector(stored, told.append), Inspector.unpack(Inspector(stored).pack(), told.append)):
        with pytest.raises(PeerError) as refused:
            inspector.admit(HARMLESS, {1: 1, 5: 1}, "alice")
        assert refused.value.code is Code.DOC_QUARANTINED
    assert len(told) == 3


@pytest.mark.interpreted
def test_where_the_log_does_not_pass_the_librarys_own_state_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(Inspector, "_read_entry", lambda self, *_: self._give_up(BadUpdate("schema", "confused")))
    inspector = Inspector(holding(ARRAY), told.append)
    inspector.admit(HARMLESS, {1: 1}, "alice")
    assert refuses(inspector) == "schema"
    assert told == ["confused"]


def long_document(lab: Lab) -> Writer:
    """More in the log than is read on the spot, and a server that has nothing in memory."""
    session, handle = lab.join()
    writer = Writer(1)
    while sum(entry.update_bytes for entry in lab.durable()) <= LIGHT_BYTES:
        lab.push(session, handle, writer.ops + 1, *(writer.type("x" * 1_000) for _ in range(20)))
        lab.settle()
    lab.start()
    return writer


def joins_current(lab: Lab) -> tuple[int, int]:
    """A device that has all of it: its session, and the handle."""
    session = lab.hello("alice", "phone", Open(1, "main", Cursor(lab.epoch(), len(lab.durable())), None))
    lab.settle()
    return session, lab.take(session, Opened).handle


def test_much_is_read_elsewhere_and_pushes_wait_for_it() -> None:
    lab = Lab()
    writer = long_document(lab)
    session, handle = joins_current(lab)
    lab.push(session, handle, writer.ops + 1, writer.type("a"))
    assert [type(effect) for effect in lab.held] == [effects.Inspect]
    lab.push(session, handle, writer.ops + 1, writer.type("b"))
    assert len(lab.held) == 1
    lab.settle()
    acked = [frame.op for frame in lab.received(session) if isinstance(frame, Ack)]
    assert acked[-1] == writer.ops


def test_opening_does_not_wait_for_it() -> None:
    lab = Lab()
    long_document(lab)
    lab.join()
    assert not lab.held


def test_if_it_can_not_be_read_elsewhere_it_is_read_here() -> None:
    lab = Lab()
    writer = long_document(lab)
    session, handle = joins_current(lab)
    lab.push(session, handle, writer.ops + 1, writer.type("a"))
    lab.held.clear()
    lab.feed(events.Inspected(MAIN, None, b""))
    lab.settle()
    assert [frame.op for frame in lab.received(session) if isinstance(frame, Ack)] == [writer.ops]


def test_what_another_process_wrote_meanwhile_is_read_too() -> None:
    lab = Lab()
    writer = long_document(lab)
    session, handle = joins_current(lab)
    other = Lab(storage=lab.storage)
    elsewhere, there = other.join("alice", "laptop")
    other.push(elsewhere, there, 1, Writer(2).type("b"))
    other.settle()
    lab.push(session, handle, writer.ops + 1, writer.type("a"))
    lab.settle()
    assert [frame.op for frame in lab.received(session) if isinstance(frame, Ack)] == [writer.ops]


def test_a_snapshot_has_what_the_check_knows() -> None:
    lab = Lab()
    session, handle = lab.join()
    lab.push(session, handle, 1, Writer(1).type("a"))
    lab.settle()
    lab.held.append(effects.Compact(MAIN))
    lab.settle()
    stored = now_of(lab.storage.load(MAIN))
    assert stored.snapshot is not None
    assert stored.snapshot.check is not None
    assert Replica.load([stored.snapshot.state]).values() == {"t": "a"}


def test_a_stored_update_that_cannot_be_read_ends_in_the_librarys_own_state() -> None:
    """An integer that is longer than it need be: the library takes it, and so did earlier readers."""
    told: list[str] = []
    longer = bytes.fromhex("0101820000040101740161" + "00")
    inspector = Inspector(holding(longer), told.append)
    inspector.admit(read_update(bytes.fromhex("0101050004010161016100")), {2: 1}, "alice")
    assert len(told) == 1
    assert verified_snapshot(holding(longer), 0).check is not None
