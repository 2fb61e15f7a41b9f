"""Queues and memory have bounds, and whoever was stopped goes on."""

from __future__ import annotations

import pytest
from pycrdt import Text

from crdt.limits import Limits
from crdt.protocol import frames
from crdt.protocol.codes import Code
from crdt.protocol.frames import Ack, Cursor, Delta, Error, Mode, Open, Opened
from crdt.replica import Replica
from crdt.update import EMPTY_STATE_VECTOR
from server.core import effects, events
from server.core.compaction import CompactionPolicy
from server.core.hub import COMMIT_BYTES
from server.core.rates import Rates
from tests.unit.server.core.lab import MAIN, Lab, Writer, now_of, token, values

LITTLE = 4_000
"""Bytes that a session may have queued: some ops."""


def paused() -> tuple[Lab, int, int, Writer]:
    """A session that sent so much that it is not read from."""
    lab = Lab(session_queued_bytes_max=LITTLE)
    session, handle = lab.join(ttl_s=100.0)
    writer = Writer(1)
    lab.push(session, handle, 1, writer.type("x" * LITTLE))
    assert lab.paused == [session]
    return lab, session, handle, writer


# --- reading stops and goes on


def test_reading_goes_on_when_the_commit_begins() -> None:
    lab, _, _, _ = paused()
    lab.turn()
    assert lab.paused == []


def test_many_small_ops_stop_reading_too() -> None:
    lab = Lab(rates=Rates(updates_per_s=1_000_000))
    session, handle = lab.join()
    lab.push(session, handle, 1, *[b"\x00\x00"] * 10_000)
    assert lab.paused == []
    lab.push(session, handle, 10_001, *[b"\x00\x00"] * 1_000)
    assert lab.paused == [session]
    lab.settle()
    assert lab.paused == []


@pytest.mark.parametrize(
    "way", ["append failed", "load failed", "new epoch", "lost grant", "expiry", "lost the race", "refused"]
)
def test_reading_goes_on_after_every_way_for_queued_ops_to_end(way: str) -> None:
    lab, session, handle, writer = paused()
    match way:
        case "append failed":
            lab.turn()
            lab.push(session, handle, 2, writer.type("y" * LITTLE))
            assert lab.paused == [session]
            lab.fail()
        case "load failed":
            lab.turn()
            lab.fail()
            lab.push(session, handle, 1, b"\x00\x00" * LITTLE)
            assert lab.paused == [session]
            lab.fail()
        case "new epoch":
            lab.hello("alice", "tablet", Open(1, "main", Cursor(lab.epoch(), 9), EMPTY_STATE_VECTOR))
        case "lost grant":
            other, _ = lab.join("bob", "x", "alice/main", docs={"alice/main": "rw"})
            lab.push(other, handle, 1, Writer(3).type("z" * LITTLE))
            assert lab.paused == [other]
            lab.send(other, frames.Auth(token("bob", "x", docs={"alice/main": "r"})))
        case "expiry":
            lab.now += 100.0
        case "lost the race":
            foreign = Lab(storage=lab.storage)
            tablet, foreign_handle = foreign.join(device="tablet")
            foreign.push(tablet, foreign_handle, 1, Writer(2).type("f"))
            foreign.settle()
        case _:
            lab.push(session, handle, 2, b"\x01junk")
    lab.settle()
    assert lab.paused == []


def test_a_reader_that_waits_for_a_document_is_stopped_as_well() -> None:
    lab = Lab(session_queued_bytes_max=LITTLE, resident_bytes_max=0)
    session, handle = lab.join()
    writer = Writer(1)
    lab.push(session, handle, 1, writer.type("x" * LITTLE))
    assert lab.paused == [session]
    lab.settle()
    assert lab.paused == []
    assert isinstance(lab.received(session)[-1], Ack)


@pytest.mark.parametrize("end", ["answer", "fail", "close"])
def test_who_asks_on_while_nothing_can_be_answered_is_stopped(end: str) -> None:
    lab = Lab(session_queued_bytes_max=10_000)
    session = lab.hello()
    vector = EMPTY_STATE_VECTOR + bytes(1_000)
    for ref in range(1, 12):
        lab.send(session, Open(ref, "main", None, vector))
    assert lab.paused == [session]
    if end == "close":
        lab.disconnect(session)
    elif end == "fail":
        lab.fail()
    lab.settle()
    assert not lab.paused


def test_sessions_that_are_gone_leave_nothing_to_wait_for() -> None:
    lab = Lab(sweep_s=1e9)
    session = lab.hello(ttl_s=86_400)
    lab.settle()
    lab.disconnect(session)
    lab.advance(600)
    deadline = lab.hub.next_deadline()
    assert deadline is not None
    assert deadline > lab.now + 86_400, "only the sweep is left"


def test_what_a_reconnected_device_left_queued_stops_nobody() -> None:
    lab, _, handle, writer = paused()
    new = lab.hello("alice", "phone", Open(1, "main", None, EMPTY_STATE_VECTOR))
    assert lab.paused == [new], "another connection does not make more room"
    lab.settle()
    lab.push(new, handle, 2, writer.type("y"))
    lab.settle()
    assert lab.paused == []
    assert [entry.last_op for entry in lab.durable()][-1] == 2


def test_an_update_over_its_limit_ends_the_session_and_what_came_before_it_counts() -> None:
    lab = Lab(limits=Limits(update_bytes=100))
    session, handle = lab.join()
    writer = Writer(1)
    lab.push(session, handle, 1, writer.type("a"), writer.type("x" * 200))
    lab.settle()
    error = lab.take(session, Error)
    assert (error.code, error.detail) == (Code.TOO_BIG, {"op": 2})
    assert session in lab.closed
    assert [entry.last_op for entry in lab.durable()] == [1]


# --- memory


def test_documents_over_the_budget_are_dropped_and_read_again_and_nobody_notices() -> None:
    lab = Lab(resident_bytes_max=0)
    writers = {"phone": Writer(1), "laptop": Writer(2)}
    sessions = {name: lab.join(device=name)[0] for name in writers}
    for number in range(1, 6):
        for name, writer in writers.items():
            lab.push(sessions[name], 1, number, writer.type(name[0]))
            lab.settle()
    for session in sessions.values():
        seqs = [frame.seq for frame in lab.received(session) if isinstance(frame, Ack | Delta)]
        assert seqs == list(range(1, 11))
    assert lab.hub.levels().resident_bytes <= 4096
    assert len(values(lab.durable())["t"]) == 10


def test_a_dropped_document_still_answers_with_its_tail() -> None:
    lab = Lab(resident_bytes_max=0)
    writer, (phone, handle) = Writer(1), lab.join()
    update = writer.type("a")
    lab.push(phone, handle, 1, update)
    lab.settle()
    laptop = lab.hello("alice", "laptop", Open(1, "main", Cursor(lab.epoch(), 0), None))
    lab.settle()
    opened = lab.take(laptop, Opened)
    assert (opened.mode, opened.updates) == (Mode.TAIL, (update,))


def test_rooms_that_nobody_has_open_are_forgotten_first_used_first() -> None:
    lab = Lab(resident_bytes_max=20_000)
    session = lab.hello()
    for number in range(20):
        lab.send(session, Open(number + 1, f"d{number}", None, EMPTY_STATE_VECTOR))
        lab.settle()
        lab.send(session, frames.Leave(number + 1))
    levels = lab.hub.levels()
    assert levels.rooms <= 4
    assert levels.resident_bytes <= 20_000
    lab.received(session)
    lab.send(session, Open(99, "d0", None, EMPTY_STATE_VECTOR))
    lab.settle()
    assert lab.take(session, Opened).handle > 20


def test_documents_that_could_not_be_loaded_take_no_memory_for_good() -> None:
    lab = Lab(resident_bytes_max=20_000)
    session = lab.hello()
    for number in range(20):
        lab.send(session, Open(number + 1, f"d{number}", None, EMPTY_STATE_VECTOR))
        lab.fail()
    lab.send(session, Open(99, "last", None, EMPTY_STATE_VECTOR))
    lab.settle()
    assert lab.hub.levels().rooms <= 5


# --- compaction

EAGER = CompactionPolicy(entries_max=3, entries_min=2, age_s=1000.0, rest_s=0.0)


def compactions(lab: Lab) -> list[effects.Compact]:
    return [effect for effect in lab.held if isinstance(effect, effects.Compact)]


def grow(lab: Lab, session: int, handle: int, writer: Writer, entries: int) -> None:
    for _ in range(entries):
        lab.push(session, handle, writer.ops + 1, writer.type("x"))
        lab.turn()
        lab.answer_last()


def test_a_long_log_is_folded_once_while_its_compaction_is_under_way() -> None:
    lab = Lab(compaction=EAGER)
    session, handle = lab.join()
    writer = Writer(1)
    grow(lab, session, handle, writer, 10)
    assert compactions(lab) == [effects.Compact(MAIN)]
    lab.settle()
    grow(lab, session, handle, writer, 2)
    assert compactions(lab) == []
    grow(lab, session, handle, writer, 1)
    assert len(compactions(lab)) == 1
    lab.settle()
    lab.start()
    lab.join()
    stored = now_of(lab.storage.load(MAIN))
    assert Replica.load(stored.state_updates()).values() == writer.replica.values()


def test_compactions_run_one_at_a_time() -> None:
    lab = Lab(compaction=EAGER)
    joined = [lab.join(device=f"phone{number}", doc=f"d{number}") for number in range(3)]
    for number, (session, handle) in enumerate(joined):
        grow(lab, session, handle, Writer(number + 1), 3)
        assert len(compactions(lab)) == 1
    done = []
    while lab.held:
        (compact,) = compactions(lab)
        done.append(compact.document.name)
        lab.answer()
    assert done == ["d0", "d1", "d2"]


def test_a_compaction_that_fails_is_tried_again_when_the_log_has_grown_as_much_once_more() -> None:
    lab = Lab(compaction=EAGER)
    session, handle = lab.join()
    writer = Writer(1)
    grow(lab, session, handle, writer, 3)
    lab.fail()
    assert lab.held.count(effects.Compact(MAIN)) == 0
    grow(lab, session, handle, writer, 2)
    assert compactions(lab) == []
    grow(lab, session, handle, writer, 1)
    assert len(compactions(lab)) == 1


def test_an_old_log_is_folded_by_and_by_though_nobody_writes() -> None:
    lab = Lab(compaction=EAGER, sweep_s=60.0)
    session, handle = lab.join(ttl_s=10_000)
    grow(lab, session, handle, Writer(1), 2)
    lab.now += 900.0
    lab.turn()
    assert compactions(lab) == []
    lab.now += 200.0
    lab.turn()
    assert len(compactions(lab)) == 1


# --- shutting down


def test_a_drain_commits_and_acknowledges_what_is_queued_and_then_closes() -> None:
    lab = Lab(goaway_spread_s=10.0)
    writer, (phone, handle), (laptop, _) = Writer(1), lab.join(), lab.join(device="laptop")
    greeting = lab.connect()
    lab.push(phone, handle, 1, writer.type("a"))
    lab.turn()
    lab.push(phone, handle, 2, writer.type("b"))
    lab.feed(events.DrainRequested())
    assert lab.closed == {greeting: (1012, Code.SHUTTING_DOWN)}
    assert sorted(lab.paused) == [phone, laptop]
    lab.settle()
    away, first, second = lab.received(phone)
    assert isinstance(away, frames.GoAway)
    assert 0 <= away.retry_after_ms <= 10_000
    assert [ack.op for ack in (first, second) if isinstance(ack, Ack)] == [1, 2]
    assert lab.closed[phone] == lab.closed[laptop] == (1012, Code.SHUTTING_DOWN)
    assert lab.drained == 1
    late = lab.connect()
    assert lab.closed[late] == (1012, Code.SHUTTING_DOWN)
    assert lab.drained == 1


def test_a_drain_with_nothing_to_do_is_over_at_once() -> None:
    lab = Lab()
    session, _ = lab.join()
    lab.feed(events.DrainRequested())
    assert (lab.drained, list(lab.closed)) == (1, [session])


@pytest.mark.parametrize("load", ["answered", "failed"])
@pytest.mark.parametrize("durable", [True, False])
def test_a_drain_whose_append_fails_tells_what_is_known_and_ends(load: str, durable: bool) -> None:
    lab = Lab()
    session, handle = lab.join()
    lab.push(session, handle, 1, Writer(1).type("a"))
    lab.turn()
    lab.feed(events.DrainRequested())
    lab.fail(durable=durable)
    assert lab.drained == 0
    if load == "answered":
        lab.answer()
    else:
        lab.fail()
    assert lab.drained == 1
    _, told = lab.received(session)
    assert isinstance(told, Ack if durable and load == "answered" else Error)


def test_a_drain_waits_for_pushes_to_a_document_that_is_being_loaded() -> None:
    lab = Lab(resident_bytes_max=0)
    session, handle = lab.join()
    lab.push(session, handle, 1, Writer(1).type("a"))
    lab.feed(events.DrainRequested())
    assert lab.drained == 0
    lab.settle()
    assert lab.drained == 1
    assert len(lab.durable()) == 1


# --- the size of a document


def test_a_full_document_takes_deletes_alone() -> None:
    lab = Lab(limits=Limits(document_bytes=2_000))
    session, handle = lab.join()
    writer = Writer(1)
    lab.push(session, handle, 1, writer.type("x" * 1_500))
    lab.settle()
    delete = Replica(1)
    delete.apply([writer.replica.state()])
    removal = delete.edit(lambda doc: doc.get("t", type=Text).clear())
    assert removal is not None
    lab.push(session, handle, 2, removal)
    lab.push(session, handle, 3, Writer(2).type("y" * 1_000))
    lab.settle()
    (refused,) = [frame for frame in lab.received(session) if isinstance(frame, Error)]
    assert (refused.code, refused.detail) == (Code.TOO_BIG, {"op": 3})
    assert [entry.last_op for entry in lab.durable()] == [1, 2]
    assert values(lab.durable()) == {}


def test_what_counts_is_the_state_and_not_what_was_sent_to_make_it() -> None:
    """A typed character takes ten bytes as an update, and one in the state."""
    lab = Lab(limits=Limits(document_bytes=2_000))
    session, handle = lab.join()
    author = Replica(1)
    for op in range(1, 401):
        update = author.edit(lambda doc: doc.get("t", type=Text).insert(op - 1, "x"))  # noqa: B023 - it runs now
        assert update is not None
        lab.push(session, handle, op, update)
        lab.settle()
    assert sum(entry.update_bytes for entry in lab.durable()) > 4_000
    assert [frame for frame in lab.received(session) if isinstance(frame, Error)] == []


# --- the size of a commit


def test_one_commit_takes_so_much_of_all_documents_and_the_next_takes_the_rest() -> None:
    """What it takes is applied at once, and holds up everybody for as long."""
    lab = Lab()
    text = "x" * 60_000
    opens = tuple(Open(n, f"doc-{n}", None, EMPTY_STATE_VECTOR) for n in range(1, 13))
    session = lab.hello("alice", "phone", *opens)
    lab.settle()
    handles = [frame.handle for frame in lab.received(session) if isinstance(frame, Opened)]
    for client, handle in enumerate(handles, 1):
        lab.push(session, handle, 1, Writer(client).type(text))
    lab.turn()
    (append,) = [effect for effect in lab.held if isinstance(effect, effects.Append)]
    taken = sum(entry.update_bytes for document in append.batch for entry in document.entries)
    assert COMMIT_BYTES <= taken < COMMIT_BYTES + 2 * len(text)
    lab.settle()
    assert len([frame for frame in lab.received(session) if isinstance(frame, Ack)]) == len(handles)
