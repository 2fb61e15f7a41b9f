"""A msgpack message as annotated hex: how docs/PROTOCOL.md shows its examples, and how a test keeps them true."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import msgpack

from crdt.protocol import codec
from crdt.protocol.frames import Open

WIRE_NAMES = {"state_vector": "sv"}
"""What the reference calls fields that the code spells out."""

COMMENT_COLUMN = 52


class Node(NamedTuple):
    """One msgpack value: its bytes without those of its items, and what it is."""

    depth: int
    data: bytes
    label: str

    def __str__(self) -> str:
        return f"{'  ' * self.depth}{self.data.hex()}".ljust(COMMENT_COLUMN) + f" ; {self.label}"


def annotated(data: bytes, frame: type[Any]) -> str:
    """The message as lines of hex, each with a comment. `frame` names the fields."""
    value = msgpack.unpackb(data)
    head, *items = _split(data, value)
    lines = [Node(0, head, f"array of {len(value)}: {frame.__name__}")]
    names = ["type", *field_names(frame)]
    for index, item in enumerate(items):
        name = names[index] if index < len(names) else "appended later"
        lines.extend(_nodes(item, value[index], name, 1))
    return "\n".join(map(str, lines))


def field_names(frame: type[Any]) -> list[str]:
    """The fields of a frame in wire order, by the names of the reference."""
    return [WIRE_NAMES.get(name, name) for name in codec.field_names(frame)]


def _nodes(data: bytes, value: Any, name: str, depth: int) -> Iterator[Node]:
    head, *items = _split(data, value)
    yield Node(depth, head, f"{name}: {_summary(value)}")
    if isinstance(value, list):
        names = _item_names(name, len(value))
        for item, part, label in zip(items, value, names, strict=True):
            yield from _nodes(item, part, label, depth + 1)
    elif isinstance(value, dict):
        for item, pair in zip(items, value.items(), strict=True):
            key = msgpack.packb(pair[0])
            yield Node(depth + 1, key, "key")
            yield from _nodes(item[len(key) :], pair[1], pair[0], depth + 1)


def _item_names(name: str, count: int) -> list[str]:
    known = {
        "cursor": ["epoch", "seq"],
        "resume": ["payload_id", "offset"],
        "open": field_names(Open),
    }.get(name, [])
    single = {"opens": "open", "updates": "update"}.get(name, "item")
    return known[:count] or [single] * count


def _summary(value: Any) -> str:
    match value:
        case bytes():
            return f"bin, {len(value)} bytes"
        case list():
            return f"array of {len(value)}"
        case dict():
            return f"map of {len(value)}"
        case None:
            return "nil"
        case bool():
            return str(value).lower()
        case str():
            return f'"{value}"'
        case _:
            return str(value)


def _split(data: bytes, value: Any) -> list[bytes]:
    """The head of a container and then its items; a scalar is all head."""
    match value:
        case list():
            parts = [msgpack.packb(item) for item in value]
        case dict():
            parts = [msgpack.packb(key) + msgpack.packb(item) for key, item in value.items()]
        case _:
            return [data]
    head = data[: len(data) - sum(map(len, parts))]
    assert head + b"".join(parts) == data, "not the shortest encoding"
    return [head, *parts]
