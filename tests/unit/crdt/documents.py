"""Documents and bytes that the tests of `crdt` are made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pycrdt import Array, Doc, Map, Text, XmlFragment

from crdt.update.decoder import write_uint

Change = Callable[[Doc[Any]], object]

PANIC_BASE = bytes.fromhex("01010100040101740b68656c6c6f20776f726c6400")
PANIC = bytes.fromhex("0100010000")
"""An empty section of a client that the document at PANIC_BASE has: the library panics on it."""


def uint(value: int) -> bytes:
    out = bytearray()
    write_uint(out, value)
    return bytes(out)


def made(*changes: Change, client_id: int = 1) -> bytes:
    """The whole state after these changes, each in its own transaction of `client_id`."""
    doc: Doc[Any] = Doc(client_id=client_id)
    for change in changes:
        with doc.transaction():
            change(doc)
    return doc.get_update()


def made_after(doc: Doc[Any], change: Change) -> bytes:
    """What `change` adds to `doc`, as one update."""
    before = doc.get_state()
    with doc.transaction():
        change(doc)
    return doc.get_update(before)


def text(doc: Doc[Any], name: str = "text") -> Text:
    found: Text = doc.get(name, type=Text)
    return found


def delete(doc: Doc[Any], start: int, end: int, name: str = "text") -> None:
    """Take bytes `start` up to `end` out of a text."""
    del text(doc, name)[start:end]


def array(doc: Doc[Any], name: str = "array") -> Array[Any]:
    found: Array[Any] = doc.get(name, type=Array)
    return found


def mapping(doc: Doc[Any], name: str = "map") -> Map[Any]:
    found: Map[Any] = doc.get(name, type=Map)
    return found


def xml(doc: Doc[Any], name: str = "xml") -> XmlFragment:
    found: XmlFragment = doc.get(name, type=XmlFragment)
    return found


def sections(*structs: bytes, client: int = 5, deletes: bytes = b"\x00") -> bytes:
    """An update of one client from clock 0, put together by hand."""
    return bytes([1, len(structs), client, 0]) + b"".join(structs) + deletes
