"""Devices that are shut out, devices that were seen, and two that share one name."""

from __future__ import annotations

from crdt.ids import DeviceId
from crdt.protocol import frames
from crdt.protocol.codes import Code
from crdt.protocol.frames import Ack, Error, Pong, Welcome
from server.core.events import RevocationsRead, SocketClosed
from server.core.gate import AGENT_CHARS_MAX, TAKEOVERS_MAX, TAKEOVERS_WITHIN_S
from tests.unit.server.core.lab import WALL_S, Lab, Writer, phone, token

REVOKED = (4403, Code.DEVICE_REVOKED)
LAPTOP = phone(name="laptop")


def shut_out(lab: Lab, *devices: DeviceId) -> None:
    lab.feed(RevocationsRead(frozenset(devices)))


# --- shut out


def test_a_live_session_ends_at_once_and_others_go_on() -> None:
    lab = Lab()
    stolen, _ = lab.join()
    laptop, _ = lab.join(device="laptop")
    bobs, _ = lab.join(user="bob")
    shut_out(lab, phone())
    assert lab.closed == {stolen: REVOKED}
    assert lab.take(stolen, Error).retry == "never"
    for session in (laptop, bobs):
        lab.send(session, frames.Ping(1))
        assert isinstance(lab.received(session)[-1], Pong)


def test_what_it_had_queued_is_not_committed() -> None:
    lab = Lab()
    stolen, handle = lab.join()
    laptop, _ = lab.join(device="laptop")
    writer = Writer(1)
    lab.push(stolen, handle, 1, writer.type("a"))
    lab.turn()
    lab.push(stolen, handle, 2, writer.type("b"))
    lab.push(laptop, handle, 1, Writer(2).type("c"))
    shut_out(lab, phone())
    lab.settle()
    assert [(entry.device, entry.last_op) for entry in lab.durable()] == [(phone(), 1), (LAPTOP, 1)]
    assert not any(isinstance(frame, Ack) for frame in lab.received(stolen))


def test_what_it_had_queued_before_its_connection_was_lost_is_not_committed_either() -> None:
    lab = Lab()
    stolen, handle = lab.join()
    writer = Writer(1)
    lab.push(stolen, handle, 1, writer.type("a"))
    lab.turn()
    lab.push(stolen, handle, 2, writer.type("b"))
    lab.feed(SocketClosed(stolen))
    shut_out(lab, phone())
    lab.settle()
    assert [(entry.device, entry.last_op) for entry in lab.durable()] == [(phone(), 1)]


def test_it_does_not_come_in_again_with_any_token() -> None:
    lab = Lab()
    shut_out(lab, phone())
    for number in range(3):
        assert lab.closed[lab.hello(jti=f"fresh-{number}")] == REVOKED
    assert lab.closed.keys() == {1, 2, 3}


def test_a_device_that_never_came_can_be_shut_out() -> None:
    lab = Lab()
    shut_out(lab, phone("carol"))
    assert lab.closed[lab.hello("carol")] == REVOKED
    assert isinstance(lab.take(lab.hello("carol", "laptop"), Welcome), Welcome)


def test_a_bad_token_does_not_tell_who_is_shut_out() -> None:
    lab = Lab()
    shut_out(lab, phone())
    assert lab.closed[lab.hello(aud="elsewhere")] == (4401, Code.BAD_TOKEN)


def test_who_is_let_in_again_comes_in() -> None:
    lab = Lab()
    shut_out(lab, phone(), LAPTOP)
    shut_out(lab, LAPTOP)
    assert isinstance(lab.take(lab.hello(), Welcome), Welcome)
    assert lab.closed[lab.hello(device="laptop")] == REVOKED


def test_being_told_again_closes_nothing_twice() -> None:
    lab = Lab()
    stolen, _ = lab.join()
    shut_out(lab, phone())
    shut_out(lab, phone(), LAPTOP)
    assert lab.closed == {stolen: REVOKED}
    lab.disconnect(stolen)
    shut_out(lab, phone())


def test_a_socket_without_hello_is_nobodys() -> None:
    lab = Lab()
    session = lab.connect()
    shut_out(lab, phone())
    assert lab.closed == {}
    lab.send(session, frames.Hello(1, token("alice", "phone"), "phone", "test"))
    assert lab.closed == {session: REVOKED}


# --- seen


def test_a_device_is_seen_as_it_comes_renews_its_token_and_goes() -> None:
    lab = Lab()
    session, _ = lab.join()
    lab.advance(10)
    lab.send(session, frames.Auth(token("alice", "phone", ttl_s=7200)))
    lab.advance(10)
    lab.disconnect(session)
    assert [(seen.device, seen.agent) for seen in lab.seen] == [(phone(), "test")] * 3
    assert [seen.time_ms for seen in lab.seen] == [int((WALL_S + after_s) * 1000) for after_s in (0, 10, 20)]


def test_who_does_not_come_in_was_not_here() -> None:
    lab = Lab()
    shut_out(lab, phone())
    for session in (lab.connect(), lab.hello(), lab.hello(device="laptop", exp=1)):
        lab.disconnect(session)
    assert lab.seen == []


def test_a_session_that_gave_way_to_a_newer_one_is_not_seen_as_it_ends() -> None:
    lab = Lab()
    older, newer = lab.hello(), lab.hello()
    lab.disconnect(older)
    assert len(lab.seen) == 2
    lab.disconnect(newer)
    assert len(lab.seen) == 3


def test_an_agent_is_fit_to_be_shown() -> None:
    lab = Lab()
    agent = "app/1\x1b[2J\n\u202e" + "x" * 1000
    lab.send(lab.connect(), frames.Hello(1, token("alice", "phone"), "phone", agent))
    (seen,) = lab.seen
    assert seen.agent.startswith("app/1?[2J??xx")
    assert len(seen.agent) == AGENT_CHARS_MAX


# --- two that share one name


def test_two_that_chase_each_other_are_slowed_down() -> None:
    lab = Lab()
    first = lab.hello()
    sessions = [first]
    for _ in range(TAKEOVERS_MAX):
        lab.now += 0.5
        sessions.append(lab.hello())
    assert [lab.closed[session] for session in sessions[:-1]] == [(4409, Code.SUPERSEDED)] * TAKEOVERS_MAX
    winner, late = sessions[-1], lab.hello()
    assert lab.closed[late] == (4429, Code.RATE_LIMITED)
    refused = lab.take(late, Error)
    assert (refused.code, refused.retry) == ("rate_limited", "later")
    assert refused.retry_after_ms == round((TAKEOVERS_WITHIN_S - (TAKEOVERS_MAX - 1) * 0.5) * 1000)
    lab.send(winner, frames.Ping(1))
    assert isinstance(lab.received(winner)[-1], Pong), "the one that is there stays"
    lab.now += refused.retry_after_ms / 1000
    assert isinstance(lab.take(lab.hello(), Welcome), Welcome)
    assert lab.closed[winner] == (4409, Code.SUPERSEDED)


def test_a_device_that_comes_and_goes_is_not_slowed_down() -> None:
    lab = Lab()
    for _ in range(3 * TAKEOVERS_MAX):
        session = lab.hello()
        assert isinstance(lab.take(session, Welcome), Welcome)
        lab.disconnect(session)
    assert lab.closed == {}


def test_one_device_that_is_slowed_down_is_no_reason_for_another() -> None:
    lab = Lab()
    for _ in range(TAKEOVERS_MAX + 2):
        last = lab.hello()
    assert lab.closed[last] == (4429, Code.RATE_LIMITED)
    lab.hello(device="laptop")
    assert isinstance(lab.take(lab.hello(device="laptop"), Welcome), Welcome)


def test_ops_of_a_device_that_is_shut_out_are_not_tried_again() -> None:
    lab = Lab()
    session, handle = lab.join()
    other = Lab(storage=lab.storage)
    elsewhere, there = other.join("alice", "laptop")
    lab.push(session, handle, 1, Writer(1).type("a"))
    lab.turn()
    other.push(elsewhere, there, 1, Writer(2).type("b"))
    other.settle()
    shut_out(lab, phone())
    lab.settle()
    assert [entry.device for entry in lab.durable()] == [LAPTOP]
