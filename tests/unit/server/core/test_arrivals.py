"""Large pushes: tried first, taken in turns, in the way of nobody."""

from __future__ import annotations

from typing import Any

import pytest

from crdt.errors import PeerError
from crdt.protocol.codes import Code
from crdt.protocol.frames import Ack, Auth, Error, ServerFrame
from crdt.update import Update
from server.core import effects, events, inspector
from server.core.arrivals import TURN_BYTES, TURN_OPS
from server.core.inspector import Inspector
from server.core.rates import Rates
from tests.unit.server.core.lab import MAIN, Lab, Writer, token, values

LARGE = "x" * (TURN_BYTES + 1)


def rehearsals(lab: Lab) -> int:
    return sum(isinstance(effect, effects.Rehearse) for effect in lab.held)


def acked(lab: Lab, session: int) -> list[int]:
    return [frame.op for frame in lab.received(session) if isinstance(frame, Ack)]


def errors(frames: list[ServerFrame]) -> list[tuple[str, int]]:
    return [(frame.code, frame.detail["op"]) for frame in frames if isinstance(frame, Error) and frame.detail]


def refuse(lab: Lab, tried: int, code: Code) -> None:
    """The rehearsal under way finds something wrong."""
    lab.held.remove(next(effect for effect in lab.held if isinstance(effect, effects.Rehearse)))
    lab.feed(events.Rehearsed(MAIN, tried, PeerError(code, "no")))


def test_a_large_push_is_rehearsed_and_then_taken() -> None:
    lab = Lab()
    phone, handle = lab.join()
    lab.push(phone, handle, 1, Writer(1).type(LARGE))
    assert rehearsals(lab) == 1
    assert not lab.durable()
    lab.settle()
    assert acked(lab, phone) == [1]
    assert values(lab.durable()) == {"t": LARGE}


def test_what_comes_behind_it_waits_and_what_comes_from_others_does_not() -> None:
    lab = Lab()
    (phone, handle), (laptop, _) = lab.join(), lab.join(device="laptop")
    writer = Writer(1)
    lab.push(phone, handle, 1, writer.type(LARGE))
    rehearsal = lab.held.pop()
    lab.push(phone, handle, 2, writer.type("behind"))
    lab.push(laptop, handle, 1, Writer(2).type("aside"))
    lab.settle()
    assert acked(lab, laptop) == [1]
    assert acked(lab, phone) == []
    lab.held.append(rehearsal)
    lab.settle()
    assert acked(lab, phone)[-1] == 2
    assert [entry.device.name for entry in lab.durable()] == ["laptop", "phone", "phone"]


def test_a_large_push_waits_until_what_its_device_sent_before_is_durable() -> None:
    """The copy that it is tried on is read from storage."""
    lab = Lab()
    phone, handle = lab.join()
    writer = Writer(1)
    lab.push(phone, handle, 1, writer.type("first"))
    lab.push(phone, handle, 2, writer.type(LARGE))
    assert rehearsals(lab) == 0
    lab.settle()
    assert acked(lab, phone) == [1, 2]


def test_what_is_too_expensive_is_refused_and_the_document_untouched() -> None:
    lab = Lab()
    phone, handle = lab.join()
    lab.push(phone, handle, 1, Writer(1).type(LARGE))
    refuse(lab, 0, Code.TOO_EXPENSIVE)
    lab.settle()
    assert errors(lab.received(phone)) == [(Code.TOO_EXPENSIVE, 1)]
    assert not lab.durable()
    assert phone not in lab.closed


def test_ops_before_the_one_that_is_refused_are_taken() -> None:
    lab = Lab()
    phone, handle = lab.join()
    writer = Writer(1)
    lab.push(phone, handle, 1, writer.type("good"), writer.type(LARGE), writer.type("behind"))
    refuse(lab, 1, Code.TOO_EXPENSIVE)
    lab.settle()
    frames = lab.received(phone)
    assert errors(frames) == [(Code.TOO_EXPENSIVE, 2)]
    assert [frame.op for frame in frames if isinstance(frame, Ack)] == [1]
    assert values(lab.durable()) == {"t": "good"}


def test_a_rehearsal_finds_what_is_malformed() -> None:
    lab = Lab()
    phone, handle = lab.join()
    lab.push(phone, handle, 1, Writer(1).type(LARGE) + b"junk")
    lab.settle()
    assert errors(lab.received(phone)) == [(Code.BAD_UPDATE, 1)]


def test_a_rehearsal_of_what_builds_on_nothing_known_is_refused_with_the_state_vector() -> None:
    lab = Lab()
    phone, handle = lab.join()
    writer = Writer(1)
    writer.type("lost")
    lab.push(phone, handle, 1, writer.type(LARGE))
    lab.settle()
    assert errors(lab.received(phone)) == [(Code.MISSING_DEPS, 1)]


def test_a_resent_push_that_is_known_is_acknowledged_without_a_rehearsal() -> None:
    lab = Lab()
    phone, handle = lab.join()
    update = Writer(1).type(LARGE)
    lab.push(phone, handle, 1, update)
    lab.settle()
    lab.received(phone)
    lab.push(phone, handle, 1, update)
    assert rehearsals(lab) == 0
    lab.settle()
    assert acked(lab, phone) == [1]


def test_only_what_is_new_in_a_resent_push_is_rehearsed() -> None:
    lab = Lab()
    phone, handle = lab.join()
    writer = Writer(1)
    first, second = writer.type("first"), writer.type(LARGE)
    lab.push(phone, handle, 1, first)
    lab.settle()
    lab.push(phone, handle, 1, first, second)
    (rehearsal,) = (effect for effect in lab.held if isinstance(effect, effects.Rehearse))
    assert rehearsal.updates == (second,)
    lab.settle()
    assert acked(lab, phone)[-1] == 2


def test_a_backlog_is_taken_in_turns_and_others_come_in_between() -> None:
    lab = Lab()
    (phone, handle), (laptop, _) = lab.join(), lab.join(device="laptop")
    writer = Writer(1)
    lab.push(phone, handle, 1, *(writer.type("x") for _ in range(2 * TURN_OPS + 1)))
    lab.push(laptop, handle, 1, Writer(2).type("aside"))
    lab.settle()
    entries = lab.durable()
    assert [entry.device.name for entry in entries] == ["phone", "phone", "phone", "laptop"]
    assert all(len(entry.updates) <= TURN_OPS for entry in entries)
    assert acked(lab, phone)[-1] == 2 * TURN_OPS + 1


def test_a_device_that_may_no_longer_write_when_the_rehearsal_reports_writes_nothing() -> None:
    lab = Lab()
    docs = {"bob/main": "rw"}
    phone, handle = lab.join("alice", "phone", "bob/main", docs=docs)
    lab.push(phone, handle, 1, Writer(1).type(LARGE))
    assert rehearsals(lab) == 1
    lab.send(phone, Auth(token("alice", "phone", docs={"bob/main": "r"})))
    lab.settle()
    assert errors(lab.received(phone)) == [(Code.FORBIDDEN, 1)]
    assert not lab.durable(MAIN._replace(owner="bob"))


def test_what_waits_for_a_rehearsal_counts_as_queued() -> None:
    lab = Lab(session_queued_bytes_max=len(LARGE))
    phone, handle = lab.join()
    lab.push(phone, handle, 1, Writer(1).type(LARGE))
    assert lab.paused == [phone]
    lab.settle()
    assert lab.paused == []


def test_a_small_op_that_may_be_dear_is_rehearsed_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    """The check says how far the library may have to walk."""
    lab = Lab()
    phone, handle = lab.join()
    writer = Writer(1)
    lab.push(phone, handle, 1, writer.type("cheap"))
    lab.settle()
    monkeypatch.setattr(inspector, "STEPS_SMALL", -1)
    lab.push(phone, handle, 2, writer.type("dear"), writer.type("behind"))
    lab.push(phone, handle, 4, writer.type("later"))
    (rehearsal,) = (effect for effect in lab.held if isinstance(effect, effects.Rehearse))
    assert len(rehearsal.updates) == 2
    lab.settle()
    assert acked(lab, phone)[-1] == 4
    assert values(lab.durable()) == writer.replica.values()


@pytest.mark.interpreted
def test_ops_before_a_dear_one_are_not_held_up(monkeypatch: pytest.MonkeyPatch) -> None:
    lab = Lab()
    phone, handle = lab.join()
    writer = Writer(1)
    cheap, dear = writer.type("a"), writer.type("é" * 50)
    real = Inspector.admit

    def admit(self: Inspector, update: Update, known: Any, user: str, **how: Any) -> bool:
        if update.structs[0].length == 50 and not how.get("rehearsed", True):
            return False
        return real(self, update, known, user, **how)

    monkeypatch.setattr(Inspector, "admit", admit)
    lab.push(phone, handle, 1, cheap, dear)
    assert rehearsals(lab) == 0
    lab.settle()
    assert acked(lab, phone) == [1, 2]
    assert [len(entry.updates) for entry in lab.durable()] == [1, 1]


def test_a_room_waits_for_the_report_of_a_rehearsal_whose_device_has_gone() -> None:
    """Else a report could be taken for that of another push."""
    lab = Lab(resident_bytes_max=0)
    docs = {"bob/main": "rw"}
    phone, handle = lab.join("alice", "phone", "bob/main", docs=docs)
    lab.push(phone, handle, 1, Writer(1).type(LARGE))
    while not rehearsals(lab):
        lab.answer()
    rehearsal = next(effect for effect in lab.held if isinstance(effect, effects.Rehearse))
    lab.held.remove(rehearsal)
    lab.send(phone, Auth(token("alice", "phone")))
    lab.disconnect(phone)
    lab.advance(120)
    laptop, other = lab.join("alice", "laptop", "bob/main", docs=docs)
    lab.push(laptop, other, 1, Writer(2).type(LARGE))
    lab.settle()
    assert not lab.durable(MAIN._replace(owner="bob"))
    lab.held.append(rehearsal)
    lab.settle()
    assert acked(lab, laptop) == [1]


def test_what_waited_behind_ops_that_were_dropped_is_taken() -> None:
    lab = Lab()
    docs = {"bob/main": "rw"}
    phone, handle = lab.join("alice", "phone", "bob/main", docs=docs)
    laptop, other = lab.join("bob", "laptop", "bob/main")
    lab.push(phone, handle, 1, Writer(1).type("a"))
    lab.push(laptop, other, 1, *(Writer(2).type("b") for _ in range(1)), *[b"\x00\x00"] * TURN_OPS)
    lab.send(phone, Auth(token("alice", "phone")))
    lab.settle()
    assert acked(lab, laptop)[-1] == TURN_OPS + 1


def test_a_rehearsal_is_charged_to_who_sent_the_push() -> None:
    """It takes a worker from all others; its bytes alone would be paid within a sixteenth of a second."""
    lab = Lab(rates=Rates(burst_s=0.2))
    phone, handle = lab.join()
    lab.advance(60)
    lab.push(phone, handle, 1, Writer(1).type(LARGE))
    assert lab.paused == [phone]
