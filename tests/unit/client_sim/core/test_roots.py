from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycrdt import Doc

from client_sim.core.roots import Roots

CHARACTERS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=12)


@given(before=CHARACTERS, inserted=CHARACTERS, data=st.data())
def test_indexes_count_code_points(before: str, inserted: str, data: st.DataObject) -> None:
    text = Roots(Doc()).text("body")
    text.append(before)
    index = data.draw(st.integers(0, len(before)))
    text.insert(index, inserted)
    expected = before[:index] + inserted + before[index:]
    assert str(text) == expected
    assert len(text) == len(expected)
    start = data.draw(st.integers(0, len(expected)))
    stop = data.draw(st.integers(start, len(expected)))
    text.delete(start, stop)
    assert str(text) == expected[:start] + expected[stop:]


@pytest.mark.parametrize("index", [-1, 3])
def test_an_index_outside_the_text_is_an_error(index: int) -> None:
    text = Roots(Doc()).text("body")
    text.append("åß")
    with pytest.raises(IndexError):
        text.insert(index, "x")
    with pytest.raises(IndexError):
        text.delete(0, index)
    assert str(text) == "åß"


def test_a_range_that_runs_backwards_is_an_error() -> None:
    text = Roots(Doc()).text("body")
    text.append("abc")
    with pytest.raises(IndexError):
        text.delete(2, 1)


def test_maps_and_arrays_are_the_librarys() -> None:
    roots = Roots(Doc())
    roots.map("settings")["dark"] = True
    roots.array("list").append("x")
    assert roots.map("settings")["dark"] is True
    assert list(roots.array("list")) == ["x"]
