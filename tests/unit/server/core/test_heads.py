"""Who only asks where a document's log is, is told without the document being loaded."""

from __future__ import annotations

from crdt.protocol import frames
from crdt.protocol.frames import Cursor, Mode, Open, Opened, Resync
from crdt.replica import Replica
from crdt.update import EMPTY_STATE_VECTOR
from tests.unit.server.core.lab import MAIN, Lab, Writer


def evicted() -> Lab:
    """A document of one entry that was loaded once, and is no longer."""
    lab = Lab(resident_bytes_max=1)
    session, handle = lab.join()
    lab.push(session, handle, 1, Writer(1).type("hello"))
    lab.settle()
    lab.disconnect(session)
    assert lab.hub.levels().resident_bytes < 10_000
    return lab


def test_the_head_is_told_at_once_where_it_is_known() -> None:
    lab = evicted()
    session = lab.hello("alice", "tablet", Open(1, "main"))
    opened = lab.take(session, Opened)
    assert (opened.mode, opened.cursor) == (Mode.NEED_SV, Cursor(lab.epoch(), 1))
    assert not lab.held


def test_what_is_asked_for_behind_it_is_loaded() -> None:
    lab = evicted()
    session = lab.hello("alice", "tablet", Open(1, "main"))
    opened = lab.take(session, Opened)
    lab.send(session, Resync(opened.handle, None, EMPTY_STATE_VECTOR))
    assert lab.held
    lab.settle()
    answer = lab.take(session, Opened)
    assert answer.mode is Mode.DIFF
    assert Replica.load(answer.updates).values() == {"t": "hello"}


def test_where_the_head_is_not_known_it_is_read() -> None:
    lab = evicted()
    lab.start()
    session = lab.hello("alice", "tablet", Open(1, "main"))
    assert lab.held
    lab.settle()
    assert lab.take(session, Opened).cursor == Cursor(lab.epoch(MAIN), 1)


def test_who_wants_the_state_vector_waits_for_the_document() -> None:
    lab = evicted()
    session = lab.hello("alice", "tablet", Open(1, "main"), options={"sv": True})
    assert lab.held
    lab.settle()
    assert lab.take(session, Opened).state_vector not in (None, EMPTY_STATE_VECTOR)


def test_a_commit_under_way_is_no_head_yet() -> None:
    lab = Lab()
    session, handle = lab.join()
    lab.push(session, handle, 1, Writer(1).type("hello"))
    lab.turn()
    other = lab.hello("alice", "tablet", Open(1, "main"))
    assert not [frame for frame in lab.received(other) if isinstance(frame, frames.Opened)]
    lab.settle()
    assert lab.take(other, Opened).cursor.seq == 1
