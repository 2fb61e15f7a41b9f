"""Who may do what, and for how long."""

from __future__ import annotations

import pytest

from crdt.limits import Limits
from crdt.protocol import frames
from crdt.protocol.codec import encode
from crdt.protocol.codes import Code
from crdt.protocol.frames import Access, Ack, Delta, Error, Expiring, Open, Opened, Pong, Welcome
from crdt.update import EMPTY_STATE_VECTOR
from server.core import events
from server.core.reports import INTERVAL_S, DeviceReport
from tests.unit.server.core.lab import MAIN, WALL_S, Lab, Writer, token

BOB = {"alice/main": "rw"}


def errors(lab: Lab, session: int) -> list[tuple[str, object]]:
    """Codes of what was refused, with the op it was about."""
    found = [frame for frame in lab.received(session) if isinstance(frame, Error)]
    return [(error.code, (error.detail or {}).get("op")) for error in found]


# --- greeting


def test_welcome_says_whose_names_are_short_and_which_limits_differ() -> None:
    lab = Lab(limits=Limits(presence_bytes=7))
    welcome = lab.take(lab.hello(ttl_s=100), Welcome)
    assert (welcome.user, welcome.limits) == ("alice", {"presence_bytes": 7})
    assert welcome.token_expires_ms == (WALL_S + 100) * 1000


def test_a_session_without_hello_ends_after_a_while() -> None:
    lab = Lab()
    silent, greeted = lab.connect(), lab.hello()
    lab.advance(9.9)
    assert lab.closed == {}
    lab.advance(0.2)
    assert lab.closed == {silent: (4401, Code.AUTH_TIMEOUT)}
    assert greeted not in lab.closed


@pytest.mark.parametrize("frame", [frames.Ping(1), Open(1, "main"), frames.Push(1, 1, (b"\x00\x00",))])
def test_nothing_comes_before_hello(frame: frames.DeviceFrame) -> None:
    lab = Lab()
    session = lab.connect()
    lab.send(session, frame)
    assert lab.closed == {session: (4400, Code.BAD_FRAME)}


def test_hello_comes_once() -> None:
    lab = Lab()
    session = lab.hello()
    lab.send(session, frames.Hello(1, token("alice", "phone"), "phone", "test", {}, ()))
    assert lab.closed == {session: (4400, Code.BAD_FRAME)}


@pytest.mark.parametrize(
    ("hello", "code", "close"),
    [
        (frames.Hello(2, token("alice", "phone"), "phone", "test", {}, ()), Code.UNSUPPORTED_VERSION, 4406),
        (frames.Hello(1, token("alice", "phone"), "tablet", "test", {}, ()), Code.BAD_TOKEN, 4401),
        (frames.Hello(1, "nonsense", "phone", "test", {}, ()), Code.BAD_TOKEN, 4401),
        (frames.Hello(1, token("alice", "phone", ttl_s=0), "phone", "test", {}, ()), Code.TOKEN_EXPIRED, 4401),
    ],
)
def test_a_hello_that_is_not_accepted_ends_the_session(hello: frames.Hello, code: Code, close: int) -> None:
    lab = Lab()
    session = lab.connect()
    lab.send(session, hello)
    lab.send(session, frames.Ping(1))
    assert errors(lab, session) == [(code, None)]
    assert lab.closed == {session: (close, code)}


def test_a_token_of_the_http_header_will_do() -> None:
    lab = Lab()
    lab.inbox[1] = []
    lab.feed(events.SocketOpened(1, bearer=token("alice", "phone")))
    lab.send(1, frames.Hello(1, "", "phone", "test", {}, ()))
    assert lab.take(1, Welcome).user == "alice"


def test_frames_of_later_versions_are_ignored_and_pings_answered() -> None:
    lab = Lab()
    session = lab.hello()
    lab.received(session)
    lab.feed(events.MessagesReceived(session, [b"\x92\x40\x01"]))
    lab.send(session, frames.Ping(9))
    assert lab.received(session) == [Pong(9, int(WALL_S * 1000))]


def test_reports_go_to_the_meter_and_not_too_often() -> None:
    lab = Lab()
    session = lab.hello()
    lab.send(session, frames.Report({"retries": 3, "age": 1.5, "platform": "ios"}))
    lab.send(session, frames.Report({"retries": 4}))
    assert lab.meter.of("reported") == [(DeviceReport("ios", "other", {"retries": 3.0}),)]
    lab.now += INTERVAL_S
    lab.send(session, frames.Report({"retries": 5}))
    assert len(lab.meter.of("reported")) == 2


@pytest.mark.parametrize(
    ("asked", "granted"),
    [(None, 30), (90, 90), (10, 30), (10**15, 1000), (-5, 30), (True, 30), (90.5, 30), ("x", 30)],
)
def test_a_device_may_ask_for_a_longer_heartbeat(asked: object, granted: int) -> None:
    lab = Lab()
    options = {} if asked is None else {"quiet_s": asked}
    welcome = lab.take(lab.hello(options=options), Welcome)
    assert welcome.heartbeat_ms == granted * 1000


# --- which documents


@pytest.mark.parametrize("name", ["", "a b", "bob/main", "bob/", "alice/x/y", "x" * 129])
def test_what_is_no_name_or_not_granted_is_forbidden(name: str) -> None:
    lab = Lab()
    session = lab.hello("alice", "phone", Open(7, name))
    lab.settle()
    error = lab.take(session, Error)
    assert (error.ref, error.code) == (7, Code.FORBIDDEN)
    assert lab.hub.levels().rooms == 0


def test_two_names_of_one_document_are_one_handle() -> None:
    lab = Lab()
    session = lab.hello("alice", "phone", Open(1, "main", None, b"\x00"), Open(2, "alice/main", None, b"\x00"))
    lab.settle()
    assert lab.take(session, Opened).handle == lab.take(session, Opened).handle


def test_documents_beyond_the_limit_are_refused_and_take_no_memory() -> None:
    lab = Lab(limits=Limits(documents_per_session=2))
    opens = [Open(ref, f"d{ref}", None, b"\x00") for ref in range(1, 5)]
    session = lab.hello("alice", "phone", *opens)
    lab.settle()
    received = lab.received(session)
    assert [frame.ref for frame in received if isinstance(frame, Error)] == [3, 4]
    assert lab.hub.levels().rooms == 2
    lab.send(session, Open(5, "d1", None, b"\x00"))
    lab.settle()
    assert lab.take(session, Opened).ref == 5


def test_a_closed_handle_is_forbidden_and_harmless() -> None:
    lab = Lab()
    session, handle = lab.join()
    lab.send(session, frames.Leave(handle))
    lab.send(session, frames.Leave(handle))
    lab.push(session, handle, 1, b"\x00\x00")
    lab.send(session, frames.Resync(handle, None, EMPTY_STATE_VECTOR))
    lab.send(session, frames.Audit(handle, 0, bytes(16)))
    lab.send(session, frames.Presence(handle, b"x"))
    assert errors(lab, session) == [(Code.FORBIDDEN, 1), (Code.FORBIDDEN, None), (Code.FORBIDDEN, None)]
    assert lab.closed == {}


def test_a_session_that_offends_for_the_third_time_within_hello_gets_nothing_more() -> None:
    lab = Lab()
    lab.join(device="laptop")
    bad = [Open(ref, "main", None, b"\xff") for ref in (1, 2, 3)]
    session = lab.hello("alice", "phone", *bad, Open(4, "main", None, b"\x00"))
    lab.settle()
    assert lab.closed == {session: (4400, Code.BAD_STATE)}


# --- read-only


def test_pushes_without_write_access_are_refused() -> None:
    lab = Lab()
    lab.join()
    session, handle = lab.join("bob", "phone", "alice/main", docs={"alice/main": "r"})
    lab.push(session, handle, 1, Writer(1).type("a"))
    lab.push(session, handle, 2, Writer(2).type("b"))
    lab.settle()
    assert errors(lab, session) == [(Code.FORBIDDEN, 1), (Code.FORBIDDEN, 2)]
    assert lab.durable() == []


def test_a_device_that_may_only_read_gets_what_others_write() -> None:
    lab = Lab()
    phone, handle = lab.join()
    reader, _ = lab.join("bob", "phone", "alice/main", docs={"alice/main": "r"})
    lab.push(phone, handle, 1, Writer(1).type("a"))
    lab.settle()
    assert lab.take(reader, Delta).seq == 1


# --- other tokens


def test_auth_that_takes_a_grant_away_takes_the_document_away() -> None:
    lab = Lab()
    phone, handle = lab.join()
    bob, _ = lab.join("bob", "phone", "alice/main", docs=BOB)
    lab.push(bob, handle, 1, Writer(1).type("a"))
    lab.send(bob, frames.Auth(token("bob", "phone")))
    error = lab.take(bob, Error)
    assert (error.code, error.handle, error.detail) == (Code.FORBIDDEN, handle, None)
    lab.push(phone, handle, 1, Writer(2).type("b"))
    lab.settle()
    assert lab.received(bob) == []
    assert [entry.device.user for entry in lab.durable()] == ["alice"]
    assert lab.closed == {}


@pytest.mark.parametrize("loaded", [True, False])
def test_auth_to_read_only_refuses_what_is_queued_with_its_first_op(loaded: bool) -> None:
    lab = Lab()
    bob, handle = lab.join("bob", "phone", "alice/main", docs=BOB)
    writer = Writer(1)
    if not loaded:
        lab.start()
        bob = lab.hello("bob", "phone", Open(1, "alice/main", None, b"\x00"), docs=BOB)
    lab.push(bob, handle, 1, writer.type("a"), writer.type("b"))
    lab.push(bob, handle, 3, writer.type("c"))
    lab.send(bob, frames.Auth(token("bob", "phone", docs={"alice/main": "r"})))
    lab.settle()
    assert errors(lab, bob) == [(Code.FORBIDDEN, 1)]
    assert lab.durable() == []
    lab.send(bob, frames.Auth(token("bob", "phone", docs=BOB)))
    lab.push(bob, handle, 4, writer.type("d"))
    lab.settle()
    assert errors(lab, bob) == ([] if loaded else [(Code.OP_GAP, 4)])


def test_ops_in_flight_when_the_grant_goes_are_acknowledged() -> None:
    lab = Lab()
    bob, handle = lab.join("bob", "phone", "alice/main", docs=BOB)
    writer = Writer(1)
    lab.push(bob, handle, 1, writer.type("a"))
    lab.turn()
    lab.push(bob, handle, 2, writer.type("b"))
    lab.send(bob, frames.Auth(token("bob", "phone", docs={"alice/main": "r"})))
    lab.settle()
    assert [type(frame) for frame in lab.received(bob)] == [Error, Ack]
    assert [entry.last_op for entry in lab.durable()] == [1]


def test_what_others_queued_stays_when_one_may_write_no_more() -> None:
    lab = Lab()
    phone, handle = lab.join()
    bob, _ = lab.join("bob", "phone", "alice/main", docs=BOB)
    mine, his = Writer(1), Writer(2)
    lab.push(phone, handle, 1, mine.type("a"))
    lab.push(bob, handle, 1, his.type("b"))
    mine.replica.apply([his.replica.state()])
    leaning = mine.type("c", "u")
    lab.push(phone, handle, 2, leaning)
    lab.send(bob, frames.Auth(token("bob", "phone", docs={"alice/main": "r"})))
    lab.settle()
    assert [(entry.device.user, entry.last_op) for entry in lab.durable()] == [("alice", 2)]


def test_ops_in_flight_are_still_known_when_anothers_queue_is_dropped() -> None:
    lab = Lab()
    phone, handle = lab.join()
    bob, _ = lab.join("bob", "phone", "alice/main", docs=BOB)
    writer = Writer(1)
    updates = [writer.type("a"), writer.type("b")]
    lab.push(phone, handle, 1, updates[0])
    lab.turn()
    lab.push(bob, handle, 1, Writer(2).type("c"))
    lab.send(bob, frames.Auth(token("bob", "phone", docs={"alice/main": "r"})))
    lab.push(phone, handle, 1, *updates)
    lab.settle()
    assert [(entry.first_op, entry.last_op) for entry in lab.durable()] == [(1, 1), (2, 2)]
    assert errors(lab, phone) == []


def test_an_open_that_waits_tells_the_access_of_the_newest_token() -> None:
    lab = Lab()
    bob = lab.hello("bob", "phone", Open(1, "alice/main", None, b"\x00"), docs=BOB)
    lab.send(bob, frames.Auth(token("bob", "phone", docs={"alice/main": "r"})))
    lab.settle()
    assert lab.take(bob, Opened).access is Access.READ


@pytest.mark.parametrize("other", [("bob", "phone"), ("alice", "tablet")])
def test_auth_for_somebody_else_ends_the_session(other: tuple[str, str]) -> None:
    lab = Lab()
    session = lab.hello()
    lab.send(session, frames.Auth(token(*other)))
    assert lab.closed == {session: (4401, Code.BAD_TOKEN)}


# --- the end of a token


def test_a_token_is_warned_of_once_and_then_ends_the_session() -> None:
    lab = Lab(expiry_warning_s=60.0)
    session, _ = lab.join(ttl_s=100.0)
    lab.advance(39.0)
    assert lab.received(session) == []
    lab.advance(2.0)
    lab.advance(10.0)
    assert lab.received(session) == [Expiring(59)]
    lab.advance(48.9)
    assert lab.closed == {}
    lab.advance(0.2)
    assert errors(lab, session) == [(Code.TOKEN_EXPIRED, None)]
    assert lab.closed == {session: (4401, Code.TOKEN_EXPIRED)}


def test_a_token_with_little_left_is_warned_of_at_once() -> None:
    lab = Lab(expiry_warning_s=60.0)
    session = lab.hello(ttl_s=20.0)
    lab.turn()
    assert lab.received(session) == [Expiring(20)]


def test_auth_extends_the_session_and_is_warned_of_anew() -> None:
    lab = Lab(expiry_warning_s=60.0)
    session, _ = lab.join(ttl_s=100.0)
    lab.advance(50.0)
    lab.send(session, frames.Auth(token("alice", "phone", ttl_s=300.0)))
    lab.advance(100.0)
    assert lab.closed == {}
    assert lab.received(session) == [Expiring(50)]
    lab.advance(100.0)
    assert lab.received(session) == [Expiring(50)]
    lab.advance(51.0)
    assert session in lab.closed


def test_auth_with_a_shorter_token_ends_the_session_sooner() -> None:
    lab = Lab()
    session, _ = lab.join(ttl_s=1000.0)
    lab.send(session, frames.Auth(token("alice", "phone", ttl_s=30.0)))
    lab.advance(31.0)
    assert session in lab.closed


def test_a_token_with_time_left_asks_for_no_look_before_its_warning() -> None:
    lab = Lab(expiry_warning_s=60.0)
    lab.turn()
    lab.hello(ttl_s=100.0)
    deadline = lab.hub.next_deadline()
    assert deadline is not None
    assert deadline > lab.now, "greeting a device takes no turn of its own"


def test_the_same_token_again_and_again_is_warned_of_once() -> None:
    lab = Lab(expiry_warning_s=60.0)
    session, _ = lab.join(ttl_s=100.0)
    for _ in range(20):
        lab.send(session, frames.Auth(token("alice", "phone", ttl_s=100.0)))
        lab.advance(4.0)
    assert lab.received(session) == [Expiring(60)]


@pytest.mark.parametrize("set_back_s", [0.002, 0.5, 30.0])
def test_a_wall_clock_that_is_set_back_only_puts_the_end_off(set_back_s: float) -> None:
    lab = Lab(expiry_warning_s=10.0)
    session, _ = lab.join(ttl_s=100.0)
    lab.read_clock(WALL_S - set_back_s)
    lab.advance(95.0)
    lab.advance(5.0)
    assert lab.closed == {}
    for _ in range(4):
        lab.advance(set_back_s / 4 + 0.01)
    assert lab.closed == {session: (4401, Code.TOKEN_EXPIRED)}
    assert [type(frame) for frame in lab.received(session)] == [Expiring, Error]


def test_a_wall_clock_that_is_set_forward_ends_tokens_at_once() -> None:
    lab = Lab()
    session, _ = lab.join(ttl_s=100.0)
    lab.read_clock(WALL_S + 200.0)
    lab.turn()
    assert session in lab.closed


def test_what_was_queued_when_the_token_ended_is_not_committed() -> None:
    lab = Lab()
    phone, handle = lab.join(ttl_s=100.0)
    laptop, _ = lab.join(device="laptop")
    writer = Writer(1)
    lab.push(phone, handle, 1, writer.type("a"))
    lab.turn()
    lab.push(phone, handle, 2, writer.type("b"))
    lab.push(laptop, handle, 1, Writer(2).type("c"))
    lab.now += 100.0
    lab.settle()
    assert phone in lab.closed
    assert [(entry.device.name, entry.last_op) for entry in lab.durable()] == [("phone", 1), ("laptop", 1)]


# --- one session a device


def test_the_newer_session_of_a_device_counts() -> None:
    lab = Lab()
    old, handle = lab.join()
    laptop, _ = lab.join(device="laptop")
    new, _ = lab.join()
    assert lab.closed == {old: (4409, Code.SUPERSEDED)}
    lab.received(old)
    lab.push(old, handle, 1, Writer(1).type("ignored"))
    lab.push(laptop, handle, 1, Writer(2).type("a"))
    lab.settle()
    lab.disconnect(old)
    lab.push(laptop, handle, 2, Writer(3).type("b"))
    lab.settle()
    assert lab.received(old) == []
    assert [type(frame) for frame in lab.received(new)] == [Delta, Delta]
    assert [entry.device.name for entry in lab.durable(MAIN)] == ["laptop", "laptop"]
    assert lab.hub.levels().sessions == 2


def test_devices_of_different_users_are_different_devices() -> None:
    lab = Lab()
    lab.join("alice", "phone")
    lab.join("bob", "phone", "alice/main", docs=BOB)
    assert lab.closed == {}


def test_nonsense_closes_its_own_session_only() -> None:
    lab = Lab()
    good, bad = lab.hello(device="laptop"), lab.hello()
    lab.feed(events.MessagesReceived(bad, [b"\xc1"]))
    lab.feed(events.MessagesReceived(bad, [encode(frames.Ping(1))]))
    assert lab.closed == {bad: (4400, Code.BAD_FRAME)}
    lab.send(good, frames.Ping(1))
    assert isinstance(lab.received(good)[-1], Pong)
