"""What a device does with the answers to OPEN and RESYNC, and with the log that follows."""

from __future__ import annotations

import pytest

from client_sim.core.effects import Problem
from client_sim.core.status import Phase, State
from crdt.protocol import codec
from crdt.protocol.frames import Ack, Cursor, Delta, DeviceFrame, Hello, Mode, Opened, Push, Resume, Resync
from crdt.replica import Replica
from crdt.update import EMPTY_STATE_VECTOR
from tests.unit.client_sim.fake_server import FakeServer, Session
from tests.unit.client_sim.rig import Rig


def hello_of(rig: Rig) -> Hello:
    hello = rig.frames(Hello)[-1]
    assert isinstance(hello, Hello)
    return hello


def test_all_documents_open_in_one_round_trip() -> None:
    rig = Rig(FakeServer(), documents=("main", "bob/shared", "third"))
    rig.start()
    assert [opened.doc for opened in hello_of(rig).opens] == ["main", "bob/shared", "third"]
    assert [frame.TYPE for frame in rig.sent] == [Hello.TYPE]
    assert rig.device.status.state is State.CURRENT


def test_a_second_connection_says_its_cursor_and_no_state_vector() -> None:
    server = FakeServer()
    rig = Rig(server).start().type("a").settle()
    rig.lose().wait().settle()
    assert hello_of(rig).opens[0].cursor == Cursor(server.room("main").epoch, 1)
    assert hello_of(rig).opens[0].state_vector is None
    assert rig.device.counters.catch_ups == {"diff": 1, "current": 1}


def test_need_sv_is_answered_with_the_state_vector() -> None:
    server = FakeServer()
    rig = Rig(server).start().type("a").settle()
    other = Rig(server, "laptop", seed=2).start().type("b").settle()
    rig.lose()
    server.room("main").first_seq = 3  # what the device lacks was compacted away
    other.type("c").settle()
    rig.wait().settle()
    resync = rig.sent[-1]
    assert isinstance(resync, Resync)
    assert resync.cursor == Cursor(server.room("main").epoch, 1)
    assert resync.state_vector
    assert (rig.text, rig.status.state) == ("abc", State.CURRENT)


def test_deltas_are_applied_in_order_and_once() -> None:
    server = FakeServer()
    rig = Rig(server).start()
    Rig(server, "laptop", seed=2).start().type("x").settle()
    assert rig.session is not None
    delta = rig.session.outgoing[0]
    rig.settle()
    rig.session.outgoing.append(delta)
    rig.settle()
    assert rig.text == "x"
    assert rig.device.counters.updates_received == 1
    assert not rig.frames(Resync)


def test_a_gap_asks_for_state_again() -> None:
    server = FakeServer()
    rig = Rig(server).start()
    other = Rig(server, "laptop", seed=2).start().type("a").settle().type("b").settle()
    assert rig.session is not None
    rig.session.outgoing.popleft()
    rig.deliver_down()
    assert rig.document.phase is Phase.RESYNCING
    assert rig.text == ""
    rig.settle()
    assert rig.text == other.text == "ab"


def test_deltas_while_state_is_awaited_are_covered_by_the_answer() -> None:
    server = FakeServer()
    rig = Rig(server).start()
    other = Rig(server, "laptop", seed=2).start().type("a").settle().type("b").settle()
    assert rig.session is not None
    rig.session.outgoing.popleft()
    rig.deliver_down()
    other.type("c").settle()  # runs ahead of the answer to RESYNC
    rig.settle()
    assert rig.text == "abc"
    assert len(rig.frames(Resync)) == 1


def test_an_ack_ahead_of_the_cursor_asks_for_state_again() -> None:
    server = FakeServer()
    rig = Rig(server).start()
    Rig(server, "laptop", seed=2).start().type("a").settle()
    assert rig.session is not None
    rig.session.outgoing.clear()  # the laptop's entry is lost
    rig.type("b").settle()
    assert len(rig.frames(Resync)) == 1
    assert rig.pending_is_none_and_text_has("a", "b")


def test_an_ack_of_seq_0_moves_no_cursor() -> None:
    server = FakeServer()
    rig = Rig(server).start().type("a").settle()
    before = rig.document.copy.cursor
    assert rig.session is not None
    rig.session.send(Ack(1, 1, 0, rig.document.copy.progress.acked.chain))
    rig.settle()
    assert rig.document.copy.cursor == before
    assert not rig.frames(Resync)


def test_a_delta_that_does_not_fit_is_not_applied_but_asked_for_in_full() -> None:
    server = FakeServer()
    rig = Rig(server).start().type("a").settle()
    strange = Rig(FakeServer(), "x", seed=9).start().type("1").type("2")
    orphan = strange.document.copy.outbox[1].update
    assert rig.session is not None
    rig.session.send(Delta(1, 2, (orphan,)))
    rig.settle()
    resync = rig.frames(Resync)[-1]
    assert isinstance(resync, Resync)
    assert (resync.cursor, resync.state_vector) == (None, EMPTY_STATE_VECTOR)
    assert (rig.text, rig.status.state) == ("a", State.CURRENT)


def test_a_whole_state_that_can_not_be_read_blocks_the_document_and_no_other() -> None:
    server = FakeServer()

    def broken(session: Session, frame: DeviceFrame) -> bool:
        if not isinstance(frame, Resync):
            return False
        room = session.members[frame.handle]
        cursor = Cursor(room.epoch, 9)
        session.send(Opened(0, room.handle, Mode.DIFF, cursor, (b"junk",), 0, b"\x00", server.access, False, bytes(8)))
        return True

    rig = Rig(server, documents=("main", "other")).start()
    server.script = broken
    assert rig.session is not None
    rig.session.send(Delta(1, 1, (b"junk",)))
    rig.settle()
    assert str(rig.status) == "blocked (unreadable)"
    assert rig.device.document("other").status().state is State.CURRENT
    assert rig.told_of(Problem)


def test_an_opened_that_crosses_a_resync_is_not_taken_for_its_answer() -> None:
    server = FakeServer()
    rig = Rig(server).start()
    other = Rig(server, "laptop", seed=2).start().type("a").settle().type("b").settle()
    assert rig.session is not None
    rig.session.outgoing.popleft()
    rig.deliver_down()  # entry 2: a gap
    room = server.room("main")
    other.type("c").settle()
    rig.session.answer(room, 0, Cursor(room.epoch, 2), None)  # a drained reader's tail: it has entry 3 alone
    rig.settle()
    assert rig.text == other.text == "abc"
    assert len(rig.frames(Resync)) == 1


@pytest.mark.parametrize("first_seq", [1, 9])
def test_an_opened_that_nobody_asked_for_is_followed(first_seq: int) -> None:
    server = FakeServer()
    rig = Rig(server).start().type("mine").settle()
    Rig(server, "laptop", seed=2).start().type(" a").settle()
    assert rig.session is not None
    rig.session.outgoing.clear()
    room = server.room("main")
    room.first_seq = first_seq
    rig.session.answer(room, 0, Cursor(room.epoch, 1), None)
    rig.settle()
    assert rig.text == "mine a"
    assert bool(rig.frames(Resync)) is (first_seq > 1)
    assert rig.status.state is State.CURRENT


# --- chunks


def long_document(server: FakeServer) -> str:
    writer = Rig(server, "writer", seed=5).start()
    for index in range(30):
        writer.type(f"{index * 7919 % 1009:04d} ")
        writer.settle()
    server.chunk_bytes = 40
    return writer.text


def test_chunks_are_put_together() -> None:
    server = FakeServer()
    text = long_document(server)
    rig = Rig(server).start()
    assert (rig.text, rig.status.state) == (text, State.CURRENT)


def test_a_cut_download_goes_on_where_it_was() -> None:
    server = FakeServer()
    text = long_document(server)
    rig = Rig(server)
    rig.begin()
    rig.deliver_up()
    for _ in range(4):  # WELCOME, OPENED, two chunks
        rig.deliver_down()
    assert rig.document.phase is Phase.RECEIVING
    rig.lose().wait().settle()
    resume = hello_of(rig).opens[0].resume
    assert resume is not None
    assert resume.offset == 80
    assert (rig.text, rig.status.state) == (text, State.CURRENT)


@pytest.mark.parametrize("chunks", range(1, 8))
def test_of_a_download_the_rest_alone_comes_after_the_process_was_killed(chunks: int) -> None:
    server = FakeServer()
    text = long_document(server)
    server.chunk_bytes = 10
    whole = Rig(server, "tablet").start().device.counters.bytes_down
    rig = Rig(server).begin()
    rig.deliver_up()
    for _ in range(2 + chunks):  # WELCOME, OPENED, some chunks
        rig.deliver_down()
    rig.kill().start()
    assert hello_of(rig).opens[0].resume == Resume(next(reversed(server.payloads)), chunks * 10)
    assert (rig.text, rig.status.state) == (text, State.CURRENT)
    assert rig.device.counters.bytes_down <= whole - chunks * 10
    assert rig.store.load("main").partial is None


def test_what_was_typed_between_two_processes_does_not_hinder_a_download() -> None:
    server = FakeServer()
    text = long_document(server)
    rig = Rig(server).begin()
    rig.deliver_up()
    for _ in range(4):
        rig.deliver_down()
    rig.kill().type("mine").start()
    assert rig.pending_is_none_and_text_has(text, "mine")
    assert rig.status.state is State.CURRENT


def test_of_a_download_whose_last_chunk_was_not_synced_that_chunk_comes_again() -> None:
    server = FakeServer()
    text = long_document(server)
    rig = Rig(server).begin()
    rig.deliver_up()
    for _ in range(4):
        rig.deliver_down()
    rig.kill(without_last_transaction=True).start()
    resume = hello_of(rig).opens[0].resume
    assert resume is not None
    assert resume.offset == 40
    assert (rig.text, rig.status.state) == (text, State.CURRENT)


def test_a_download_that_the_server_forgot_begins_again() -> None:
    server = FakeServer()
    text = long_document(server)
    rig = Rig(server)
    rig.begin()
    rig.deliver_up()
    for _ in range(4):
        rig.deliver_down()
    server.payloads.clear()
    rig.lose().wait().settle()
    assert (rig.text, rig.status.state) == (text, State.CURRENT)


def test_bytes_of_one_payload_are_never_taken_for_those_of_another() -> None:
    server = FakeServer()
    text = long_document(server)
    rig = Rig(server).begin()
    rig.deliver_up()
    for _ in range(4):
        rig.deliver_down()
    server.payloads.clear()
    rig.lose().wait()
    rig.deliver_up()
    for _ in range(2):  # WELCOME, and an OPENED that announces another payload
        rig.deliver_down()
    rig.lose().wait()
    assert hello_of(rig).opens[0].resume is None
    assert rig.settle().text == text


def test_a_chunk_out_of_place_asks_for_state_again() -> None:
    server = FakeServer()
    text = long_document(server)
    rig = Rig(server)
    rig.begin()
    rig.deliver_up()
    for _ in range(3):
        rig.deliver_down()
    assert rig.session is not None
    rig.session.outgoing.popleft()
    server.chunk_bytes = 1 << 30
    rig.settle()
    assert len(rig.frames(Resync)) == 1
    assert rig.text == text


def receiving_with_an_op_on_its_way(server: FakeServer) -> tuple[Rig, Push]:
    """A device whose edit the server has not committed, after OPENED and one chunk of a RESYNC's answer."""
    rig = Rig(server).start()
    pushed: list[Push] = []

    def keep(_: Session, frame: DeviceFrame) -> bool:
        if isinstance(frame, Push):
            pushed.append(frame)
        return isinstance(frame, Push)

    server.script = keep
    rig.type("mine ").settle()
    server.script = None
    long_document(server)
    assert rig.session is not None
    rig.session.outgoing.popleft()
    rig.deliver_down()  # a gap
    rig.session.outgoing.clear()
    rig.deliver_up()
    for _ in range(2):
        rig.deliver_down()
    assert rig.document.phase is Phase.RECEIVING
    return rig, pushed[0]


def test_an_ack_while_chunks_come_counts_and_moves_no_cursor() -> None:
    server = FakeServer()
    rig, push = receiving_with_an_op_on_its_way(server)
    session, head = rig.session, server.room("main").head
    assert session is not None
    session.push(push)
    ack = session.outgoing.pop()
    session.outgoing.appendleft(ack)
    rig.settle()
    assert (rig.document.pending, rig.device.counters.heals, len(rig.frames(Resync))) == (0, 0, 1)
    assert rig.document.copy.cursor == Cursor(server.room("main").epoch, head)
    session.outgoing.append(ack)  # it comes after the last chunk as well: now it is next
    rig.settle()
    assert rig.document.copy.cursor == Cursor(server.room("main").epoch, head + 1)
    assert rig.document.copy.replica.digest() == server.room("main").replica.digest()


def test_an_unasked_tail_while_chunks_come_only_acknowledges() -> None:
    server = FakeServer()
    rig, push = receiving_with_an_op_on_its_way(server)
    session, room = rig.session, server.room("main")
    assert session is not None
    server.write(room, "alice/phone", push.updates)
    op, chain = room.ops["alice/phone"]
    beyond = Cursor(room.epoch, room.head)
    tail = Opened(0, room.handle, Mode.TAIL, beyond, (), op, None, server.access, False, chain)
    session.outgoing.appendleft(codec.encode(tail))
    rig.settle()
    assert (rig.document.pending, len(rig.frames(Resync))) == (0, 1)
    assert rig.document.copy.cursor == beyond._replace(seq=beyond.seq - 1)
    assert rig.document.copy.replica.digest() == room.replica.digest()


def test_a_new_epoch_reaches_a_device_whose_chunks_will_not_come() -> None:
    server = FakeServer()
    rig, _ = receiving_with_an_op_on_its_way(server)
    session, room = rig.session, server.room("main")
    assert session is not None
    session.outgoing.clear()
    server.new_epoch("main", b"newepoch")
    session.answer(room, 0, None, None)
    rig.settle()
    assert rig.status.state is State.CURRENT
    assert rig.document.copy.replica.digest() == room.replica.digest()
    assert "mine" in rig.text


# --- audits


def test_an_audit_that_agrees_changes_nothing() -> None:
    rig = Rig(FakeServer()).start().type("a").settle()
    rig.audit().settle()
    assert not rig.frames(Resync)


@pytest.mark.parametrize("pending", [True, False])
def test_an_audit_is_asked_only_where_nothing_is_pending(pending: bool) -> None:
    rig = Rig(FakeServer()).start()
    if pending:
        rig.type("a")
    rig.audit()
    assert (rig.sent[-1].TYPE == 9) is not pending


def test_a_failed_audit_begins_again_from_the_servers_state() -> None:
    server = FakeServer()
    rig = Rig(server).start().type("a").settle()
    server.room("main").replica.apply([lost_by_the_log(server)])
    rig.audit().settle()
    resync = rig.frames(Resync)[-1]
    assert isinstance(resync, Resync)
    assert resync.state_vector == EMPTY_STATE_VECTOR
    assert rig.document.copy.replica.digest() == server.room("main").replica.digest()
    assert rig.status.state is State.CURRENT


def test_after_a_failed_audit_the_server_gets_what_only_the_device_has() -> None:
    server = FakeServer()
    rig = Rig(server).start().type("a").settle()
    server.room("main").replica = Replica()  # lost, though acknowledged
    rig.audit().settle()
    push = rig.frames(Push)[-1]
    assert isinstance(push, Push)
    assert push.heal
    assert rig.text == "a"
    assert rig.document.copy.replica.digest() == server.room("main").replica.digest()


def lost_by_the_log(server: FakeServer) -> bytes:
    other = Rig(FakeServer(), "other", seed=8).start().type("z")
    return other.document.copy.outbox[0].update
