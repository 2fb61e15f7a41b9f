"""How queued ops come together in entries: as few as may be, each op behind what it leans on."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from pycrdt import Text

from crdt.replica import Replica
from tests.unit.server.core.lab import Lab, Writer, values


def entries(lab: Lab) -> list[tuple[str, int, int]]:
    return [(entry.device.name, entry.first_op, entry.last_op) for entry in lab.durable()]


def two() -> tuple[Lab, int, int, int]:
    lab = Lab()
    (phone, handle), (laptop, _) = lab.join(), lab.join(device="laptop")
    return lab, phone, laptop, handle


def test_interleaved_ops_make_one_entry_for_each_device() -> None:
    lab, phone, laptop, handle = two()
    mine, yours = Writer(1), Writer(2)
    for number in range(1, 4):
        lab.push(phone, handle, number, mine.type("a"))
        lab.push(laptop, handle, number, yours.type("b"))
    lab.settle()
    assert entries(lab) == [("phone", 1, 3), ("laptop", 1, 3)]


def test_leaning_on_what_is_durable_or_in_flight_parts_nothing() -> None:
    lab, phone, laptop, handle = two()
    mine, yours = Writer(1), Writer(2)
    lab.push(phone, handle, 1, mine.type("a"))
    lab.turn()
    yours.replica.apply([mine.replica.state()])
    for number in range(1, 3):
        lab.push(laptop, handle, number, yours.type("b"))
        lab.push(phone, handle, number + 1, mine.type("c"))
    lab.settle()
    assert entries(lab) == [("phone", 1, 1), ("laptop", 1, 2), ("phone", 2, 3)]


def test_leaning_on_what_another_has_queued_starts_an_entry() -> None:
    lab, phone, laptop, handle = two()
    mine, yours = Writer(1), Writer(2)
    lab.push(laptop, handle, 1, yours.type("early", "other"))
    lab.push(phone, handle, 1, mine.type("a"))
    yours.replica.apply([mine.replica.state()])
    lab.push(laptop, handle, 2, yours.type("b"))
    lab.push(phone, handle, 2, mine.type("c"))
    lab.settle()
    assert entries(lab) == [("laptop", 1, 1), ("phone", 1, 1), ("laptop", 2, 2), ("phone", 2, 2)]
    assert values(lab.durable())["other"] == "early"


def test_one_who_repeats_anothers_op_does_not_pass_for_its_writer() -> None:
    """The laptop pushes what the phone wrote, the phone types on, and the laptop leans on that."""
    lab, phone, laptop, handle = two()
    mine, yours = Writer(1), Writer(2)
    first = mine.type("a")
    lab.push(phone, handle, 1, first)
    lab.settle()
    lab.push(laptop, handle, 1, first)
    typed = mine.replica.edit(lambda doc: doc.get("t", type=Text).insert(1, "b"))
    assert typed is not None
    lab.push(phone, handle, 2, typed)
    yours.replica.apply([mine.replica.state()])
    leaning = yours.replica.edit(lambda doc: doc.get("t", type=Text).insert(2, "c"))
    assert leaning is not None
    lab.push(laptop, handle, 2, leaning)
    lab.settle()
    assert values(lab.durable()) == {"t": "abc"}
    assert entries(lab) == [("phone", 1, 1), ("laptop", 1, 1), ("phone", 2, 2), ("laptop", 2, 2)]


def test_what_leans_starts_an_entry_though_it_came_behind_text_that_does_not() -> None:
    """The laptop types on where it was, and then beside what the phone has queued, all in one push."""
    lab, phone, laptop, handle = two()
    mine, yours = Writer(1), Writer(2)
    lab.push(phone, handle, 1, mine.type("a"))
    lab.push(laptop, handle, 1, yours.type("b"))
    lab.settle()
    for writer, other in ((mine, yours), (yours, mine)):
        writer.replica.apply([other.replica.state()])
    lab.push(laptop, handle, 2, beside(yours, "b", "c"))
    lab.push(phone, handle, 2, beside(mine, "a", "d"))
    yours.replica.apply([mine.replica.state()])
    lab.push(laptop, handle, 3, beside(yours, "c", "e"), beside(yours, "d", "f"), beside(yours, "f", "g"))
    lab.settle()
    assert entries(lab)[2:] == [("laptop", 2, 3), ("phone", 2, 2), ("laptop", 4, 5)]
    assert sorted(values(lab.durable())["t"]) == list("abcdefg")


@pytest.mark.interpreted
def test_a_state_vector_is_made_once_for_all_that_is_deleted(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is as long as many have written to the document."""
    lab, phone, _, handle = two()
    mine = Writer(1)
    lab.push(phone, handle, 1, mine.type("abc"))
    lab.settle()
    updates = [mine.replica.edit(lambda doc: doc.get("t", type=Text).__delitem__(0)) for _ in range(3)]
    lab.push(phone, handle, 2, *(update for update in updates if update is not None))
    made, apply = list[bytes](), Replica.apply

    def counted(self: Replica, updates: Iterable[bytes]) -> bytes:
        made.append(apply(self, updates))
        return made[-1]

    monkeypatch.setattr(Replica, "apply", counted)
    lab.turn()
    assert len(made) == 1
    lab.settle()
    assert entries(lab) == [("phone", 1, 1), ("phone", 2, 4)]
    assert values(lab.durable()) == {}


def beside(writer: Writer, char: str, text: str) -> bytes:
    """Types behind a character."""
    at = writer.replica.values()["t"].index(char) + 1
    update = writer.replica.edit(lambda doc: doc.get("t", type=Text).insert(at, text))
    assert update is not None
    return update
