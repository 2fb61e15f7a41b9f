"""Recorded updates of Yjs: all of them are read, fit in order, and give what Yjs had."""

from __future__ import annotations

import os
from itertools import islice
from typing import Any

import pytest
from pycrdt import Array, Doc, Map, Text

from client_sim.traces import FOLDER_VARIABLE, folder
from crdt.replica import Replica
from crdt.update import Layout, RootKind, StateVector, read_update, root_kinds
from crdt.values import values_of
from tests.conformance.cases import Case, cases

FILE = "yjs-conformance-small.bin.gz"
CASES = 5_320
STEP = 1 if os.environ.get("SYNCLINE_SOAK") else 20


@pytest.fixture(scope="module")
def sample() -> list[Case]:
    traces = folder()
    if traces is None:
        pytest.skip(f"{FOLDER_VARIABLE} does not name the folder with {FILE}")
    found = list(islice(cases(traces / FILE), 0, None, STEP))
    assert len(found) == CASES // STEP
    return found


def deliver(updates: list[bytes]) -> Replica:
    """Apply each update as soon as it fits, in rounds over those that wait."""
    replica, layout, known, waiting = Replica(), Layout(), StateVector(), updates
    while waiting:
        early = []
        for update in waiting:
            read = read_update(update, bounded=True)
            if read.missing(known) is None:
                layout.admit(read, known)
                replica.apply([update])
                read.advance(known)
            else:
                early.append(update)
        assert len(early) < len(waiting), "nothing fits any more"
        waiting = early
    assert replica.state_vector() == known
    assert Layout.of([replica.state()]).pack()
    return replica


def as_the_app_reads(replica: Replica) -> dict[str, Any]:
    """The roots, by the types that an app would ask for."""
    doc: Doc[Any] = Doc()
    doc.apply_update(replica.state())
    return {
        "text": str(doc.get("text", type=Text)),
        "map": doc.get("map", type=Map).to_py(),
        "array": doc.get("array", type=Array).to_py(),
    }


def holds_only_types(replica: Replica) -> bool:
    """True if the text has nothing but nested types in it: from such content nobody can tell it from an array."""
    return root_kinds(read_update(replica.state())).get("text") is RootKind.ARRAY


def test_updates_in_the_order_given_end_where_yjs_ended(sample: list[Case]) -> None:
    for case in sample:
        replica = deliver(case.updates)
        expected = {"text": case.text, "map": case.map, "array": case.array}
        assert as_the_app_reads(replica) == expected, case.number
        if not holds_only_types(replica):
            values = values_of(replica.state())
            assert values == {name: value for name, value in expected.items() if value}, case.number


def test_a_text_of_nothing_but_types_reads_as_an_array_everywhere(sample: list[Case]) -> None:
    ambiguous = [case for case in sample if holds_only_types(deliver(case.updates))]
    for case in ambiguous:
        assert case.text == ""
        assert deliver(case.updates).digest() == Replica.load([deliver(case.updates).state()]).digest()
    assert 0 < len(ambiguous) < len(sample) / 5


def test_updates_held_back_until_they_fit_end_there_too(sample: list[Case]) -> None:
    for case in sample[:: 1 if STEP == 1 else 4]:
        assert deliver(case.updates[::-1]).digest() == deliver(case.updates).digest(), case.number
