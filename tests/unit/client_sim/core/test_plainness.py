"""What a device tells of what is wrong, and what it does not let a server do to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from client_sim.core import events
from client_sim.core.backoff import CAP_S
from client_sim.core.context import EditUnderWay
from client_sim.core.driving import drive
from client_sim.core.effects import CloseConnection, Effect, Problem, StatusChanged
from client_sim.core.ports import StoreError
from client_sim.core.roots import Roots
from client_sim.core.status import State, Status
from client_sim.store import MemoryStore
from crdt.protocol.codes import Code
from crdt.protocol.frames import PROTOCOL_VERSION, Error, GoAway, Open, ServerFrame, Welcome
from tests.unit.client_sim.fake_server import FakeServer
from tests.unit.client_sim.rig import Rig

HUGE_MS = 10**15


# --- one rule for all drivers


def test_what_a_device_asks_for_is_done_also_where_it_raises() -> None:
    rig = Rig(FakeServer()).start()
    rig.store.damage(lambda remains: remains)
    done: list[Effect] = []
    with pytest.raises(StoreError):
        drive(rig.device, events.Edited("main", append), rig.now, done.append)
    kinds = [type(effect) for effect in done]
    assert Problem in kinds
    assert CloseConnection in kinds
    assert rig.device.take_effects() == []


# --- inside of an edit


def append(roots: Roots) -> None:
    roots.text("body").append("x")


WITHIN: dict[str, Callable[[Rig], object]] = {
    "an edit of the same": lambda rig: rig.edit(append),
    "an edit of another": lambda rig: rig.edit(append, "other"),
    "a read": lambda rig: rig.document.values(),
    "its version": lambda rig: rig.document.replica.state_vector(),
    "a close": lambda rig: rig.feed(events.CloseRequested("main")),
    "time": lambda rig: rig.feed(events.TimePassed()),
}


@pytest.mark.parametrize("within", WITHIN)
def test_inside_of_an_edit_there_are_its_roots_alone(within: str) -> None:
    rig = Rig(FakeServer(), documents=("main", "other")).start()

    def change(roots: Roots) -> None:
        append(roots)
        WITHIN[within](rig)

    with pytest.raises(EditUnderWay, match="an edit of main is under way"):
        rig.edit(change)
    assert rig.type("a").settle().text == "a"
    assert not rig.document.pending


def test_inside_of_an_edit_other_documents_and_how_it_stands_can_be_read() -> None:
    rig = Rig(FakeServer(), documents=("main", "other")).start().type("there", "other").settle()
    before = rig.device.status
    read: list[object] = []

    def change(roots: Roots) -> None:
        append(roots)
        read.extend((rig.device.document("other").values(), rig.device.status, rig.document.pending))

    rig.edit(change).settle()
    assert read == [{"body": "there"}, before, 0]
    assert rig.text == "x"


# --- what servers ask for and say


@pytest.mark.parametrize(
    "frame", [GoAway("shutting_down", HUGE_MS), Error(None, None, Code.OVERLOADED, "", "later", HUGE_MS)]
)
def test_no_server_sends_a_device_away_for_good(frame: ServerFrame) -> None:
    rig = Rig(FakeServer()).start()
    assert rig.session is not None
    rig.session.send(frame)
    rig.session.close(1012, "shutting_down")
    rig.settle().wait()
    assert CAP_S <= rig.now <= CAP_S + 0.5
    assert rig.settle().device.status.state is State.CURRENT


def test_nor_does_it_keep_an_edit_from_being_sent_for_good() -> None:
    server = FakeServer()
    rig = Rig(server).start().type("a")
    assert rig.deliver_up()
    assert rig.session is not None
    rig.session.outgoing.clear()
    rig.session.send(Error(None, 1, Code.RATE_LIMITED, "", "later", HUGE_MS, {"op": 1}))
    rig.deliver_down()
    assert rig.document.retry_at is not None
    assert rig.document.retry_at - rig.now <= 2 * CAP_S


@pytest.mark.parametrize("value", ["10", None, True, 0, -1, 1.5, [], b""])
@pytest.mark.parametrize("limit", ["update_bytes", "message_bytes", "opens_per_hello", "documents_per_session"])
def test_a_limit_that_is_none_is_an_error_of_the_server(limit: str, value: Any) -> None:
    server = FakeServer()
    server.limits = {limit: value}
    rig = Rig(server).start()
    assert rig.device.user is None
    assert rig.told_of(CloseConnection) == [CloseConnection(4400, "bad_frame")]
    status = rig.device.status
    assert (status.state, status.reason) == (State.OFFLINE, "defect")
    assert f"as the limit {limit}" in str(status.detail)
    server.limits = {limit: 1000, "of_a_later_version": -1}
    assert rig.wait().settle().type("a").settle().device.status.state is State.CURRENT
    assert not rig.document.pending


def test_a_user_without_a_name_is_an_error_of_the_server() -> None:
    rig = Rig(FakeServer()).begin()
    assert rig.session is not None
    rig.session.send(Welcome(PROTOCOL_VERSION, "s", "al/ice", 1, {}, 30_000, 0))
    rig.deliver_down()
    assert rig.device.user is None
    assert rig.device.status.reason == "defect"
    assert "nobody's name" in str(rig.device.status.detail)


def test_what_the_server_says_of_a_token_is_told() -> None:
    rig = Rig(FakeServer()).begin()
    assert rig.session is not None
    rig.session.send(Error(None, None, Code.BAD_TOKEN, "the token is for another device", "after_auth"))
    rig.session.close(4401, "bad_token")
    while rig.deliver_down():
        pass
    rig.wait()
    assert rig.device.status == Status(State.BLOCKED, Code.BAD_TOKEN, "bad_token: the token is for another device")
    assert rig.start().device.status.state is State.CURRENT


# --- documents


def test_the_documents_of_a_device_that_is_offline_say_why() -> None:
    rig = Rig(FakeServer())
    rig.reachable = False
    rig.start()
    assert rig.device.document_status("main") == Status(State.OFFLINE, "unreachable")
    assert StatusChanged("main", Status(State.OFFLINE, "unreachable")) in rig.told
    rig.reachable = True
    rig.wait().settle()
    rig.feed(events.Suspended())
    assert rig.device.document_status("main") == Status(State.OFFLINE, "suspended")
    rig.begin().lose(4409, "superseded")
    assert rig.device.document_status("main") == Status(State.OFFLINE, "superseded")


def test_a_document_that_the_server_has_no_time_for_says_so() -> None:
    server = FakeServer()
    rig = Rig(server).begin()
    while not rig.frames(Open) and rig.deliver_up():
        pass
    rig.settle()
    rig.feed(events.OpenRequested("other"))
    rig.up.clear()
    (asked,) = rig.frames(Open)
    assert isinstance(asked, Open)
    assert rig.session is not None
    rig.session.send(Error(asked.ref, None, Code.OVERLOADED, "", "later", 1000))
    rig.settle()
    assert rig.device.document_status("other") == Status(State.OFFLINE, "come_back_later")
    assert rig.wait().settle().device.document_status("other") == Status(State.CURRENT)


def asked_for(rig: Rig) -> list[str]:
    """The documents that it sent an OPEN for, beside those in HELLO."""
    return [frame.doc for frame in rig.frames(Open) if isinstance(frame, Open)]


def test_a_document_too_many_waits_until_another_is_closed() -> None:
    names = tuple(f"d{n}" for n in range(5))
    server = FakeServer()
    server.limits = {"documents_per_session": 3}
    rig = Rig(server, documents=names[:3]).start()
    for name in names[3:]:
        rig.feed(events.OpenRequested(name))
        rig.type("waits", name)
    rig.settle()
    full = Status(State.BLOCKED, "too_many_open")
    assert [rig.device.document_status(name) for name in names[3:]] == [full, full]
    assert not set(asked_for(rig)) & set(names[3:])
    rig.feed(events.CloseRequested("d0"))
    rig.settle()
    assert [rig.device.document_status(name).state for name in names[3:]] == [State.CURRENT, State.BLOCKED]
    rig.lose().wait().settle()
    assert [rig.device.document_status(name).state for name in names[1:]].count(State.CURRENT) == 3
    rig.feed(events.CloseRequested("d1"))
    rig.settle()
    assert {rig.device.document_status(name).state for name in names[2:]} == {State.CURRENT}
    assert not any(rig.device.document(name).pending for name in names[2:])


def test_what_is_fetched_beforehand_waits_for_room_too() -> None:
    server = FakeServer()
    server.limits = {"documents_per_session": 2}
    rig = Rig(server, documents=("one", "two")).start()
    rig.feed(events.PrefetchRequested(("three", "four")))
    rig.settle()
    assert asked_for(rig) == []
    rig.feed(events.CloseRequested("one"))
    rig.settle()
    assert asked_for(rig) == ["three", "four"]
    assert not rig.told_of(Problem)


def test_what_was_being_fetched_when_the_connection_was_lost_waits_for_room_again() -> None:
    server = FakeServer()
    server.limits = {"documents_per_session": 2}
    rig = Rig(server, documents=("one",)).start()
    rig.feed(events.PrefetchRequested(("three",)))
    assert asked_for(rig) == ["three"]
    rig.lose()
    rig.feed(events.OpenRequested("two"))
    rig.wait().settle()
    assert [rig.device.document_status(name).state for name in ("one", "two")] == [State.CURRENT, State.CURRENT]
    assert asked_for(rig) == ["three"]
    rig.feed(events.CloseRequested("two"))
    rig.settle()
    assert asked_for(rig) == ["three", "three"]
    assert not rig.told_of(Problem)


def test_a_window_that_is_asked_for_within_another_leaves_its_bounds() -> None:
    rig = Rig(FakeServer(), store=MemoryStore())
    rig.reachable = False
    rig.feed(events.WindowOpened(10.0, 1000))
    rig.feed(events.WindowOpened(1000.0, 1000))
    while rig.now < 8.0:
        rig.wait()
    assert rig.device.status.reason == "suspended"
