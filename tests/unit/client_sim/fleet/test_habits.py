"""What people do, drawn many times."""

from __future__ import annotations

from random import Random
from statistics import median
from typing import Any

from pycrdt import Doc

from client_sim.core.roots import Roots
from client_sim.fleet.habits import TASKS, TEXT, Caret, Edit, Habits, Person


def test_sessions_have_as_many_edits_as_recorded_ones() -> None:
    """171 to 630 edits in sessions of some minutes; 27 edits in a second at most."""
    counts, seconds = [], list[float]()
    for seed in range(60):
        person, spent_s, waits = Person(Habits(), Random(seed), 1.0), 0.0, list[float]()
        for stroke in person.typing():
            spent_s += stroke.wait_s
            if spent_s > 450.0:
                break
            waits.append(spent_s)
        counts.append(len(waits))
        seconds += [waits[at + 27] - waits[at] for at in range(len(waits) - 27)]
    assert 171 < median(counts) < 630
    assert sum(span < 1.0 for span in seconds) < 0.02 * len(seconds)


def test_edits_can_be_made_on_any_text() -> None:
    doc, person = Doc[Any](), Person(Habits(), Random(1), 1.0)
    roots = Roots(doc)
    for number, stroke in enumerate(person.typing()):
        if number == 2000:
            break
        stroke.edit.make(roots)
    assert len(roots.text(TEXT)) > 1000
    assert len(roots.map(TASKS)) > 5


def test_letters_are_typed_one_behind_the_other_and_deleted_backwards() -> None:
    doc = Doc[Any]()
    Roots(doc).text(TEXT).append("0123456789")
    caret = Caret(0.5)
    for letter in "abc":
        Edit(caret, 0, letter).make(Roots(doc))
    Edit(caret, 2, "").make(Roots(doc))
    Edit(caret, 0, "d").make(Roots(doc))
    assert str(Roots(doc).text(TEXT)) == "01234ad56789"


def test_speed_compresses_absences() -> None:
    slow, fast = Person(Habits(), Random(2), 1.0), Person(Habits(), Random(2), 100.0)
    assert [slow.away_s() / 100 for _ in range(5)] == [fast.away_s() for _ in range(5)]
