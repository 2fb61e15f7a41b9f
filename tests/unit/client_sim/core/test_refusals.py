"""Every error of the protocol about a document: what the device does, and that no other document minds."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from client_sim.core import events
from client_sim.core.effects import Problem
from client_sim.core.status import Phase, State
from crdt.protocol.codes import Code, Retry
from crdt.protocol.frames import SERVER_REF, Access, Delta, DeviceFrame, Error, Hello, Open, Push, Resync
from crdt.update import EMPTY_STATE_VECTOR, EMPTY_UPDATE
from tests.unit.client_sim.core.test_heal import put
from tests.unit.client_sim.fake_server import FakeServer, Script, Session
from tests.unit.client_sim.rig import Rig


def once(refuse: Callable[[Session, Push], None]) -> Script:
    """Refuse the first push for `main`, and ignore what follows until its op comes again."""
    waiting: list[int] = []

    def script(session: Session, frame: DeviceFrame) -> bool:
        if not isinstance(frame, Push) or frame.handle != 1:
            return False
        if not waiting:
            waiting.append(frame.first_op)
            refuse(session, frame)
            return True
        if waiting[0] and frame.first_op != waiting[0]:
            return True
        waiting[0] = 0
        return False

    return script


def refusing(code: Code, **detail: object) -> Script:
    return once(lambda session, push: session.refuse(push, code, code.retry, **detail))


def last_push(rig: Rig) -> Push:
    push = rig.frames(Push)[-1]
    assert isinstance(push, Push)
    return push


@pytest.mark.parametrize("code", [Code.NOT_SAVED, Code.OVERLOADED, Code.RATE_LIMITED, Code.INTERNAL])
def test_what_could_not_be_done_now_is_sent_again_a_little_later(code: Code) -> None:
    server = FakeServer()
    rig = Rig(server).start()
    server.script = refusing(code)
    rig.type("a").type("b").type("c").settle()
    assert rig.document.pending == 3
    assert len(rig.frames(Push)) == 3
    rig.wait().settle()
    assert 0 < rig.now < 1
    assert server.room("main").replica.values() == {"body": "abc"}
    assert (rig.document.pending, rig.status.state) == (0, State.CURRENT)


def test_the_servers_time_is_a_floor() -> None:
    server = FakeServer()
    rig = Rig(server).start()
    limited = Error(None, 1, "rate_limited", "", "later", 7000, {"op": 1})
    server.script = once(lambda session, push: session.send(limited))
    rig.type("a").settle().type("b").settle().wait().settle()
    assert rig.now >= 7
    assert rig.document.pending == 0


def test_op_gap_sends_again_from_what_is_expected() -> None:
    server = FakeServer()
    rig = Rig(server).start().type("a").type("b")
    rig.up.popleft()  # the server never sees op 1
    rig.settle()
    assert not rig.frames(Resync)
    assert server.room("main").replica.values() == {"body": "ab"}
    assert rig.document.pending == 0


def test_op_gap_with_an_op_long_acknowledged_asks_for_state() -> None:
    server = FakeServer()
    rig = Rig(server).start().type("a").settle().type("b").settle()
    server.room("main").rewind(1)
    rig.type("c").settle()
    assert rig.frames(Resync)
    assert rig.device.counters.heals == 1
    assert server.room("main").replica.values() == {"body": "abc"}
    assert rig.status.state is State.CURRENT


def test_missing_deps_is_answered_with_one_diff_under_the_same_number() -> None:
    server = FakeServer()
    rig = Rig(server).start().type("a").settle()
    room = server.room("main")
    lost = room.ops["alice/phone"]
    room.rewind(0)
    room.ops["alice/phone"] = lost  # the server has lost the bytes and kept the number
    rig.type("b").type("c").settle()
    assert last_push(rig).first_op == 2
    assert len(last_push(rig).updates) == 1
    assert not last_push(rig).heal
    assert room.replica.values() == {"body": "abc"}
    assert rig.document.pending == 0
    assert rig.kill().start().type("d").settle().status.state is State.CURRENT


def test_missing_deps_is_answered_by_several_ops_where_one_has_no_room() -> None:
    server = FakeServer()
    server.limits = {"update_bytes": 100}
    rig = Rig(server).start()
    for letter in "abcd":
        put(rig, letter, letter * 40)
    room = server.room("main")
    lost = room.ops["alice/phone"]
    room.rewind(0)
    room.ops["alice/phone"] = lost
    rig.type("e").settle()
    assert room.replica.values() == rig.document.values()
    assert rig.document.pending == 0


def test_missing_deps_without_a_state_vector_is_not_the_protocol() -> None:
    server = FakeServer()
    rig = Rig(server).start()
    server.script = refusing(Code.MISSING_DEPS)
    rig.type("a").settle()
    assert rig.device.status.state is State.OFFLINE


@pytest.mark.parametrize("code", [Code.BAD_UPDATE, Code.TOO_BIG, Code.TOO_EXPENSIVE])
def test_what_can_not_be_mended_goes_aside_and_the_replica_is_the_servers(code: Code) -> None:
    server = FakeServer()
    rig = Rig(server, documents=("main", "other")).start().type("good").settle()
    server.script = refusing(code, reason="not_owner")
    rig.type("bad").type("worse").settle()
    assert str(rig.status) == f"blocked ({code})"
    assert rig.text == "good"
    assert len(rig.document.aside) == 2
    assert rig.document.pending == 0
    assert rig.told_of(Problem) == [Problem(code, "", "main", "not_owner")]
    assert rig.device.document("other").status().state is State.CURRENT


def test_ops_before_the_refused_one_stay_pending_on_top_of_the_servers_state() -> None:
    server = FakeServer()
    rig = Rig(server).start()
    queued: list[Push] = []

    def script(session: Session, frame: DeviceFrame) -> bool:
        if isinstance(frame, Push) and frame.first_op == 1:
            queued.append(frame)  # taken, and not on disk yet
        elif isinstance(frame, Push) and frame.first_op == 2:
            session.refuse(frame, Code.BAD_UPDATE, "never")
        return isinstance(frame, Push)

    server.script = script
    rig.type("good").type("bad").type("worse").settle()
    assert (rig.text, rig.document.pending, len(rig.document.aside)) == ("good", 1, 2)
    assert rig.kill().text == "good"
    server.script = None
    rig.start()
    assert rig.session is not None
    rig.session.push(queued[0])
    rig.settle()
    assert rig.document.pending == 0
    rig.feed(events.Unblocked("main"))
    rig.type("!").settle()
    assert last_push(rig).first_op == 2
    assert server.room("main").replica.values() == {"body": "good!"}


def test_a_document_with_work_aside_stays_blocked_until_the_app_decides() -> None:
    server = FakeServer()
    rig = Rig(server).start()
    server.script = refusing(Code.BAD_UPDATE)
    rig.type("bad").settle().kill().start()
    rig.type("new").settle()
    assert (rig.document.pending, len(rig.document.aside)) == (1, 1)
    server.script = None
    rig.feed(events.Unblocked("main"))
    rig.settle()
    assert (rig.document.aside, rig.document.pending) == ([], 0)
    assert server.room("main").replica.values() == {"body": "new"}


def test_a_bad_update_that_is_cut_off_is_dealt_with_on_the_next_connection() -> None:
    server = FakeServer()
    rig = Rig(server).start()
    server.script = refusing(Code.BAD_UPDATE)
    rig.type("bad")
    rig.deliver_up()
    rig.deliver_down()  # the refusal is in, the state is not
    rig.lose().wait().settle()
    assert (rig.text, len(rig.document.aside)) == ("", 1)


def test_a_code_that_never_helps_is_held_and_kept() -> None:
    server = FakeServer()
    rig = Rig(server, documents=("main", "other")).start()
    server.script = once(lambda session, push: session.refuse(push, "of_a_later_version", "never"))
    rig.type("a").type("b").settle()
    assert str(rig.status) == "blocked (of_a_later_version)"
    assert rig.document.pending == 2
    rig.type("c", "other").settle()
    assert rig.device.document("other").status().state is State.CURRENT
    Rig(server, "laptop", seed=2).start().type("x").settle()
    rig.settle()
    assert "x" in rig.text  # it still hears the others
    rig.lose().wait().settle()  # a new connection tries again
    assert rig.document.pending == 0


def test_a_read_only_document_is_followed_and_its_edits_kept() -> None:
    server = FakeServer()
    server.access = Access.READ
    rig = Rig(server).start()
    assert rig.status.state is State.CURRENT
    rig.type("mine").settle()
    assert str(rig.status) == "blocked (forbidden)"
    assert not rig.frames(Push)
    assert rig.document.pending == 1
    Rig(server, "laptop", seed=2)
    server.write(server.room("main"), "bob/pc", (bytes_of("theirs"),))
    rig.settle()
    assert "theirs" in rig.text


def bytes_of(text: str) -> bytes:
    return Rig(FakeServer(), "x", seed=4).type(text).document.copy.outbox[0].update


def test_a_write_grant_that_is_lost_keeps_what_is_pending() -> None:
    server = FakeServer()
    rig = Rig(server).start()
    server.script = refusing(Code.FORBIDDEN)
    rig.type("a").settle()
    assert str(rig.status) == "blocked (forbidden)"
    assert rig.document.pending == 1
    assert rig.document.phase is Phase.LIVE


def test_a_grant_that_is_lost_ends_membership_and_a_new_token_asks_again() -> None:
    server = FakeServer()
    rig = Rig(server, documents=("bob/shared",)).start()
    assert rig.session is not None
    rig.session.send(Error(None, 1, "forbidden", "", "never"))
    rig.settle()
    assert str(rig.status) == "blocked (forbidden)"
    rig.feed(events.TokenFetched("phone", "wider"))
    rig.settle()
    assert rig.status.state is State.CURRENT


@pytest.mark.parametrize("wider", [Access.READ, Access.WRITE])
def test_a_new_token_while_a_read_only_document_comes_in_chunks_asks_when_it_is_there(wider: Access) -> None:
    server = FakeServer()
    server.access, server.chunk_bytes = Access.READ, 10
    server.write(server.room("main"), "bob/pc", (bytes_of("a text of more than one chunk"),))
    rig = Rig(server).begin()
    while rig.document.phase is not Phase.RECEIVING:
        assert rig.deliver_up() or rig.deliver_down()
    server.access = wider
    rig.feed(events.TokenFetched("phone", "wider"))
    assert not rig.frames(Open)
    rig.settle()
    assert len(rig.frames(Open)) == 1
    assert rig.document.access is wider
    assert rig.status.state is State.CURRENT
    rig.lose().wait().settle()
    assert len(rig.frames(Open)) == 1


def refuse_open(code: str, retry: str, after_ms: int | None = None) -> Script:
    """The first open of `main` is refused, in HELLO or alone."""
    refused: list[int] = []

    def script(session: Session, frame: DeviceFrame) -> bool:
        opens = frame.opens if isinstance(frame, Hello) else (frame,) if isinstance(frame, Open) else ()
        hit = [opened.ref for opened in opens if opened.doc == "main" and not refused]
        if not hit:
            return False
        refused.extend(hit)
        if isinstance(frame, Hello):
            others = tuple(opened for opened in opens if opened.doc != "main")
            session.serve(Hello(1, "", frame.device, "", {}, others))
        session.send(Error(hit[0], None, code, "", retry, after_ms))
        return True

    return script


@pytest.mark.parametrize("code", [Code.FORBIDDEN, Code.DOC_QUARANTINED, Code.RESET_REQUIRED])
def test_an_open_that_is_refused_blocks_that_document_alone(code: Code) -> None:
    server = FakeServer()
    server.script = refuse_open(code, code.retry)
    rig = Rig(server, documents=("main", "other")).type("kept").start()
    assert str(rig.status) == f"blocked ({code})"
    assert (rig.text, rig.document.pending) == ("kept", 1)
    assert rig.device.document("other").status().state is State.CURRENT


def test_an_open_that_is_refused_for_now_is_tried_again() -> None:
    server = FakeServer()
    server.script = refuse_open("overloaded", "later", 3000)
    rig = Rig(server).start()
    assert (rig.status.state, rig.device.status.state) == (State.OFFLINE, State.CURRENT)
    rig.wait().settle()
    assert rig.now >= 3
    assert (rig.status.state, rig.device.status.state) == (State.CURRENT, State.CURRENT)


def test_a_state_vector_that_is_refused_is_left_out() -> None:
    server = FakeServer()
    server.script = refuse_open("bad_state", "after_resync")
    rig = Rig(server).type("a").start()
    assert isinstance(opened := rig.sent[1], Open)
    assert opened.state_vector == EMPTY_STATE_VECTOR
    assert (rig.text, rig.status.state) == ("a", State.CURRENT)
    assert server.room("main").replica.values() == {"body": "a"}


def test_after_reset_required_the_servers_state_counts_once_the_app_agrees() -> None:
    server = FakeServer()
    rig = Rig(server).start().type("old").settle().lose().type("pending")
    Rig(server, "laptop", seed=2).start().type("!").settle()
    server.script = refuse_open("reset_required", "never")
    rig.wait().settle()
    assert str(rig.status) == "blocked (reset_required)"
    assert rig.document.pending == 1
    rig.feed(events.Unblocked("main"))
    rig.settle()
    assert (rig.text, rig.status.state) == ("old!", State.CURRENT)
    assert len(rig.document.aside) == 1
    assert isinstance(rig.sent[-1], Open)
    assert rig.sent[-1].cursor is None


@pytest.mark.parametrize("retry", ["later", "never", "after_resync"])
def test_a_resync_that_is_refused(retry: str) -> None:
    server = FakeServer()
    rig = Rig(server).start()
    refused: list[int] = []

    def script(session: Session, frame: DeviceFrame) -> bool:
        if isinstance(frame, Resync) and not refused:
            refused.append(1)
            session.send(Error(None, frame.handle, "bad_state", "", retry))
            return True
        return False

    server.script = script
    Rig(server, "laptop", seed=2).start().type("a").settle().type("b").settle()
    assert rig.session is not None
    rig.session.outgoing.popleft()
    rig.settle()
    if retry == "never":
        assert str(rig.status) == "blocked (bad_state)"
        return
    if retry == "later":
        rig.wait().settle()
    assert (rig.text, rig.status.state) == ("ab", State.CURRENT)


@pytest.mark.parametrize("code", [*Code, "of_a_later_version"])
@pytest.mark.parametrize("about", ["push", "open", "document", "ref0"])
@pytest.mark.parametrize("retry", ["never", "now", "later", "after_auth", "after_resync"])
def test_no_error_loses_pending_work_or_touches_another_document(code: str, about: str, retry: str) -> None:
    server = FakeServer()
    rig = Rig(server, documents=("main", "other")).start()
    rig.type("kept")
    rig.up.clear()
    ref = {"ref0": SERVER_REF, "open": 99}.get(about)
    handle = None if about == "open" else 1
    detail = {"op": 1, "sv": EMPTY_STATE_VECTOR} if about == "push" else None
    assert rig.session is not None
    rig.session.send(Error(ref, handle, code, "", retry, None, detail))
    rig.settle()
    if code == Code.DEVICE_FORKED:
        rig.wait().settle()
    assert rig.document.pending + len(rig.document.aside) == 1 or server.room("main").replica.values()
    assert rig.device.document("other").status().state is State.CURRENT


@pytest.mark.parametrize("code", [Code.FORBIDDEN, Code.DOC_QUARANTINED, Code.RESET_REQUIRED])
def test_a_grant_that_ends_while_chunks_come_can_be_asked_for_again(code: Code) -> None:
    server = FakeServer()
    Rig(server, "tablet").start().type("from another device").settle()
    server.chunk_bytes = 4
    rig = Rig(server).begin()
    while rig.document.phase is not Phase.RECEIVING:
        assert rig.deliver_up() or rig.deliver_down()
    assert rig.session is not None
    rig.session.outgoing.clear()
    rig.session.send(Error(None, 1, code, "", Retry.AFTER_RESYNC))
    rig.deliver_down()
    assert len(rig.frames(Open)) == 1
    assert rig.settle().text == "from another device"


def refuse_always(code: str, retry: Retry, **detail: object) -> Script:
    def script(session: Session, frame: DeviceFrame) -> bool:
        if isinstance(frame, Push):
            session.send(Error(None, frame.handle, code, "", retry, None, {"op": frame.first_op, **detail}))
        return isinstance(frame, Push)

    return script


def far_ahead(session: Session, frame: DeviceFrame) -> bool:
    """What the server answers is soon followed by what can only be of much later."""
    session.serve(frame)
    if isinstance(frame, Hello | Open | Resync):
        session.send(Delta(1, 1_000_000, (EMPTY_UPDATE,)))
    return True


def forbid_always(session: Session, frame: DeviceFrame) -> bool:
    session.serve(frame)
    if isinstance(frame, Hello | Open):
        session.send(Error(None, 1, Code.FORBIDDEN, "", Retry.AFTER_RESYNC))
    return True


ENDLESS = {
    "op_gap": refuse_always(Code.OP_GAP, Retry.NEVER, expected=1),
    "op_gap of another op": refuse_always(Code.OP_GAP, Retry.NEVER, expected=7),
    "missing_deps": refuse_always(Code.MISSING_DEPS, Retry.NOW, sv=EMPTY_STATE_VECTOR),
    "what helps after a resync": refuse_always("unheard_of", Retry.AFTER_RESYNC),
    "updates far ahead": far_ahead,
    "a grant that comes and goes": forbid_always,
}


@pytest.mark.parametrize("answers", ENDLESS)
def test_a_server_whose_answers_lead_nowhere_is_asked_less_and_less(answers: str) -> None:
    server = FakeServer()
    server.script = ENDLESS[answers]
    rig = Rig(server, documents=("main", "other")).type("a").begin()
    while rig.now < 60:
        for _ in range(1000):
            if not (rig.deliver_up() or rig.deliver_down()):
                break
        else:
            pytest.fail("it never rests")
        rig.wait()
    assert len(rig.sent) < 300
    assert rig.text == "a"
    assert rig.device.document("other").status().state is State.CURRENT  # which minds no more than ever
    server.script = None
    while rig.document.pending or rig.status.state is not State.CURRENT:
        rig.settle().wait()
    assert server.room("main").replica.values() == {"body": "a"}
