"""When there is too much to do nobody new is let in, and who is in does not notice."""

from __future__ import annotations

import pytest

from crdt.limits import CHUNK_BYTES
from crdt.protocol import frames
from crdt.protocol.codes import Code, Retry
from crdt.protocol.frames import Ack, Chunk, Delta, Error, Mode, Open, Opened, Welcome
from crdt.update import EMPTY_STATE_VECTOR
from server.core import effects, events
from server.core.admission import CALM, REST_S, RETRY_AFTER_MS_MIN, AdmissionPolicy, Pressure
from server.core.desk import TURN_ANSWER_BYTES
from server.core.payloads import PATIENCE_S
from server.core.rates import Rates
from tests.unit.server.core.lab import Lab, Writer, token

FREE = Rates(updates_per_s=10**9, bytes_per_s=10**12, answer_bytes_per_s=10**12)
POLICY = AdmissionPolicy(lag_s=0.5, memory_bytes=1000, queued_bytes=1000, loads=4, hellos_per_turn=100)


def hello(lab: Lab, device: str, *opens: Open, user: str = "alice") -> int:
    """A HELLO, and nothing else happens."""
    session = lab.connect()
    lab.send(session, frames.Hello(1, token(user, device), device, "test", {}, opens))
    return session


def turned_away(lab: Lab, device: str) -> Error:
    """What a HELLO is told that is not let in."""
    session = hello(lab, device)
    assert lab.paused == [session]
    lab.advance(REST_S)
    assert lab.closed[session] == (1013, Code.OVERLOADED)
    return lab.take(session, Error)


def is_in(lab: Lab, session: int) -> bool:
    return any(isinstance(frame, Welcome) for frame in lab.inbox[session])


# --- the decision


@pytest.mark.parametrize("what", ["lag_s", "memory_bytes", "queued_bytes", "loads"])
def test_each_kind_of_pressure_is_too_much_above_its_bound_until_it_is_calm(what: str) -> None:
    bound = getattr(POLICY, what)
    at, above, below = (Pressure(**{what: type(bound)(share * bound)}) for share in (1, 1.3, CALM - 0.01))
    assert not POLICY.is_overloaded(at, was=False)
    assert POLICY.is_overloaded(above, was=False)
    assert POLICY.is_overloaded(at, was=True), "it stays so until all is calm"
    assert not POLICY.is_overloaded(below, was=True)


# --- what follows


def test_while_the_loop_is_late_new_ones_are_sent_away_and_the_others_are_served() -> None:
    lab = Lab(admission=POLICY)
    (phone, handle), (laptop, _) = lab.join(), lab.join(device="laptop")
    lab.feed(events.PressureMeasured(2.0, 0))
    assert is_in(lab, hello(lab, "early")), "one late turn is nothing yet"
    lab.feed(events.PressureMeasured(2.0, 0))
    waits = set()
    for number in range(20):
        error = turned_away(lab, f"tablet{number}")
        assert (error.code, error.retry) == (Code.OVERLOADED, Retry.LATER)
        assert error.retry_after_ms is not None
        assert RETRY_AFTER_MS_MIN <= error.retry_after_ms <= RETRY_AFTER_MS_MIN + 10_000
        waits.add(error.retry_after_ms)
    assert len(waits) > 10, "they come back one by one"
    lab.push(phone, handle, 1, Writer(1).type("a"))
    lab.settle()
    assert isinstance(lab.received(phone)[-1], Ack)
    assert isinstance(lab.received(laptop)[-1], Delta)
    lab.feed(events.PressureMeasured(0.0, 0))
    assert is_in(lab, hello(lab, "later"))


def test_memory_and_documents_that_wait_keep_others_out_too() -> None:
    lab = Lab(admission=POLICY)
    lab.feed(events.PressureMeasured(0.0, 2_000))
    assert not is_in(lab, hello(lab, "phone"))
    lab.feed(events.PressureMeasured(0.0, 500))
    first = hello(lab, "phone", *(Open(ref, f"d{ref}", None, EMPTY_STATE_VECTOR) for ref in range(1, 6)))
    assert is_in(lab, first)
    assert lab.hub.levels().loads_waiting == 5
    assert not is_in(lab, hello(lab, "laptop"))
    assert lab.hub.levels().is_overloaded
    lab.settle()
    assert is_in(lab, hello(lab, "laptop"))


def test_what_waits_for_a_commit_keeps_others_out() -> None:
    lab = Lab(admission=POLICY)
    session, handle = lab.join()
    lab.push(session, handle, 1, Writer(1).type("x" * 2_000))
    assert not is_in(lab, hello(lab, "laptop"))
    lab.settle()
    assert is_in(lab, hello(lab, "laptop"))


def test_no_token_is_looked_at_of_those_who_are_sent_away() -> None:
    lab = Lab(admission=POLICY)
    for _ in range(2):
        lab.feed(events.PressureMeasured(2.0, 0))
    session = lab.connect()
    lab.send(session, frames.Hello(1, "no token", "phone", "test", {}, ()))
    lab.turn()
    assert lab.take(session, Error).code == Code.OVERLOADED


# --- many at once


def test_so_many_are_let_in_in_a_turn_and_the_others_in_the_next_ones_in_order() -> None:
    lab = Lab(admission=AdmissionPolicy(hellos=20, hellos_per_turn=4))
    sessions = [hello(lab, f"d{number}") for number in range(30)]
    assert [is_in(lab, session) for session in sessions] == [True] * 4 + [False] * 26
    assert lab.hub.levels().hellos_waiting == 26
    assert lab.paused == sessions[4:], "what comes behind a HELLO that waits is not read yet"
    for turn in range(1, 6):
        lab.feed(events.TimePassed())
        lab.now += REST_S
        assert [session for session in sessions if session in lab.closed] == sessions[24:]
        assert [is_in(lab, session) for session in sessions[:24]].count(True) == 4 + 4 * turn
    assert lab.paused == []


def test_those_who_come_one_after_the_other_wait_for_nothing() -> None:
    lab = Lab(admission=AdmissionPolicy(hellos_per_turn=1))
    for number in range(10):
        assert is_in(lab, hello(lab, f"d{number}"))
        lab.now += REST_S
    assert lab.paused == []


def test_a_commit_gathers_more_only_while_no_hello_is_due() -> None:
    lab = Lab(admission=AdmissionPolicy(hellos_per_turn=1))
    session, handle = lab.join()
    assert not lab.hub.may_gather(lab.now), "there is nothing to commit"
    lab.push(session, handle, 1, Writer(1).type("a"))
    assert lab.hub.may_gather(lab.now)
    hello(lab, "d1")
    assert not is_in(lab, hello(lab, "d2"))
    lab.now += REST_S
    assert not lab.hub.may_gather(lab.now)


def test_while_too_many_documents_wait_to_be_loaded_those_who_wait_go_on_waiting() -> None:
    lab = Lab(admission=AdmissionPolicy(loads=4, hellos_per_turn=1))
    sessions = [hello(lab, f"d{n}", Open(1, f"doc{n}", None, EMPTY_STATE_VECTOR)) for n in range(20)]
    for _ in range(10):
        lab.feed(events.TimePassed())
        lab.now += REST_S
        assert lab.hub.levels().loads_waiting <= 4
    assert [is_in(lab, session) for session in sessions] == [True] * 4 + [False] * 16
    for _ in range(20):
        lab.settle()
        lab.advance(REST_S)
    assert all(is_in(lab, session) for session in sessions)
    assert lab.closed == {}


@pytest.mark.parametrize(("hellos_a_second", "soonest_s", "latest_s"), [(100, 1.0, 2.0), (5, 2.0, 5.0), (1, 6.0, 11.0)])
def test_who_finds_the_queue_full_comes_back_when_it_is_through(
    hellos_a_second: int, soonest_s: float, latest_s: float
) -> None:
    lab = Lab(admission=AdmissionPolicy(hellos=10, hellos_per_turn=1))
    for number in range(11):
        hello(lab, f"d{number}")
    for number in range(11, 31):  # one has its turn, another comes
        lab.now += 1 / hellos_a_second
        lab.feed(events.TimePassed())
        hello(lab, f"d{number}")
    late = [hello(lab, f"late{number}") for number in range(20)]
    for _ in range(10):
        lab.feed(events.TimePassed())
        lab.now += REST_S
    errors = [frame for session in late for frame in lab.inbox[session] if isinstance(frame, Error)]
    waits_s = [error.retry_after_ms / 1000 for error in errors if error.retry_after_ms is not None]
    assert len(waits_s) > 15
    assert len(set(waits_s)) > 10, "they come back one by one"
    assert soonest_s <= min(waits_s)
    assert max(waits_s) <= latest_s


def test_a_waiting_hello_may_be_refused_and_its_socket_may_go() -> None:
    lab = Lab(admission=AdmissionPolicy(hellos_per_turn=1))
    hello(lab, "d0")
    bad = lab.connect()
    lab.send(bad, frames.Hello(1, "no token", "phone", "test", {}, ()))
    gone, last = hello(lab, "d1"), hello(lab, "d2")
    lab.disconnect(gone)
    lab.settle()
    lab.advance(REST_S)
    assert lab.closed == {bad: (4401, Code.BAD_TOKEN)}
    assert is_in(lab, last)


def test_a_hello_that_waits_is_not_late() -> None:
    lab = Lab(admission=AdmissionPolicy(hellos_per_turn=1))
    hello(lab, "d0")
    waiting = hello(lab, "d1")
    lab.now += 6.0
    lab.settle()
    assert waiting not in lab.closed
    assert is_in(lab, waiting)


def test_a_hello_that_waits_when_the_server_stops_is_closed() -> None:
    lab = Lab(admission=AdmissionPolicy(hellos_per_turn=1))
    hello(lab, "d0")
    waiting = hello(lab, "d1")
    lab.feed(events.DrainRequested())
    lab.settle()
    assert lab.closed[waiting] == (1012, Code.SHUTTING_DOWN)
    assert lab.drained == 1


# --- documents asked for


def test_a_device_waits_for_so_many_documents_at_once_and_the_others_come_after() -> None:
    lab = Lab(asked_max=3)
    opens = [Open(ref, f"d{ref}", None, EMPTY_STATE_VECTOR) for ref in range(1, 11)]
    session = hello(lab, "phone", *opens)
    other = hello(lab, "laptop", Open(1, "other", None, EMPTY_STATE_VECTOR))
    loads = [effect.document.name for effect in lab.held if isinstance(effect, effects.Load)]
    assert loads == ["d1", "d2", "d3", "other"]
    assert lab.paused == [session]
    lab.settle()
    assert [frame.ref for frame in lab.received(session) if isinstance(frame, Opened)] == list(range(1, 11))
    assert lab.take(other, Opened).ref == 1
    assert lab.paused == []


def large(lab: Lab, size: int = 4 * CHUNK_BYTES) -> None:
    session, handle = lab.join()
    lab.push(session, handle, 1, Writer(1).type("x" * size))
    lab.settle()


def test_a_turn_of_the_loop_reads_so_much_and_the_rest_waits_for_the_next() -> None:
    lab = Lab(rates=FREE, payload_bytes_max=1 << 30)
    large(lab, TURN_ANSWER_BYTES // 2)
    sessions = [hello(lab, f"d{number}", Open(1, "main", None, EMPTY_STATE_VECTOR)) for number in range(8)]
    assert sum(any(isinstance(frame, Opened) for frame in lab.inbox[session]) for session in sessions) == 2
    lab.feed(events.TimePassed())
    assert sum(any(isinstance(frame, Opened) for frame in lab.inbox[session]) for session in sessions) == 4
    lab.settle()
    assert all(any(isinstance(frame, Opened) for frame in lab.inbox[session]) for session in sessions)


# --- memory for what is under way


def drained_to_the_end(lab: Lab, session: int) -> list[Chunk]:
    found: list[Chunk] = []
    while True:
        came = [frame for frame in lab.received(session) if isinstance(frame, Chunk)]
        found += came
        if not came or found[-1].offset + len(found[-1].data) == found[-1].total:
            return found
        lab.drain(session)


def test_large_answers_wait_for_memory_and_small_ones_do_not() -> None:
    lab = Lab(rates=FREE, payload_bytes_max=6 * CHUNK_BYTES)
    large(lab)
    sessions = [hello(lab, f"d{number}", Open(1, "main", None, EMPTY_STATE_VECTOR)) for number in range(5)]
    lab.settle()
    assert [bool(lab.received(session)) for session in sessions] == [True, True, False, False, False]
    phone, handle = lab.join(device="tablet", doc="small")
    lab.push(phone, handle, 1, Writer(2).type("a"))
    lab.settle()
    assert isinstance(lab.received(phone)[-1], Ack)
    for session in sessions[:2]:
        lab.drain(session)
        assert drained_to_the_end(lab, session)
    lab.advance(0.2)
    assert [bool(lab.inbox[session]) for session in sessions[2:]] == [True, True, False]


def test_a_transfer_that_takes_nothing_gives_way_and_is_made_again_when_it_reads() -> None:
    lab = Lab(rates=FREE, payload_bytes_max=CHUNK_BYTES)
    large(lab)
    stuck = hello(lab, "stuck", Open(1, "main", None, EMPTY_STATE_VECTOR))
    lab.settle()
    assert [type(frame) for frame in lab.received(stuck)] == [Opened, Chunk]
    eager = hello(lab, "eager", Open(1, "main", None, EMPTY_STATE_VECTOR))
    lab.advance(PATIENCE_S / 2)
    assert lab.received(eager) == []
    lab.advance(PATIENCE_S / 2 + 0.2)
    opened = lab.take(eager, Opened)
    assert opened.more
    lab.drain(eager)
    assert drained_to_the_end(lab, eager)
    lab.drain(stuck)
    lab.settle()
    asked = lab.take(stuck, Opened)
    assert (asked.ref, asked.mode) == (0, Mode.NEED_SV)
    lab.send(stuck, frames.Resync(asked.handle, None, EMPTY_STATE_VECTOR))
    lab.settle()
    assert lab.take(stuck, Opened).more


def test_what_all_together_have_queued_is_bounded_by_who_has_a_part_in_it() -> None:
    lab = Lab(rates=FREE, queued_bytes_max=20_000, session_queued_bytes_max=15_000)
    joined = [lab.join(device=f"d{number}", doc=f"doc{number}") for number in range(4)]
    reader, _ = lab.join(device="reader", doc="doc0")
    for number, (session, handle) in enumerate(joined):
        lab.push(session, handle, 1, Writer(number + 1).type("x" * 9_000))
    held = [session for session, _ in joined[2:]]
    assert lab.paused == held
    lab.send(reader, frames.Ping(1))
    assert lab.paused == held, "who has nothing queued is read from"
    lab.settle()
    assert lab.paused == []
    assert lab.hub.levels().queued_bytes == 0


@pytest.mark.parametrize("device", ["phone", "laptop"])
def test_another_connection_of_a_device_has_no_more_room_in_the_queue(device: str) -> None:
    lab = Lab(rates=FREE, session_queued_bytes_max=4_000)
    session, handle = lab.join()
    lab.push(session, handle, 1, Writer(1).type("x" * 5_000))
    assert lab.paused == [session]
    lab.disconnect(session)
    again = hello(lab, device)
    assert lab.paused == ([again] if device == "phone" else [])
    lab.settle()
    assert lab.paused == []


def test_what_several_connections_of_a_device_left_in_the_queue_counts_together() -> None:
    lab = Lab(rates=FREE, session_queued_bytes_max=8_000)
    writer, first_op = Writer(1), 1
    for _ in range(3):
        session = hello(lab, "phone", Open(1, "main", None, EMPTY_STATE_VECTOR))
        for _ in range(2):
            lab.push(session, 1, first_op, writer.type("x" * 1_000))
            first_op += 1
        if session in lab.paused:
            break
        lab.disconnect(session)
    assert first_op == 7
    assert lab.paused == [session]
    lab.settle()
    assert lab.paused == []


def test_errors_fill_no_log() -> None:
    lab = Lab(rates=FREE)
    session, handle = lab.join()
    for _ in range(1_000):
        lab.send(session, frames.Push(handle, 5, (b"\0\0",)))
    lab.settle()
    assert len(lab.meter.of("refused")) == 1_000
    assert sum(entry.event == "refused" for entry in lab.log) <= 101
