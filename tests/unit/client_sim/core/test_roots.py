from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycrdt import Array, Doc, Map, Text

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


def test_a_text_is_formatted_by_code_points() -> None:
    roots = Roots(Doc())
    text = roots.text("body")
    text.append("äbc")
    text.format(1, 2, {"bold": True})
    text.insert(3, "d", {"em": True})
    text.format(2, 2, {"never": True})
    assert text._text.diff() == [("ä", None), ("b", {"bold": True}), ("c", None), ("d", {"em": True})]
    text.format(1, 2, {"bold": None})
    assert ("b", {"bold": True}) not in text._text.diff()
    with pytest.raises(IndexError):
        text.format(3, 1, {"bold": True})


@given(count=st.integers(1, 6), data=st.data())
def test_an_element_that_is_moved_is_where_it_was_put(count: int, data: st.DataObject) -> None:
    elements = Roots(Doc()).list("list")
    for element in range(count):
        elements.append(element)
    start, to = data.draw(st.integers(0, count - 1)), data.draw(st.integers(0, count - 1))
    elements.move(start, to)
    expected = list(range(count))
    expected.insert(to, expected.pop(start))
    assert list(elements) == expected
    assert elements[to] == start


def test_a_list_has_its_bounds() -> None:
    elements = Roots(Doc()).list("list")
    elements.insert(0, "a")
    for wrong in (-1, 2):
        with pytest.raises(IndexError):
            elements.insert(wrong, "x")
        with pytest.raises(IndexError):
            elements.delete(wrong)
        with pytest.raises(IndexError):
            elements.move(0, wrong)
    elements.delete(0)
    assert len(elements) == 0


def test_texts_and_lists_may_be_within_maps_and_lists() -> None:
    roots = Roots(Doc())
    notes = roots.map("notes")
    notes["one"] = Map({"title": Text("ö"), "tags": Array(["a"])})
    roots.nested_text(notes["one"], "title").insert(1, "k")
    roots.nested_list(notes["one"], "tags").append("b")
    assert str(roots.nested_text(notes["one"], "title")) == "ök"
    assert list(roots.nested_list(notes["one"], "tags")) == ["a", "b"]
    pages = roots.list("pages")
    pages.append(Text("p"))
    roots.nested_text(pages, 0).append("q")
    assert str(roots.nested_text(pages, 0)) == "pq"
    with pytest.raises(TypeError, match="not a Text"):
        roots.nested_text(notes, "one")
    with pytest.raises(TypeError, match="can not be moved"):
        pages.move(0, 0)
