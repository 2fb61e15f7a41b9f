"""Presence goes to the others, at once, and never outlives its session."""

from __future__ import annotations

import pytest

from crdt.limits import Limits
from crdt.protocol import frames
from crdt.protocol.codes import Code
from crdt.protocol.frames import DevicePresence, Open, Opened, Presence
from server.core import events
from tests.unit.server.core.lab import Lab, token


def shown(lab: Lab, session: int) -> list[tuple[str, bytes | None]]:
    return [(frame.device, frame.payload) for frame in lab.received(session) if isinstance(frame, DevicePresence)]


def three(lab: Lab) -> tuple[int, int, int, int]:
    (phone, handle), (laptop, _), (tablet, _) = (lab.join(device=name) for name in ("phone", "laptop", "tablet"))
    for session in (phone, laptop, tablet):
        lab.received(session)
    return phone, laptop, tablet, handle


def test_presence_is_relayed_to_the_others_and_not_back() -> None:
    lab = Lab()
    phone, laptop, tablet, handle = three(lab)
    lab.send(phone, Presence(handle, b"here"))
    assert [shown(lab, session) for session in (phone, laptop, tablet)] == [
        [],
        [("alice/phone", b"here")],
        [("alice/phone", b"here")],
    ]


def test_a_joiner_sees_the_last_of_each_after_its_opened() -> None:
    lab = Lab()
    phone, laptop, _, handle = three(lab)
    lab.send(phone, Presence(handle, b"old"))
    lab.send(phone, Presence(handle, b"new"))
    lab.send(laptop, Presence(handle, b"there"))
    watch = lab.hello("alice", "watch", Open(1, "main", None, b"\x00"))
    assert [type(frame) for frame in lab.inbox[watch][1:]] == [Opened, DevicePresence, DevicePresence]
    assert shown(lab, watch) == [("alice/phone", b"new"), ("alice/laptop", b"there")]


@pytest.mark.parametrize("end", ["leave", "close", "superseded", "nil", "expiry", "lost grant"])
def test_the_end_of_a_session_takes_its_presence_back_once(end: str) -> None:
    lab = Lab()
    phone, laptop, _, handle = three(lab)
    ends = lab.hello("bob", "x", Open(1, "alice/main", None, b"\x00"), ttl_s=100, docs={"alice/main": "r"})
    lab.send(ends, Presence(handle, b"here"))
    lab.received(laptop)
    match end:
        case "leave":
            lab.send(ends, frames.Leave(handle))
        case "close":
            lab.disconnect(ends)
        case "superseded":
            lab.hello("bob", "x")
        case "nil":
            lab.send(ends, Presence(handle, None))
        case "expiry":
            lab.advance(100)
        case _:
            lab.send(ends, frames.Auth(token("bob", "x")))
    if end != "close":
        lab.send(ends, Presence(handle, None))
        lab.disconnect(ends)
    assert shown(lab, laptop) == [("bob/x", None)]
    assert lab.received(phone)[-1] == DevicePresence(handle, "bob/x", None)


def test_a_slow_reader_keeps_no_ghosts() -> None:
    lab = Lab()
    phone, laptop, tablet, handle = three(lab)
    lab.send(phone, Presence(handle, b"here"))
    lab.received(laptop)
    lab.feed(events.OutboxOverfull(laptop))
    lab.send(tablet, Presence(handle, b"late"))
    lab.disconnect(phone)
    assert shown(lab, laptop) == [("alice/phone", None)]
    lab.drain(laptop)
    assert shown(lab, laptop) == [("alice/tablet", b"late")]


def test_opening_again_keeps_ones_presence_for_those_who_join() -> None:
    lab = Lab()
    phone, _, _, handle = three(lab)
    lab.send(phone, Presence(handle, b"here"))
    lab.send(phone, frames.Resync(handle, None, b"\x00"))
    watch = lab.hello("alice", "watch", Open(1, "main", None, b"\x00"))
    assert shown(lab, watch) == [("alice/phone", b"here")]


def test_presence_over_its_limit_ends_the_session() -> None:
    lab = Lab(limits=Limits(presence_bytes=3))
    phone, laptop, _, handle = three(lab)
    lab.send(phone, Presence(handle, b"four"))
    assert lab.closed == {phone: (4413, Code.TOO_BIG)}
    assert shown(lab, laptop) == []


def test_presence_before_the_document_is_open_goes_nowhere() -> None:
    lab = Lab()
    session = lab.hello("alice", "phone", Open(1, "main", None, b"\x00"))
    lab.send(session, Presence(1, b"early"))
    lab.settle()
    other, _ = lab.join(device="laptop")
    assert shown(lab, other) == []
