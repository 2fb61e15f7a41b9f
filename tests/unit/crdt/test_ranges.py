"""Ranges are sets, however they are written down."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdt.update import DeleteRange, read_update
from crdt.update.ranges import Ranges

spans = st.tuples(st.integers(0, 3), st.integers(0, 40), st.integers(1, 6)).map(
    lambda drawn: (drawn[0] << 40, drawn[1], drawn[1] + drawn[2])
)
drawn_ranges = st.lists(spans, max_size=12)


def units(ranges: Ranges) -> set[tuple[int, int]]:
    return {(client, clock) for client, start, end in ranges for clock in range(start, end)}


@given(drawn_ranges, drawn_ranges)
def test_they_answer_as_sets_do(left: list[tuple[int, int, int]], right: list[tuple[int, int, int]]) -> None:
    one, other = Ranges(left), Ranges(right)
    assert units(one | other) == units(one) | units(other)
    assert units(one & other) == units(one) & units(other)
    assert units(one - other) == units(one) - units(other)
    assert len(one) == len(units(one))
    assert bool(one) == bool(left)
    assert (one == other) == (units(one) == units(other))


@given(drawn_ranges)
def test_they_come_back_as_they_were_packed_and_are_a_deletion(drawn: list[tuple[int, int, int]]) -> None:
    ranges = Ranges(drawn)
    assert Ranges.unpack(ranges.pack()) == ranges
    update = read_update(ranges.as_deletion())
    assert (update.sections, Ranges.deleted_by(update)) == ({}, ranges)


def test_neighbours_are_one_range() -> None:
    assert list(Ranges([(1, 4, 6), (1, 0, 4), (1, 7, 8)])) == [DeleteRange(1, 0, 6), DeleteRange(1, 7, 8)]


@pytest.mark.parametrize("packed", [b"", b"\x01", b"\x01\x07\x02\x00\x01", b"\x01\x87"])
def test_what_is_cut_off_is_no_ranges(packed: bytes) -> None:
    with pytest.raises(ValueError, match="cut off"):
        Ranges.unpack(packed)
