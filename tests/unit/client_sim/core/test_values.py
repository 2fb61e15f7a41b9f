"""What the library can not take never reaches it: it would end the process, or put None in its place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pycrdt
import pytest
from pycrdt import Doc

from client_sim import Array, Map, Text
from client_sim.core.roots import Roots
from client_sim.core.values import DEPTH_MAX
from tests.unit.client_sim.fake_server import FakeServer
from tests.unit.client_sim.rig import Rig


def nested(depth: int) -> list[Any]:
    found: list[Any] = []
    for _ in range(depth):
        found = [found]
    return found


def endless() -> list[Any]:
    found: list[Any] = []
    found.append(found)
    return found


BAD: list[tuple[object, type[Exception], str]] = [
    (1 << 63, ValueError, "an integer of 64 bits"),
    (-(1 << 63) - 1, ValueError, "an integer of 64 bits"),
    ("\ud800", ValueError, "surrogates not allowed"),
    ({"a": ["\udfff"]}, ValueError, "surrogates not allowed"),
    ({"\ud800": 1}, ValueError, "surrogates not allowed"),
    ({5: 1}, TypeError, "a key has to be str, not int"),
    (endless(), ValueError, "contains itself"),
    (nested(DEPTH_MAX), ValueError, "nested more than 200 deep"),
    ({1, 2}, TypeError, "set can not be in a document"),
    ([object()], TypeError, "object can not be in a document within a plain value"),
    ({"a": bytearray(b"x")}, TypeError, "bytearray can not be in a document"),
    ([pycrdt.Text("lost")], TypeError, "Text can not be in a document within a plain value"),
    (pycrdt.Map({"a": pycrdt.Array([1 << 63])}), ValueError, "an integer of 64 bits"),
]
PLACES: dict[str, Callable[[Roots, Any], object]] = {
    "a map": lambda roots, value: roots.map("map").__setitem__("key", value),
    "several": lambda roots, value: roots.map("map").update({"key": value}),
    "a list": lambda roots, value: roots.list("list").append(value),
    "within a list": lambda roots, value: roots.list("list").insert(0, value),
    "a nested map": lambda roots, value: roots.map("nested")["map"].__setitem__("key", value),
    "a nested list": lambda roots, value: roots.nested_list(roots.map("nested"), "list").append(value),
}


def with_nested(doc: Doc[Any]) -> Roots:
    roots = Roots(doc)
    roots.map("nested")["map"] = Map({})
    roots.map("nested")["list"] = Array([])
    roots.map("nested")["text"] = Text("abc")
    return roots


def ascii_id(value: object) -> str:
    return ascii(value)[:20] if not isinstance(value, type) else value.__name__


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    ("value", "kind", "message"), BAD, ids=lambda value: repr(value)[:20].encode("ascii", "replace")
)
def test_what_can_not_be_in_a_document_is_named(place: str, value: object, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        PLACES[place](with_nested(Doc()), value)


def test_a_key_that_is_no_string_is_named() -> None:
    for key in (5, None, "\ud800"):
        with pytest.raises((TypeError, ValueError), match=r"a key has to be str|surrogates"):
            Roots(Doc()).map("map")[key] = 1  # type: ignore[index]


def test_formats_are_looked_at_as_values_are() -> None:
    roots = with_nested(Doc())
    roots.text("body").append("abc")
    nested_text = roots.nested_text(roots.map("nested"), "text")
    for text in (roots.text("body"), nested_text):
        with pytest.raises(ValueError, match="an integer of 64 bits"):
            text.format(0, 1, {"size": 1 << 63})
        with pytest.raises(ValueError, match="an integer of 64 bits"):
            text.insert(0, "x", {"size": 1 << 63})


def test_a_map_that_the_app_made_is_looked_at_when_it_is_in_a_document() -> None:
    mine: Map[Any] = Map({"a": 1})
    Roots(Doc()).map("map")["mine"] = mine
    with pytest.raises(ValueError, match="an integer of 64 bits"):
        mine["b"] = 1 << 63


def test_what_can_be_in_a_document_is_as_it_was() -> None:
    values: dict[str, Any] = {
        "none": None, "yes": True, "big": (1 << 63) - 1, "small": -(1 << 63), "half": 0.5, "text": "äöü 👋",
        "bytes": b"\xff", "list": [1, [2]], "map": {"a": {"b": []}},
    }  # fmt: skip
    roots = with_nested(Doc())
    roots.map("map").update(values)
    assert roots.map("map").to_py() == values
    roots.map("map")["tree"] = Map({"list": Array([Text("leaf")]), "deep": Map({"x": 1})})
    assert roots.map("map")["tree"].to_py() == {"list": ["leaf"], "deep": {"x": 1}}
    roots.map("map")["tree"]["deep"]["y"] = 2
    assert roots.map("map")["tree"]["deep"]["y"] == 2


def test_an_edit_with_such_a_value_is_not_made() -> None:
    rig = Rig(FakeServer()).start().type("a").settle()

    def change(roots: Roots) -> None:
        roots.text("body").append("b")
        roots.map("map")["key"] = 1 << 63

    with pytest.raises(ValueError, match="an integer of 64 bits"):
        rig.edit(change)
    assert rig.text == "a"
    assert rig.type("c").settle().text == "ac"
