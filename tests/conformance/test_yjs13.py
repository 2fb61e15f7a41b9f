"""What Yjs 13 sends through its public API is accepted, and means here what it means there.

`yjs13/fixtures.json` is written by `make yjs-fixtures`. Each fixture has the values that Yjs reads in the end, and the
edits in several deliveries: an update for each transaction, merged, as diffs, and so on.
"""

from __future__ import annotations

import json
from base64 import b64decode
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pycrdt import Doc, Text

from crdt.errors import BadUpdate
from crdt.replica import Replica
from crdt.update import Id, StateVector, read_update, without_right_origins
from crdt.update.layout import Layout
from crdt.values import Values
from tests.independent.updates import ROOTS, plain

FILE = Path(__file__).with_name("yjs13") / "fixtures.json"

SPLIT_PAIR = "the library keeps both halves of a surrogate pair together, where Yjs makes two U+FFFD of them"
LONE_ESCAPE = "the library reads no JSON with an escaped half of a surrogate pair"
WIDE_INTEGER = "the library reads no integer in JSON that takes 64 bits without a sign"
XML_ATTRIBUTE = "the library reads no documents and shared types in attributes"
DEEP = "values within values are read by recursion, so their depth is bounded"

UNSUPPORTED: dict[str, tuple[str, str]] = {
    "text: half of a pair deleted": ("surrogate_split", SPLIT_PAIR),
    "text: written between the halves of a pair": ("surrogate_split", SPLIT_PAIR),
    "text: format between the halves of a pair": ("surrogate_split", SPLIT_PAIR),
    "formats: half of a pair in a value": ("unsupported", LONE_ESCAPE),
    "formats: a value nested 200 deep": ("limit", DEEP),
    "formats: a number from 2^63 to 2^64": ("unsupported", WIDE_INTEGER),
    "embeds: a number from 2^63 to 2^64": ("unsupported", WIDE_INTEGER),
    "embeds: half of a pair": ("unsupported", LONE_ESCAPE),
    "embeds: a value nested 200 deep": ("limit", DEEP),
    "map: a value nested 100 deep": ("limit", DEEP),
    "documents within, meta nested 100 deep": ("limit", DEEP),
    "nested: types 200 deep": ("limit", "types within types are read by recursion, so their depth is bounded"),
    "xml: attributes that are documents": ("schema", XML_ATTRIBUTE),
    "xml: attributes that are shared types": ("schema", XML_ATTRIBUTE),
    "xml: a hook": ("unsupported", "the library does not read a hook's name, and writes states that nobody can read"),
    "the second version of the format": ("unsupported", "devices send the first"),
    "the second version, of an empty document": ("unsupported", "devices send the first"),
    "merged around a gap": ("unsupported", "no device skips what it has written itself"),
    "values as before Yjs 13": ("unsupported", "the library reads one value too many; Yjs 13 writes them no more"),
}
"""Fixtures that are refused: with which reason, and why."""

XML_FIRST = "what holds XML is read as XML, and nothing else in it"

AMBIGUOUS = {
    "embeds: a text of nothing but shared types": "no struct shows a text",
    "text attributes and no text": "no struct shows a text",
    "array: XML between values": XML_FIRST,
    "a long session, seed 1": XML_FIRST,
    "a long session, seed 3": XML_FIRST,
    "a long session, seed 4": XML_FIRST,
}
"""Fixtures with a root that is read as another kind where the app does not say which it is."""


@dataclass(frozen=True, slots=True)
class Fixture:
    name: str
    kinds: dict[str, str]
    values: Values
    """By name, as the app reads the roots that have content."""
    runs: dict[str, list[Any]]
    """Of roots that are texts, [content, attributes] each."""
    deliveries: dict[str, list[bytes]]


def _object(shown: dict[str, Any]) -> Any:
    """Big integers are written by name: JavaScript's other numbers are floats."""
    return int(shown["$int"]) if "$int" in shown else shown


def _number(digits: str) -> int:
    return int(float(digits))


def _fixture(name: str, roots: dict[str, Any], deliveries: dict[str, list[str]]) -> Fixture:
    return Fixture(
        name,
        {root: shown["kind"] for root, shown in roots.items()},
        {root: shown["value"] for root, shown in roots.items() if shown["value"] not in ("", [], {})},
        {root: shown["runs"] for root, shown in roots.items() if "runs" in shown},
        {shape: [b64decode(update) for update in updates] for shape, updates in deliveries.items()},
    )


FIXTURES = {
    made["name"]: _fixture(**made) for made in json.loads(FILE.read_text(), object_hook=_object, parse_int=_number)
}
SUPPORTED = [fixture for name, fixture in FIXTURES.items() if name not in UNSUPPORTED]


def test_the_lists_name_fixtures_that_are_there() -> None:
    assert UNSUPPORTED.keys() | AMBIGUOUS.keys() <= FIXTURES.keys()
    assert not UNSUPPORTED.keys() & AMBIGUOUS.keys()


def received(updates: list[bytes]) -> Replica:
    """A server's replica after these updates of Yjs clients. Raises BadUpdate for the first that it refuses."""
    replica, known, layout = Replica(), StateVector(), Layout()
    for update in updates:
        read = read_update(update)
        assert read.missing(known) is None
        unclear: list[Id] = []
        layout.admit(read, known, unclear=unclear)
        read.advance(known)
        replica.apply([without_right_origins(update, unclear) if unclear else update])
    assert replica.state_vector() == known
    return replica


def as_the_app_reads(state: bytes, kinds: dict[str, str]) -> Values:
    doc: Doc[Any] = Doc()
    doc.apply_update(state)
    values = {name: plain(doc.get(name, type=ROOTS[kind])) for name, kind in kinds.items()}
    return {name: value for name, value in values.items() if value not in ("", [], {})}


def runs(state: bytes, root: str) -> list[Any]:
    doc = Doc[Text]()
    doc.apply_update(state)
    return [[plain(content), attributes or {}] for content, attributes in doc.get(root, type=Text).diff()]


def check_meaning(fixture: Fixture, state: bytes) -> None:
    assert as_the_app_reads(state, fixture.kinds) == fixture.values
    assert {root: runs(state, root) for root in fixture.runs} == fixture.runs


@pytest.mark.parametrize("fixture", SUPPORTED, ids=lambda fixture: fixture.name)
def test_updates_are_accepted_and_mean_what_they_mean_to_yjs(fixture: Fixture) -> None:
    for updates in fixture.deliveries.values():
        check_meaning(fixture, received(updates).state())


@pytest.mark.parametrize("fixture", SUPPORTED, ids=lambda fixture: fixture.name)
def test_a_state_that_was_written_is_accepted_again_and_means_the_same(fixture: Fixture) -> None:
    for updates in fixture.deliveries.values():
        replica = received(updates)
        again = received([replica.state()])
        check_meaning(fixture, again.state())
        assert again.digest() == replica.digest()


@pytest.mark.parametrize("fixture", SUPPORTED, ids=lambda fixture: fixture.name)
def test_updates_that_come_again_change_nothing(fixture: Fixture) -> None:
    for updates in fixture.deliveries.values():
        assert received(updates + updates).digest() == received(updates).digest()


@pytest.mark.parametrize("fixture", SUPPORTED, ids=lambda fixture: fixture.name)
def test_roots_are_told_by_their_content_alone(fixture: Fixture) -> None:
    for updates in fixture.deliveries.values():
        told = received(updates).values() == fixture.values
        assert told is (fixture.name not in AMBIGUOUS)


@pytest.mark.parametrize(("name", "reason"), [(name, reason) for name, (reason, _) in UNSUPPORTED.items()])
def test_what_is_not_supported_is_refused_by_name(name: str, reason: str) -> None:
    fixture = FIXTURES[name]
    with pytest.raises(BadUpdate) as refusal:
        received(next(iter(fixture.deliveries.values())))
    assert refusal.value.detail == {"reason": reason}
