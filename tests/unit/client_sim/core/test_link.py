"""The device's connection: tokens, backoff, keepalive, close codes."""

from __future__ import annotations

import pytest

from client_sim.core import events, greeting
from client_sim.core.device import Device
from client_sim.core.documents import NotOpen
from client_sim.core.effects import (
    CloseConnection,
    Connect,
    DataWiped,
    DocumentChanged,
    FetchToken,
    Problem,
    StatusChanged,
)
from client_sim.core.keepalive import ANSWER_S
from client_sim.core.ports import Identity, StoreError, StoreRefused
from client_sim.core.status import LINKS, PHASES, Link, Phase, State, Status, move
from client_sim.store import MemoryStore
from crdt.protocol.frames import Auth, DeviceFrame, Error, Expiring, GoAway, Hello, Leave, Ping, Pong, Presence, Push
from tests.unit.client_sim.fake_server import FakeServer, Session
from tests.unit.client_sim.rig import Rig


def test_statuses_are_told_once_and_in_order() -> None:
    rig = Rig(FakeServer()).start()
    told = [effect.status.state for effect in rig.told if isinstance(effect, StatusChanged) and effect.document is None]
    assert told == [State.OFFLINE, State.CONNECTING, State.SYNCING, State.CURRENT]


def test_a_lost_connection_comes_back_and_the_waits_grow() -> None:
    rig = Rig(FakeServer()).start()
    rig.reachable = False
    rig.lose()
    waits = []
    for _ in range(12):
        before = rig.now
        rig.wait()
        waits.append(rig.now - before)
    assert max(waits[:2]) <= 1.0
    assert max(waits) > 4
    assert max(waits) <= 60
    rig.reachable = True
    rig.wait().settle()
    assert rig.device.status.state is State.CURRENT
    assert rig.device.counters.connections == 2
    rig.lose()
    deadline = rig.device.next_deadline()
    assert deadline is not None
    assert deadline - rig.now <= 0.5


def test_a_network_that_is_back_ends_the_wait() -> None:
    rig = Rig(FakeServer()).start().lose()
    rig.feed(events.NetworkBack())
    assert rig.settle().device.status.state is State.CURRENT


def test_goaway_is_a_floor_for_the_next_try() -> None:
    rig = Rig(FakeServer()).start()
    assert rig.session is not None
    rig.session.send(GoAway("shutting_down", 20_000))
    rig.session.close(1012, "shutting_down")
    rig.settle().wait()
    assert 20 <= rig.now <= 20.5
    assert rig.settle().device.status.state is State.CURRENT


@pytest.mark.parametrize(("code", "close"), [("overloaded", 1013), ("rate_limited", 4429)])
def test_an_error_before_the_close_is_a_floor_too(code: str, close: int) -> None:
    rig = Rig(FakeServer()).start()
    assert rig.session is not None
    rig.session.send(Error(None, None, code, "", "later", 9000))
    rig.session.close(close, code)
    rig.settle().wait()
    assert 9 <= rig.now <= 9.5


def test_devices_that_are_told_the_same_do_not_come_back_at_once() -> None:
    times = set()
    for seed in range(20):
        rig = Rig(FakeServer(), seed=seed).begin()
        assert rig.session is not None
        rig.session.send(Error(None, None, "overloaded", "", "later", 9000))
        rig.session.close(1013, "overloaded")
        times.add(rig.settle().wait().now)
    assert len(times) == 20
    assert all(9 <= time <= 9.5 for time in times)


def test_a_network_that_is_back_does_not_overrule_the_server() -> None:
    rig = Rig(FakeServer()).begin()
    assert rig.session is not None
    rig.session.send(Error(None, None, "overloaded", "", "later", 9000))
    rig.session.close(1013, "overloaded")
    rig.settle().feed(events.NetworkBack())
    assert rig.device.link is Link.WAITING
    rig.start()  # the user does
    assert rig.device.status.state is State.CURRENT


def test_what_the_server_asked_for_is_over_once_it_is_over() -> None:
    rig = Rig(FakeServer()).start()
    assert rig.session is not None
    rig.session.send(Error(None, None, "rate_limited", "", "later", 7000))
    rig.settle()
    rig.now = 100
    rig.lose().wait()
    assert rig.now <= 100.5


@pytest.mark.parametrize("code", [1000, 1006, 1011, 1012, 1013, 4400, 4413, 4429, None])
def test_other_closes_are_only_waited_out(code: int | None) -> None:
    rig = Rig(FakeServer()).start().lose(code).type("a").wait().settle()
    assert rig.device.status.state is State.CURRENT
    assert rig.document.pending == 0


def test_after_4401_a_fresh_token_is_used() -> None:
    rig = Rig(FakeServer()).start().lose(4401, "token_expired")
    rig.token = "fresh"
    rig.wait().settle()
    hello = rig.frames(Hello)[-1]
    assert isinstance(hello, Hello)
    assert hello.token == "fresh"
    assert rig.device.status.state is State.CURRENT


def test_a_refused_token_that_is_all_there_is_blocks() -> None:
    rig = Rig(FakeServer()).start().lose(4401, "token_expired").type("kept").wait()
    assert rig.device.status == Status(State.BLOCKED, "expired_login")
    assert rig.text == "kept"
    assert rig.device.next_deadline() is None


def refuse_fresh_tokens(rig: Rig, code: str, times: int) -> None:
    """The server hears HELLO with another token each time, and refuses it."""
    for _ in range(times):
        rig.token = f"token {len(rig.told)}"
        if rig.session is None:
            rig.wait()
        assert rig.session is not None
        rig.session.send(Error(None, None, code, "the token is for another device", "after_auth"))
        rig.up.clear()
        rig.deliver_down()
        rig.lose(4401, code)


@pytest.mark.parametrize(("code", "reason"), [("bad_token", "bad_token"), ("token_expired", "expired_login")])
def test_fresh_tokens_that_are_refused_in_a_row_block(code: str, reason: str) -> None:
    rig = Rig(FakeServer()).begin()
    refuse_fresh_tokens(rig, code, 2)
    assert rig.device.status == Status(State.OFFLINE, reason, f"closed with 4401: {code}")
    refuse_fresh_tokens(rig, code, 1)
    assert rig.device.status == Status(State.BLOCKED, reason, f"{code}: the token is for another device")
    assert rig.device.next_deadline() is None


@pytest.mark.parametrize("again", [events.Started(), events.NetworkBack(), events.Unblocked("main")])
def test_tokens_that_were_refused_are_asked_for_again_when_the_app_does_something(again: events.Event) -> None:
    rig = Rig(FakeServer()).begin()
    refuse_fresh_tokens(rig, "bad_token", 3)
    rig.token = "a good one"
    rig.feed(again)
    assert rig.settle().device.status.state is State.CURRENT


def test_tokens_that_are_refused_once_now_and_then_do_not_block() -> None:
    rig = Rig(FakeServer()).start()
    for number in range(5):
        rig.token = f"token {number}"
        rig.lose(4401, "token_expired")
        assert rig.device.status.reason == "unreachable"  # it was good until then
        assert rig.wait().settle().device.status.state is State.CURRENT


def test_a_server_that_was_slow_to_hear_hello_never_blocks() -> None:
    rig = Rig(FakeServer()).begin()
    for _ in range(5):
        rig.lose(4401, "auth_timeout")
        assert rig.device.status.reason == "unreachable"
        rig.wait()
    assert rig.settle().device.status.state is State.CURRENT


def test_a_server_that_was_slow_to_hear_hello_may_hear_the_same_token_again() -> None:
    rig = Rig(FakeServer()).start().lose(4401, "auth_timeout").wait().settle()
    assert rig.device.status.state is State.CURRENT


@pytest.mark.parametrize("refused", [True, False])
def test_a_token_that_can_not_be_fetched(refused: bool) -> None:
    rig = Rig(FakeServer())
    rig.token = None
    rig.feed(events.Started())
    rig.feed(events.TokenFailed("phone", "no", refused=refused))
    if refused:
        assert rig.device.status == Status(State.BLOCKED, "expired_login", "no")
        rig.token = "new login"
        rig.start()
    else:
        rig.token = "now"
        rig.wait().settle()
    assert rig.device.status.state is State.CURRENT


def test_a_superseded_device_stays_away_until_the_app_asks() -> None:
    rig = Rig(FakeServer()).start().lose(4409, "superseded")
    assert rig.device.status == Status(State.BLOCKED, "superseded")
    assert rig.device.next_deadline() is None
    rig.feed(events.NetworkBack())
    assert rig.device.link is Link.STOPPED
    assert rig.start().device.status.state is State.CURRENT


def test_a_revoked_device_tells_the_app_and_wipes_its_data() -> None:
    rig = Rig(FakeServer()).start().type("secret").settle().type("pending")
    rig.feed(events.PresenceSet("main", b"secret"))
    assert rig.session is not None
    rig.up.clear()
    rig.session.send(Error(None, None, "device_revoked", "shut out", "never"))
    rig.session.close(4403, "device_revoked")
    rig.settle()
    blocked = Status(State.BLOCKED, "device_revoked")
    assert rig.device.status == blocked
    assert [effect for effect in rig.told[-5:] if not isinstance(effect, StatusChanged) or effect.document is None] == [
        Problem("device_revoked", "shut out"),
        StatusChanged(None, blocked),
        DocumentChanged("main", remote=True),
        DataWiped(),
    ]
    assert rig.store.documents() == []
    assert (rig.text, rig.document.pending, rig.document.presence.own) == ("", 0, None)
    assert (rig.device.user, rig.store.identity()) == (None, Identity("phone", None))
    assert rig.device.next_deadline() is None


def test_a_revoked_device_that_is_let_in_again_needs_a_token_and_begins_anew() -> None:
    server = FakeServer()
    rig = Rig(server).start().type("here").settle().lose(4403, "device_revoked")
    rig.token = "of the new login"
    rig.start()
    hello = rig.frames(Hello)[-1]
    assert isinstance(hello, Hello)
    assert hello.token == "of the new login"
    assert (rig.text, rig.device.status.state) == ("here", State.CURRENT)


def test_a_revoked_device_forgets_that_a_document_was_blocked() -> None:
    rig = Rig(FakeServer()).start().settle()
    assert rig.session is not None
    rig.session.send(Error(None, 1, "forbidden", "no grant for that document", "never"))
    rig.settle()
    assert rig.status == Status(State.BLOCKED, "forbidden")
    rig.lose(4403, "device_revoked")
    assert rig.status == Status(State.OFFLINE)
    assert rig.start().status == Status(State.CURRENT)


def test_a_wipe_that_the_disk_refuses_is_tried_again_at_the_next_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(FakeServer()).start().type("secret").settle()

    def fail() -> None:
        raise StoreError("the disk is broken")

    monkeypatch.setattr(rig.store, "wipe", fail)
    rig.lose(4403, "device_revoked")
    monkeypatch.undo()
    assert rig.device.status == Status(State.BLOCKED, "device_revoked")
    assert not rig.told_of(DataWiped)
    rig.begin().lose(4403, "device_revoked")
    assert rig.store.documents() == []


def test_a_token_is_refreshed_before_its_end() -> None:
    server = FakeServer()
    server.token_expires_ms = 600_000
    server.heartbeat_ms = 0
    rig = Rig(server).start()
    rig.token = "second"
    assert rig.device.next_deadline() == 540
    rig.wait()
    assert rig.sent[-1] == Auth("second")


def test_expiring_asks_for_a_token_at_once_and_once() -> None:
    rig = Rig(FakeServer()).start()
    rig.now = 3570
    rig.token = None
    assert rig.session is not None
    rig.session.send(Expiring(30))
    rig.session.send(Expiring(20))
    rig.settle()
    rig.feed(events.TokenFailed("phone", "no network", refused=False))
    rig.token = "late"
    rig.wait()
    assert rig.sent[-1] == Auth("late")
    assert rig.device.status.state is State.CURRENT


def test_short_lived_tokens_are_not_fetched_over_and_over() -> None:
    """Of such a token the server says at once that it expires."""
    server = FakeServer()
    server.heartbeat_ms = 0
    rig = Rig(server).start()
    for n in range(1, 4):
        assert rig.session is not None
        rig.session.send(Expiring(20))
        rig.settle()
        assert len(rig.frames(Auth)) == n - 1
        assert rig.device.next_deadline() == n * 16
        rig.wait()
        assert len(rig.frames(Auth)) == n


@pytest.mark.parametrize(
    "complaint", [Expiring(0), Error(None, None, "token_expired", "", "after_auth")], ids=["expiring", "refused"]
)
def test_a_server_that_likes_no_token_is_sent_less_and_less_of_them(complaint: Expiring | Error) -> None:
    server = FakeServer()

    def script(session: Session, frame: DeviceFrame) -> bool:
        session.serve(frame)
        if isinstance(frame, Hello | Auth):
            session.send(complaint)
        return True

    server.script = script
    rig = Rig(server).begin()
    while rig.now < 120:
        for _ in range(100):
            if not (rig.deliver_up() or rig.deliver_down()):
                break
        else:
            pytest.fail("it never rests")
        rig.wait()
    assert 5 < len(rig.frames(Auth)) < 40
    assert rig.device.status.state is State.CURRENT


def test_a_silent_connection_is_given_up_when_its_ping_is_not_answered() -> None:
    rig = Rig(FakeServer()).start().wait()
    assert isinstance(rig.sent[-1], Ping)
    assert rig.now == 25
    rig.wait()
    assert rig.now == 25 + ANSWER_S
    assert rig.told_of(CloseConnection)
    assert rig.device.link is Link.WAITING


def test_any_message_shows_that_a_connection_lives() -> None:
    rig = Rig(FakeServer()).start().wait()
    assert rig.session is not None
    rig.up.clear()  # the PING is lost
    rig.session.send(Pong(9, 0))
    rig.settle().wait()
    assert rig.now == 50
    assert rig.device.status.state is State.CURRENT


def test_after_goaway_nothing_more_is_pushed() -> None:
    server = FakeServer()
    rig = Rig(server).start()
    assert rig.session is not None
    rig.session.send(GoAway("shutting_down", 100))
    rig.settle().type("a").settle()
    assert not rig.frames(Push)
    rig.lose(1012, "shutting_down").wait().settle()
    assert rig.document.pending == 0


def test_what_went_wrong_is_told_until_it_goes_well() -> None:
    rig = Rig(FakeServer()).start().lose(None, "the cable")
    assert str(rig.device.status) == "offline (unreachable: connection lost: the cable)"
    rig.reachable = False
    assert str(rig.wait().device.status) == "offline (unreachable: no connection)"
    rig.reachable = True
    assert str(rig.wait().settle().device.status) == "current"
    assert str(rig.lose(1013, "overloaded").device.status) == "offline (come_back_later: closed with 1013: overloaded)"
    rig.feed(events.Stopped())
    assert str(rig.device.status) == "offline"


def test_a_token_that_does_not_come_is_a_reason_as_well() -> None:
    rig = Rig(FakeServer())
    rig.token = None
    rig.begin().feed(events.TokenFailed("phone", "no route", refused=False))
    assert str(rig.device.status) == "offline (no_token: no route)"


@pytest.mark.parametrize("code", [4400, 4413, 1009])
def test_a_defect_is_not_repeated_in_haste(code: int) -> None:
    rig = Rig(FakeServer()).start().lose(code).wait()
    assert rig.now >= 30


@pytest.mark.parametrize("code", [4413, 1009])
def test_a_hello_that_is_too_large_for_a_server_is_sent_again_without_documents(code: int) -> None:
    """What it takes is known from its WELCOME; the documents are opened after that."""
    rig = Rig(FakeServer()).begin().lose(code).wait()
    assert rig.now < 10
    first, second = rig.frames(Hello)[:2]
    assert [len(hello.opens) for hello in (first, second) if isinstance(hello, Hello)] == [1, 0]
    assert rig.settle().device.status.state is State.CURRENT


def test_a_server_that_does_not_answer_hello_is_given_up() -> None:
    rig = Rig(FakeServer()).begin().wait()
    assert rig.now == 15
    assert rig.device.link is Link.WAITING


@pytest.mark.parametrize("message", [b"", b"\x91", b"\xc1", b"\x92\x23\x01", bytes([0x91, 50])])
def test_what_is_not_the_protocol_closes_the_connection(message: bytes) -> None:
    rig = Rig(FakeServer()).start()
    rig.feed(events.MessageReceived(message))
    assert rig.told_of(CloseConnection) == [CloseConnection(4400, "bad_frame")]
    assert rig.wait().settle().device.status.state is State.CURRENT


def test_unknown_optional_frames_and_handles_are_ignored() -> None:
    rig = Rig(FakeServer()).start()
    rig.feed(events.MessageReceived(bytes([0x92, 64, 1])))
    rig.feed(events.MessageReceived(bytes([0x94, 37, 9, 0xA1, 0x61, 0xC0])))
    assert rig.device.status.state is State.CURRENT


def test_a_store_is_one_devices_and_one_users() -> None:
    store = MemoryStore()
    rig = Rig(FakeServer(), store=store).start().type("alice's").settle()
    with pytest.raises(StoreRefused):
        Device("laptop", store, rig.rng)
    other = Rig(FakeServer(), store=store.restarted(), user="bob").start()
    assert other.device.status == Status(State.BLOCKED, "other_user")
    assert other.text == "alice's"


def test_more_documents_than_hello_takes_open_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(greeting, "STATE_VECTOR_BYTES", 0)
    names = tuple(f"d{index}" for index in range(5))
    rig = Rig(FakeServer(), documents=names).start()
    hello = rig.sent[0]
    assert isinstance(hello, Hello)
    assert len(hello.opens) == 1
    assert rig.device.status.state is State.CURRENT
    assert all(rig.device.document(name).status().state is State.CURRENT for name in names)


def test_documents_open_and_close_on_a_live_connection() -> None:
    rig = Rig(FakeServer()).start()
    rig.feed(events.OpenRequested("later"))
    assert rig.settle().device.document("later").status().state is State.CURRENT
    rig.feed(events.CloseRequested("later"))
    assert isinstance(rig.sent[-1], Leave)
    rig.settle()
    with pytest.raises(NotOpen):
        rig.device.document("later")


def test_a_document_has_one_name() -> None:
    rig = Rig(FakeServer()).start()
    assert rig.device.document("alice/main") is rig.document
    with pytest.raises(ValueError, match="not a document"):
        rig.feed(events.OpenRequested("no name"))


def test_a_device_that_is_stopped_stays_offline_and_edits() -> None:
    rig = Rig(FakeServer()).start()
    rig.feed(events.Stopped())
    assert rig.told_of(CloseConnection) == [CloseConnection(1000, "")]
    assert rig.device.next_deadline() is None
    assert rig.type("a").text == "a"
    assert rig.start().document.pending == 0


def test_a_token_that_comes_after_the_stop_connects_nothing() -> None:
    rig = Rig(FakeServer())
    rig.token = None
    rig.feed(events.Started())
    rig.feed(events.Stopped())
    rig.device.handle(events.TokenFetched("phone", "late"), 1.0)
    assert rig.device.take_effects() == []
    rig.device.handle(events.Started(), 2.0)
    assert rig.device.take_effects()[0] == Connect()


def test_the_first_thing_a_device_asks_for_is_a_token() -> None:
    device = Device("phone", MemoryStore(), Rig(FakeServer()).rng)
    device.handle(events.Started(), 0.0)
    assert FetchToken("phone") in device.take_effects()


def test_presence_is_told_again_after_a_reconnect_and_forgotten_with_the_connection() -> None:
    server = FakeServer()
    one, two = Rig(server).start(), Rig(server, "laptop", seed=2).start()
    one.feed(events.PresenceSet("main", b"here"))
    one.settle()
    two.settle()
    assert two.document.presence.peers == {"alice/phone": b"here"}
    one.lose().wait().settle()
    assert one.sent[-1] == Presence(1, b"here")
    one.feed(events.PresenceSet("main", None))
    one.settle()
    two.settle()
    assert two.document.presence.peers == {}


def test_problems_are_told() -> None:
    rig = Rig(FakeServer()).start()
    assert rig.session is not None
    rig.session.send(Error(None, None, "internal", "sorry", "later"))
    assert rig.settle().told_of(Problem) == [Problem("internal", "sorry")]


@pytest.mark.parametrize(("old", "new"), [(Link.IDLE, Link.OPEN), (Link.STOPPED, Link.WAITING), (Link.OPEN, Link.OPEN)])
def test_a_link_moves_only_as_its_table_says(old: Link, new: Link) -> None:
    with pytest.raises(AssertionError):
        move(LINKS, old, new)


def test_every_state_has_its_row() -> None:
    assert list(LINKS) == list(Link)
    assert list(PHASES) == list(Phase)


def test_counters_are_of_what_happened() -> None:
    server = FakeServer()
    rig = Rig(server).start().type("a").settle()
    counters = rig.device.counters
    assert (counters.ops_made, counters.ops_acked, counters.ops_resent) == (1, 1, 0)
    assert counters.bytes_up > 0
    assert counters.bytes_down > 0
    assert counters.current_at == rig.now
