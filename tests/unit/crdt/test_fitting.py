"""Of an update with parts that build on what is missing, the rest is taken."""

from __future__ import annotations

import pytest
from pycrdt import Text

from crdt.errors import BadUpdate
from crdt.replica import Replica
from crdt.update import EMPTY_UPDATE, fitting, read_state_vector, read_update
from crdt.update.decoder import write_uint


def texts(client: int, *words: str) -> list[bytes]:
    """The updates of a client that types these words one behind the other."""
    author = Replica(client)
    updates = [
        author.edit(lambda doc, word=word: doc.get("t", type=Text).insert(len(doc.get("t", type=Text)), word))  # type: ignore[misc]
        for word in words
    ]
    return [update for update in updates if update is not None]


def with_skip(first: bytes, skipped: int, last: bytes, client: int) -> bytes:
    """One section of both updates' structs with a skip between, as Yjs merges them."""
    out = bytearray((1, 3))
    write_uint(out, client)
    out.append(0)
    head = bytearray()
    write_uint(head, client)
    out += first[2 + len(head) + 1 : -1]
    out += bytes((10, skipped))
    clock = read_update(last).sections[client][0]
    start = bytearray(head)
    write_uint(start, clock)
    out += last[2 + len(start) : -1]
    out.append(0)
    return bytes(out)


def test_what_fits_stays_as_it_is() -> None:
    for update in texts(7, "one", "two"):
        known = {7: read_update(update).sections[7][0]}
        assert fitting(update, known) == update


def test_what_is_behind_a_gap_is_left_out() -> None:
    first, second, third = texts(7, "one ", "two ", "three ")
    merged = with_skip(first, 4, third, 7)
    assert fitting(merged, {}) == first
    assert fitting(merged, {7: 8}) == third, "the gap is known, and so is what comes before it"
    assert read_update(fitting(merged, {7: 4})).sections == {7: (0, 4)}
    assert second not in (first, third)


def test_what_stands_beside_the_missing_is_left_out_and_so_are_its_deletes() -> None:
    author, other = Replica(1), Replica(2)
    base = author.edit(lambda doc: doc.get("t", type=Text).insert(0, "base"))
    assert base is not None
    other.apply([base])
    beside = other.edit(lambda doc: doc.get("t", type=Text).insert(4, "!"))
    free = other.edit(lambda doc: doc.get("u", type=Text).insert(0, "free"))
    gone = other.edit(lambda doc: doc.get("t", type=Text).clear())
    assert beside is not None
    assert free is not None
    assert gone is not None
    diff = other.diff(base_vector := Replica.load([base]).state_vector_bytes())
    assert fitting(diff, {}) == EMPTY_UPDATE
    assert fitting(diff, read_state_vector(base_vector)) == diff


@pytest.mark.parametrize("size", range(1, 12))
def test_what_is_cut_off_is_no_update(size: int) -> None:
    (update,) = texts(7, "one two three")
    with pytest.raises(BadUpdate):
        fitting(update[:size], {})


def test_what_two_wrote_in_turn_fits_in_whatever_order_it_is_told() -> None:
    """Each stands beside what the other wrote before: the update has one section after the other."""
    authors = Replica(1), Replica(2)
    for number in range(400):
        author, other = authors[number % 2], authors[1 - number % 2]
        update = author.edit(lambda doc: doc.get("t", type=Text).insert(len(doc.get("t", type=Text)), "x"))
        assert update is not None
        other.apply([update])
    state = authors[0].state()
    assert Replica.load([fitting(state, {})]).values() == authors[0].values()
