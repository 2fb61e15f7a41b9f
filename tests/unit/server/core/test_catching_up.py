"""What a device that opens, or was slow, is sent: all it lacks, in the cheapest way, nothing before its turn (I5)."""

from __future__ import annotations

import zlib

import msgpack
import pytest
from pycrdt import Text

from crdt.limits import CHUNK_BYTES, Limits
from crdt.protocol import frames
from crdt.protocol.codes import Code
from crdt.protocol.frames import Access, Ack, Chunk, Cursor, Delta, Error, Mode, Open, Opened, Resume
from crdt.replica import Replica
from crdt.update import EMPTY_STATE_VECTOR
from server.core import effects, events
from server.core.effects import Effect
from server.core.membership import LOOK_AGAIN_S
from tests.unit.server.core.lab import Lab, Writer


def opened(lab: Lab, session: int) -> Opened:
    """The one OPENED that has come; nothing else has."""
    (frame,) = lab.received(session)
    assert isinstance(frame, Opened)
    return frame


def seqs(lab: Lab, session: int) -> list[int]:
    return [frame.seq for frame in lab.received(session) if isinstance(frame, Delta | Ack)]


def written(lab: Lab, *texts: str, device: str = "phone") -> Writer:
    """A document that a device has written into, one entry for each text."""
    writer, (session, handle) = Writer(1), lab.join(device=device)
    for number, text in enumerate(texts, 1):
        lab.push(session, handle, number, writer.type(text))
        lab.settle()
    lab.received(session)
    return writer


# --- modes


def test_a_cursor_at_the_head_costs_nothing() -> None:
    lab = Lab()
    written(lab, "a", "b")
    laptop = lab.hello("alice", "laptop", Open(1, "main", Cursor(lab.epoch(), 2), None))
    answer = opened(lab, laptop)
    assert (answer.mode, answer.updates, answer.state_vector, answer.more) == (Mode.CURRENT, (), None, False)


def test_a_device_a_little_behind_gets_the_tail_without_its_own_ops() -> None:
    lab = Lab()
    writer = written(lab, "a", "b")
    tablet, handle = lab.join(device="tablet")
    other = Writer(2)
    theirs = [other.type("x"), other.type("y")]
    for number, update in enumerate(theirs, 1):
        lab.push(tablet, handle, number, update)
        lab.settle()
    phone = lab.hello("alice", "phone", Open(1, "main", Cursor(lab.epoch(), 1), None))
    answer = opened(lab, phone)
    assert (answer.mode, answer.updates) == (Mode.TAIL, tuple(theirs))
    assert (answer.acked_op, answer.chain, answer.cursor.seq) == (2, writer.chain, 4)


def test_a_long_tail_without_a_state_vector_is_sent_and_with_one_the_smaller_of_tail_and_diff() -> None:
    lab = Lab()
    written(lab, *["x" * 100] * 20)
    laptop = lab.hello("alice", "laptop", Open(1, "main", Cursor(lab.epoch(), 0), None))
    assert opened(lab, laptop).mode is Mode.TAIL
    tablet = lab.hello("alice", "tablet", Open(1, "main", Cursor(lab.epoch(), 0), EMPTY_STATE_VECTOR))
    assert opened(lab, tablet).mode is Mode.DIFF


@pytest.mark.parametrize("cursor", ["none", "old epoch", "too far behind"])
def test_what_no_tail_reaches_needs_a_state_vector(cursor: str) -> None:
    lab = Lab(tail_bytes_max=300)
    written(lab, "a", "b", "c")
    position = {"none": None, "old epoch": Cursor(b"12345678", 2), "too far behind": Cursor(lab.epoch(), 0)}[cursor]
    laptop = lab.hello("alice", "laptop", Open(1, "main", position, None))
    lab.settle()
    answer = opened(lab, laptop)
    assert (answer.mode, answer.updates, answer.cursor.seq) == (Mode.NEED_SV, (), 3)
    assert (answer.state_vector is not None) is (cursor == "old epoch")
    tablet = lab.hello("alice", "tablet", Open(1, "main", position, EMPTY_STATE_VECTOR))
    answer = opened(lab, tablet)
    assert answer.mode is Mode.DIFF
    assert Replica.load(answer.updates).values() == {"t": "cba"}


def test_deletes_come_with_an_equal_state_vector() -> None:
    lab = Lab()
    writer = written(lab, "abc")
    state_vector = writer.replica.state_vector_bytes()
    delete = writer.replica.edit(lambda doc: doc.get("t", type=Text).clear())
    assert delete is not None
    phone, handle = lab.join()
    lab.push(phone, handle, 2, delete)
    lab.settle()
    for ref, cursor in enumerate((Cursor(lab.epoch(), 1), None), 1):
        laptop = lab.hello("alice", f"laptop{ref}", Open(1, "main", cursor, state_vector))
        answer = opened(lab, laptop)
        copy = Replica.load([writer.replica.state()])
        copy.apply(answer.updates)
        assert copy.values() == {}


def test_resync_is_answered_with_ref_0_and_the_servers_state_vector() -> None:
    lab = Lab()
    written(lab, "a")
    laptop, handle = lab.join(device="laptop")
    lab.send(laptop, frames.Resync(handle, Cursor(lab.epoch(), 1), EMPTY_STATE_VECTOR))
    answer = opened(lab, laptop)
    assert (answer.ref, answer.mode) == (0, Mode.CURRENT)
    assert answer.state_vector is not None


@pytest.mark.parametrize("state_vector", [b"", b"\x01", b"\x00\x00", b"\xff" * 20])
def test_a_bad_state_vector_is_refused_and_three_end_the_session(state_vector: bytes) -> None:
    lab = Lab()
    session = lab.hello("alice", "phone", Open(1, "main", None, state_vector))
    lab.settle()
    error = lab.take(session, Error)
    assert (error.ref, error.handle, error.code) == (1, None, Code.BAD_STATE)
    for ref in (2, 3):
        lab.send(session, Open(ref, "main", None, state_vector))
    assert lab.closed == {session: (4400, Code.BAD_STATE)}


def test_a_state_vector_over_the_limit_is_refused() -> None:
    lab = Lab(limits=Limits(state_vector_bytes=2))
    session = lab.hello("alice", "phone", Open(1, "main", None, b"\x01\x05\x02"))
    lab.settle()
    assert lab.take(session, Error).code == Code.BAD_STATE


def test_a_bad_resync_leaves_the_member_as_it_was() -> None:
    lab = Lab()
    (phone, handle), (laptop, _) = lab.join(), lab.join(device="laptop")
    lab.send(laptop, frames.Resync(handle, None, b"\xff"))
    lab.push(phone, handle, 1, Writer(1).type("a"))
    lab.settle()
    error, delta = lab.received(laptop)
    assert isinstance(error, Error)
    assert (error.ref, error.handle) == (0, handle)
    assert isinstance(delta, Delta)


def test_a_member_that_must_tell_its_state_vector_gets_nothing_until_it_does() -> None:
    lab = Lab(tail_bytes_max=0)
    written(lab, "a")
    phone, handle = lab.join()
    laptop = lab.hello("alice", "laptop", Open(1, "main", Cursor(lab.epoch(), 0), None))
    assert opened(lab, laptop).mode is Mode.NEED_SV
    lab.push(phone, handle, 2, b"\x00\x00")
    lab.settle()
    lab.feed(events.OutboxOverfull(laptop))
    lab.drain(laptop)
    assert lab.received(laptop) == []
    lab.send(laptop, frames.Resync(handle, Cursor(lab.epoch(), 0), EMPTY_STATE_VECTOR))
    assert opened(lab, laptop).cursor.seq == 2
    lab.push(phone, handle, 3, b"\x00\x00")
    lab.settle()
    assert seqs(lab, laptop) == [3]


def test_opening_twice_keeps_the_handle_and_sends_each_entry_once() -> None:
    lab = Lab()
    (phone, handle), (laptop, _) = lab.join(), lab.join(device="laptop")
    lab.send(laptop, Open(2, "main", Cursor(lab.epoch(), 0), None))
    assert opened(lab, laptop).handle == handle
    lab.push(phone, handle, 1, Writer(1).type("a"))
    lab.settle()
    assert seqs(lab, laptop) == [1]


def test_who_leaves_gets_nothing_more() -> None:
    lab = Lab()
    (phone, handle), (laptop, _) = lab.join(), lab.join(device="laptop")
    lab.push(laptop, handle, 1, Writer(2).type("b"))
    lab.send(laptop, frames.Leave(handle))
    lab.push(phone, handle, 1, Writer(1).type("a"))
    lab.settle()
    assert lab.received(laptop) == []
    assert [entry.device.name for entry in lab.durable()] == ["laptop", "phone"]


def test_leaving_before_the_answer_takes_the_open_back() -> None:
    lab = Lab()
    session = lab.hello("alice", "phone", Open(1, "main", None, EMPTY_STATE_VECTOR))
    lab.received(session)
    lab.send(session, frames.Leave(1))
    lab.settle()
    assert lab.received(session) == []


def test_deflated_and_plain_members_are_sent_the_same() -> None:
    lab = Lab()
    (phone, handle), (plain, _) = lab.join(), lab.join(device="plain")
    packed, _ = lab.join(device="packed", options={"deflate": True})
    lab.push(phone, handle, 1, Writer(1).type("a" * 5000))
    lab.settle()
    assert lab.received(plain) == lab.received(packed)


class Scales(Lab):
    """Weighs the DELTAs that go out."""

    def __init__(self) -> None:
        super().__init__()
        self.delta_bytes: list[int] = []

    def _execute(self, effect: Effect) -> None:
        if isinstance(effect, effects.Publish):
            self.delta_bytes += [len(delta) for delta in effect.deltas if delta]
        super()._execute(effect)


@pytest.mark.parametrize(("typed", "is_deflated"), [(300, False), (1200, True)])
def test_what_is_short_is_not_deflated_while_much_waits(typed: int, is_deflated: bool) -> None:
    lab = Scales()
    (phone, handle), _ = lab.join(), lab.join(device="packed", options={"deflate": True})
    writer = Writer(1)
    lab.push(phone, handle, 1, writer.type("a" * typed))
    lab.turn()
    lab.push(phone, handle, 2, writer.type("b" * 5000))  # waits while the first is committed
    lab.push(phone, handle, 3, writer.type("c" * 300))
    lab.settle()
    assert [size < 250 for size in lab.delta_bytes] == [is_deflated, True]


# --- chunks


def large(lab: Lab) -> Writer:
    """A document of a bit more than three chunks."""
    noise = "".join(chr(0x4E00 + (number * number) % 20_000) for number in range(CHUNK_BYTES + 1000))
    return written(lab, noise)


def chunks(lab: Lab, session: int) -> tuple[Opened, list[Chunk], list[frames.ServerFrame]]:
    """A chunked answer to its end: the OPENED, its chunks, and what came behind them."""
    got = lab.received(session)
    while session in lab.awaiting_drain:
        lab.drain(session)
        got += lab.received(session)
    found = [frame for frame in got if isinstance(frame, Chunk)]
    assert isinstance(got[0], Opened)
    behind = got[len(found) + 1 :]
    assert not any(isinstance(frame, Chunk) for frame in behind)
    return got[0], found, behind


@pytest.mark.parametrize("deflate", [False, True])
def test_a_large_answer_comes_in_chunks_one_for_each_drain(deflate: bool) -> None:
    lab = Lab()
    writer = large(lab)
    laptop, _ = lab.join(device="laptop", options={"deflate": deflate})
    lab.disconnect(laptop)
    opens = Open(1, "main", None, EMPTY_STATE_VECTOR)
    laptop = lab.hello("alice", "laptop", opens, options={"deflate": deflate})
    answer, found, behind = chunks(lab, laptop)
    assert (answer.mode, answer.more, answer.updates, behind) == (Mode.DIFF, True, (), [])
    data = b"".join(chunk.data for chunk in found)
    assert [chunk.offset for chunk in found] == list(range(0, len(data), CHUNK_BYTES))
    assert all(chunk.total == len(data) for chunk in found)
    updates = msgpack.unpackb(zlib.decompress(data, wbits=-15) if deflate else data)
    assert Replica.load(updates).values() == writer.replica.values()


def test_what_happens_during_a_transfer_comes_behind_it() -> None:
    lab = Lab()
    writer = large(lab)
    phone, handle = lab.join()
    laptop = lab.hello("alice", "laptop", Open(1, "main", None, EMPTY_STATE_VECTOR))
    later = writer.type("later")
    lab.push(phone, handle, 2, later)
    lab.settle()
    lab.push(laptop, handle, 1, Writer(7).type("own"))
    lab.settle()
    answer, _, behind = chunks(lab, laptop)
    (tail,) = behind
    assert isinstance(tail, Opened)
    assert (answer.cursor.seq, tail.ref, tail.mode, tail.updates) == (1, 0, Mode.TAIL, (later,))
    assert (tail.cursor.seq, tail.acked_op) == (3, 1)
    lab.push(phone, handle, 3, writer.type("live"))
    lab.settle()
    assert seqs(lab, laptop) == [4]


@pytest.mark.parametrize("received", [0, 1, 2, 4])
def test_a_transfer_that_was_cut_goes_on_where_it_was(received: int) -> None:
    """Chunks that were sent may all be lost on the way, the last one too."""
    lab = Lab()
    large(lab)
    laptop = lab.hello("alice", "laptop", Open(1, "main", None, EMPTY_STATE_VECTOR))
    first, sent, _ = chunks(lab, laptop)
    lab.disconnect(laptop)
    data = b"".join(chunk.data for chunk in sent[:received])
    assert first.payload_id is not None
    resume = Resume(first.payload_id, len(data))
    laptop = lab.hello("alice", "laptop", Open(1, "main", None, EMPTY_STATE_VECTOR, resume))
    again, rest, _ = chunks(lab, laptop)
    assert (again.payload_id, again.cursor, again.more) == (first.payload_id, first.cursor, True)
    assert data + b"".join(chunk.data for chunk in rest) == b"".join(chunk.data for chunk in sent)


@pytest.mark.parametrize("why", ["evicted", "another device", "beyond its end", "new epoch", "another document"])
def test_what_can_not_be_resumed_is_answered_from_the_start(why: str) -> None:
    lab = Lab(payload_bytes_max=0 if why == "evicted" else 1 << 20)
    large(lab)
    laptop = lab.hello("alice", "laptop", Open(1, "main", None, EMPTY_STATE_VECTOR))
    first, sent, _ = chunks(lab, laptop)
    lab.disconnect(laptop)
    if why == "evicted":
        chunks(lab, lab.hello("alice", "tablet", Open(1, "main", None, EMPTY_STATE_VECTOR)))
    if why == "new epoch":
        lab.hello("alice", "phone", Open(1, "main", Cursor(lab.epoch(), 99), EMPTY_STATE_VECTOR))
        lab.settle()
    assert first.payload_id is not None
    resume = Resume(first.payload_id, sent[0].total + 1 if why == "beyond its end" else CHUNK_BYTES)
    device = "tablet" if why == "another device" else "laptop"
    document = "other" if why == "another document" else "main"
    session = lab.hello("alice", device, Open(1, document, None, EMPTY_STATE_VECTOR, resume))
    lab.settle()
    answer, found, _ = chunks(lab, session)
    assert answer.payload_id != first.payload_id
    assert [chunk.offset for chunk in found[:1]] == ([] if why == "another document" else [0])


@pytest.mark.parametrize("cursor", [None, Cursor(b"of old..", 7)], ids=["installed anew", "from an epoch before"])
def test_a_transfer_does_not_go_on_where_the_device_wrote_what_it_may_have_lost(cursor: Cursor | None) -> None:
    """It has a clone: what that wrote under its name is in no tail for it, so it has to be in the answer."""
    lab = Lab()
    writer = large(lab)
    laptop = lab.hello("alice", "laptop", Open(1, "main", cursor, EMPTY_STATE_VECTOR))
    lab.settle()
    first, _, _ = chunks(lab, laptop)
    clone = lab.hello("alice", "laptop", Open(1, "main", Cursor(lab.epoch(), 1), None))
    lab.settle()
    own = Writer(7)
    lab.push(clone, lab.take(clone, Opened).handle, 1, own.type("own", "other"))
    lab.settle()
    assert first.payload_id is not None
    resume = Resume(first.payload_id, CHUNK_BYTES)
    laptop = lab.hello("alice", "laptop", Open(1, "main", cursor, EMPTY_STATE_VECTOR, resume))
    again, found, _ = chunks(lab, laptop)
    values = Replica.load(msgpack.unpackb(b"".join(chunk.data for chunk in found))).values()
    assert values == writer.replica.values() | own.replica.values()
    assert (again.cursor.seq, again.acked_op) == (2, 1)


@pytest.mark.parametrize("how", ["leave", "open again", "resync", "close"])
def test_a_transfer_that_is_given_up_sends_no_more_chunks(how: str) -> None:
    lab = Lab()
    large(lab)
    laptop = lab.hello("alice", "laptop", Open(1, "main", None, EMPTY_STATE_VECTOR))
    assert [type(frame) for frame in lab.received(laptop)] == [Opened, Chunk]
    current = Cursor(lab.epoch(), 1)
    match how:
        case "leave":
            lab.send(laptop, frames.Leave(1))
        case "open again":
            lab.send(laptop, Open(2, "main", current, None))
        case "resync":
            lab.send(laptop, frames.Resync(1, current, EMPTY_STATE_VECTOR))
        case _:
            lab.disconnect(laptop)
    lab.received(laptop)
    lab.feed(events.OutboxDrained(laptop))
    assert lab.received(laptop) == []
    if how in ("open again", "resync"):
        phone, handle = lab.join()
        lab.push(phone, handle, 2, b"\x00\x00")
        lab.settle()
        assert seqs(lab, laptop) == [2]


def test_memory_for_payloads_is_bounded() -> None:
    lab = Lab(payload_bytes_max=4 * CHUNK_BYTES)
    large(lab)
    ids = []
    for number in range(3):
        session = lab.hello("alice", f"laptop{number}", Open(1, "main", None, EMPTY_STATE_VECTOR))
        ids.append(chunks(lab, session)[0].payload_id)
    resumed = []
    for number, payload_id in enumerate(ids):
        assert payload_id is not None
        resume = Resume(payload_id, CHUNK_BYTES)
        session = lab.hello("alice", f"laptop{number}", Open(1, "main", None, EMPTY_STATE_VECTOR, resume))
        resumed.append(chunks(lab, session)[0].payload_id == payload_id)
    assert resumed[0] is False


# --- slow readers


def test_a_slow_reader_gets_what_it_missed_in_one_answer() -> None:
    lab = Lab()
    writer, (phone, handle), (laptop, _) = Writer(1), lab.join(), lab.join(device="laptop")
    lab.feed(events.OutboxOverfull(laptop))
    updates = [writer.type(char) for char in "abc"]
    for number, update in enumerate(updates, 1):
        lab.push(phone, handle, number, update)
        lab.settle()
    lab.push(laptop, handle, 1, Writer(2).type("own"))
    lab.settle()
    assert lab.received(laptop) == []
    lab.drain(laptop)
    answer = opened(lab, laptop)
    assert (answer.ref, answer.mode, answer.updates, answer.acked_op) == (0, Mode.TAIL, tuple(updates), 1)
    lab.push(phone, handle, 4, writer.type("d"))
    lab.settle()
    assert seqs(lab, laptop) == [5]


def test_a_slow_reader_that_missed_nothing_hears_nothing() -> None:
    lab = Lab()
    (phone, handle), (laptop, _) = lab.join(), lab.join(device="laptop")
    lab.feed(events.OutboxOverfull(laptop))
    lab.drain(laptop)
    assert lab.received(laptop) == []
    lab.push(phone, handle, 1, Writer(1).type("a"))
    lab.settle()
    assert seqs(lab, laptop) == [1]


def test_a_slow_reader_that_missed_too_much_says_what_it_has() -> None:
    lab = Lab(tail_bytes_max=0)
    (phone, handle), (laptop, _) = lab.join(), lab.join(device="laptop")
    lab.feed(events.OutboxOverfull(laptop))
    lab.push(phone, handle, 1, Writer(1).type("a"))
    lab.settle()
    lab.drain(laptop)
    assert opened(lab, laptop).mode is Mode.NEED_SV
    lab.send(laptop, frames.Resync(handle, Cursor(lab.epoch(), 0), EMPTY_STATE_VECTOR))
    assert opened(lab, laptop).mode is Mode.DIFF


@pytest.mark.parametrize("ask", ["resync", "open", "another document"])
def test_a_slow_reader_that_asks_is_answered_and_stays_slow(ask: str) -> None:
    lab = Lab()
    (phone, handle), (laptop, _) = lab.join(), lab.join(device="laptop")
    other, other_handle = lab.join(device="phone2", doc="other")
    lab.feed(events.OutboxOverfull(laptop))
    match ask:
        case "resync":
            lab.send(laptop, frames.Resync(handle, Cursor(lab.epoch(), 0), EMPTY_STATE_VECTOR))
        case "open":
            lab.send(laptop, Open(2, "main", Cursor(lab.epoch(), 0), EMPTY_STATE_VECTOR))
        case _:
            lab.send(laptop, Open(2, "other", None, EMPTY_STATE_VECTOR))
    assert isinstance(opened(lab, laptop), Opened)
    for number in range(1, 4):
        lab.push(phone, handle, number, Writer(number).type("a"))
        lab.push(other, other_handle, number, Writer(number).type("a"))
        lab.settle()
    assert lab.received(laptop) == []
    lab.drain(laptop)
    answers = lab.received(laptop)
    assert [frame.cursor.seq for frame in answers if isinstance(frame, Opened)] in ([3], [3, 3])


def test_an_audit_that_waits_does_not_keep_a_slow_reader_waiting() -> None:
    lab = Lab(resident_bytes_max=0)
    (phone, handle), (laptop, _) = lab.join(), lab.join(device="laptop")
    lab.feed(events.OutboxOverfull(laptop))
    lab.push(phone, handle, 1, Writer(1).type("a"))
    lab.settle()
    lab.send(laptop, frames.Audit(handle, 0, bytes(16)))
    lab.drain(laptop)
    lab.settle()
    assert opened(lab, laptop).cursor.seq == 1
    lab.push(phone, handle, 2, Writer(2).type("a"))
    lab.settle()
    assert seqs(lab, laptop) == [2]


def test_congestion_in_the_middle_of_a_transfer_is_over_when_it_has_drained() -> None:
    lab = Lab()
    writer = large(lab)
    phone, handle = lab.join()
    laptop = lab.hello("alice", "laptop", Open(1, "main", None, EMPTY_STATE_VECTOR))
    lab.feed(events.OutboxOverfull(laptop))
    lab.push(phone, handle, 2, writer.type("b"))
    lab.settle()
    _, found, behind = chunks(lab, laptop)
    assert len(found) == 4
    assert [type(frame) for frame in behind] == [Opened]
    lab.push(phone, handle, 3, writer.type("c"))
    lab.settle()
    assert seqs(lab, laptop) == [3]


def test_read_only_members_are_told_so() -> None:
    lab = Lab()
    lab.join()
    bob = lab.hello("bob", "x", Open(1, "alice/main", None, b"\x00"), docs={"alice/main": "r"})
    lab.settle()
    assert lab.take(bob, Opened).access is Access.READ


def test_one_request_is_refused_and_another_of_the_same_document_is_not() -> None:
    lab = Lab()
    phone = lab.hello("alice", "phone", Open(1, "main", None, b"\xff\xff"), Open(2, "main", None, EMPTY_STATE_VECTOR))
    lab.settle()
    assert [type(frame) for frame in lab.received(phone)] == [Error, Opened]
    lab.disconnect(phone)

    written(lab, "a", device="laptop")  # the lab fails if the phone, which is gone, is sent any of it


def test_a_guest_who_claims_to_know_more_has_the_log_read_again_seldom() -> None:
    """Each time costs all members; another process may have written what it knows."""
    lab = Lab()
    docs = {"alice/main": "r"}
    guest = lab.hello("bob", "phone", docs=docs)
    lab.join()
    loads = []
    for ref in range(1, 11):
        lab.send(guest, Open(ref, "alice/main", Cursor(lab.epoch(), 99), None))
        loads.append(sum(isinstance(effect, effects.Load) for effect in lab.held))
        lab.settle()
    assert sum(loads) == 1
    lab.advance(LOOK_AGAIN_S)
    lab.send(guest, Open(11, "alice/main", Cursor(lab.epoch(), 99), None))
    assert any(isinstance(effect, effects.Load) for effect in lab.held)
