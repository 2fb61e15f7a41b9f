"""A document's content as JSON values, and the one form in which they are compared."""

from __future__ import annotations

import json
from hashlib import blake2b
from typing import Any, TypeAlias, cast

from pycrdt import Array, Doc, Map, Text, XmlElement, XmlFragment, XmlText

from crdt.library import guarded
from crdt.protocol.frames import DIGEST_BYTES
from crdt.update import RootKind, StateVector, read_update, root_kinds

Values: TypeAlias = dict[str, Any]
"""JSON values of a document's roots by name; roots without content are left out."""


def values_of(state: bytes) -> Values:
    """The JSON values of a whole document's v1 update.

    Roots are read by the kind their content shows (`root_kinds`); those without content are left out.
    Raises BadUpdate or ReplicaBroken.
    """
    kinds = root_kinds(read_update(state))
    with guarded():
        doc: Doc[Any] = Doc()
        doc.apply_update(state)
        values = {name: _read_root(doc, name, kinds[name]) for name in sorted(kinds)}
    return {name: value for name, value in values.items() if value}


def canonical_json(value: Any) -> bytes:
    """JSON with sorted keys and no spaces, in UTF-8: equal values give equal bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def digest(state_vector: StateVector, values: Values) -> bytes:
    """BLAKE2b-128 of the canonical JSON of [[client, clock] ascending, values]."""
    subject = [sorted([client, clock] for client, clock in state_vector.items()), values]
    return blake2b(canonical_json(subject), digest_size=DIGEST_BYTES).digest()


def _read_root(doc: Doc[Any], name: str, kind: RootKind) -> Any:
    match kind:
        case RootKind.TEXT:
            return str(doc.get(name, type=Text))
        case RootKind.MAP:
            return _plain(doc.get(name, type=Map))
        case RootKind.ARRAY:
            return _plain(doc.get(name, type=Array))
        case RootKind.XML:
            return _plain(doc.get(name, type=XmlFragment))


def _plain(value: Any) -> Any:
    """A value of the library as JSON can hold it."""
    match value:
        case Map() | Array() | XmlElement() | XmlFragment() | Text() | XmlText() | Doc():
            return _plain_type(value)
        case bytes() | bytearray():
            return {"$bytes": value.hex()}
        case dict():
            return {key: _plain(item) for key, item in value.items()}
        case list():
            return [_plain(item) for item in value]
        case float():
            return _number(value)
        case _:
            return value


def _plain_type(value: Map[Any] | Array[Any] | XmlElement | XmlFragment | Text | XmlText | Doc[Any]) -> Any:
    match value:
        case Map():
            return {key: _plain(value[key]) for key in value.keys()}  # noqa: SIM118 - a Map does not iterate keys
        case Array():
            return [_plain(item) for item in value]
        case XmlElement():
            attributes = {key: _plain(text) for key, text in cast("Any", value.attributes)}
            return {"tag": value.tag, "attributes": attributes, "children": _children(value)}
        case XmlFragment():
            return _children(value)
        case Doc():
            return {"$doc": value.guid}
        case Text():
            return str(value)
        case XmlText():  # str() would write formats as tags, their attributes in an order of chance
            return "".join(part for part, _ in value.diff() if isinstance(part, str))


def _children(node: XmlElement | XmlFragment) -> list[Any]:
    return [_plain(child) for child in node.children]


def _number(value: float) -> int | float | dict[str, str]:
    """Whole numbers as integers, as JavaScript writes them; what JSON cannot hold by name."""
    if value != value or value in (float("inf"), float("-inf")):
        return {"$number": str(value)}
    return int(value) if value.is_integer() and abs(value) < 1 << 53 else value
