"""An operator's import is answered exactly once, whatever happens, and never as durable when it is not."""

from __future__ import annotations

import pytest

from crdt.errors import ReplicaBroken
from crdt.protocol.frames import Cursor, Delta, Open
from crdt.replica import Replica
from server.core import events
from server.core.effects import Append, ImportFinished, Load
from tests.unit.server.core.lab import MAIN, Lab, Writer, values


def ask(lab: Lab, request: int, update: bytes) -> None:
    lab.feed(events.ImportRequested(request, MAIN, update))


def test_an_import_is_answered_with_its_seq_and_shown_to_members() -> None:
    lab = Lab()
    phone, _ = lab.join()
    update = Writer(1).type("a")
    ask(lab, 7, update)
    assert lab.imports == {}
    lab.settle()
    assert lab.imports == {7: ImportFinished(7, 1)}
    assert [type(frame) for frame in lab.received(phone)] == [Delta]
    ask(lab, 8, update)
    lab.settle()
    assert lab.imports[8] == ImportFinished(8, 0)


def test_an_import_waits_for_the_document_and_for_the_batch_in_flight() -> None:
    lab = Lab()
    phone, handle = lab.join()
    lab.push(phone, handle, 1, Writer(1).type("a"))
    lab.turn()
    ask(lab, 1, Writer(2).type("b"))
    ask(lab, 2, Writer(3).type("c"))
    lab.settle()
    assert {request: done.seq for request, done in lab.imports.items()} == {1: 2, 2: 2}


def test_what_is_no_update_is_refused_and_the_next_is_not() -> None:
    lab = Lab()
    lost = Writer(2)
    lost.type("lost")
    ask(lab, 1, b"junk")
    ask(lab, 2, lost.type("leans on it"))
    ask(lab, 3, Writer(1).type("a"))
    lab.settle()
    assert [lab.imports[request].error is None for request in (1, 2, 3)] == [False, False, True]


@pytest.mark.parametrize("durable", [True, False])
def test_when_the_append_fails_every_import_says_so(durable: bool) -> None:
    lab = Lab()
    ask(lab, 1, Writer(1).type("a"))
    ask(lab, 2, Writer(2).type("b"))
    lab.answer()
    lab.turn()
    lab.fail(durable=durable)
    lab.settle()
    assert [lab.imports[request].error is None for request in (1, 2)] == [False, False]
    ask(lab, 3, Writer(1).type("a"))
    lab.settle()
    assert lab.imports[3].error is None


def test_when_the_document_can_not_be_loaded_every_import_says_so() -> None:
    lab = Lab()
    ask(lab, 1, Writer(1).type("a"))
    lab.fail()
    lab.settle()
    assert lab.imports[1].error is not None


def test_imports_of_two_processes_are_not_taken_for_one_another() -> None:
    lab = Lab()
    other = Lab(storage=lab.storage)
    first, second = Writer(1).type("first"), Writer(2).type("second")
    ask(lab, 1, first)
    lab.answer()
    lab.turn()
    ask(other, 1, second)
    other.settle()
    lab.settle()
    assert (other.imports[1].seq, lab.imports[1].seq) == (1, 2)
    assert values(lab.durable()) in ({"t": "firstsecond"}, {"t": "secondfirst"})


def test_a_refused_import_does_not_stop_those_behind_a_foreign_one() -> None:
    lab = Lab()
    other = Lab(storage=lab.storage)
    ask(lab, 1, b"junk")
    lab.settle()
    ask(other, 1, Writer(2).type("b"))
    other.settle()
    ask(lab, 2, Writer(1).type("a"))
    lab.settle()
    ask(lab, 3, Writer(3).type("a"))
    lab.settle()
    assert sorted(lab.imports) == [1, 2, 3]
    assert lab.imports[3].error is None


@pytest.mark.interpreted
def test_an_import_that_the_library_stumbles_over_is_refused_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    lab = Lab()
    marked = Writer(9).type("marked")
    apply = Replica.apply

    def stumble(self: Replica, updates: list[bytes]) -> bytes:
        if marked in (updates := list(updates)):
            raise ReplicaBroken("marked")
        return apply(self, updates)

    monkeypatch.setattr(Replica, "apply", stumble)
    for request, update in enumerate([Writer(1).type("a"), marked, Writer(2).type("b")], 1):
        ask(lab, request, update)
    lab.settle()
    assert [lab.imports[request].error is None for request in (1, 2, 3)] == [True, False, True]


def test_an_import_outlives_the_start_of_a_new_epoch() -> None:
    lab = Lab()
    ask(lab, 1, Writer(1).type("a"))
    session = lab.hello("alice", "phone", Open(1, "main", Cursor(lab.epoch(), 9), b"\x00"))
    lab.settle()
    assert session not in lab.closed
    assert lab.imports[1].error is None


def test_an_import_is_answered_before_the_drain_ends() -> None:
    lab = Lab()
    ask(lab, 1, Writer(1).type("a"))
    lab.feed(events.DrainRequested())
    assert [type(effect) for effect in lab.held] == [Load]
    assert lab.drained == 0
    lab.answer()
    lab.turn()
    assert [type(effect) for effect in lab.held] == [Append]
    lab.settle()
    assert (lab.imports[1].seq, lab.drained) == (1, 1)
    ask(lab, 2, Writer(2).type("b"))
    assert lab.imports[2].error is not None
