"""A device that edits with the library itself, whatever it finds in the document."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Any, TypeAlias

from pycrdt import Array, Doc, Map, Text, XmlElement, XmlFragment, XmlText

from crdt.update import RootKind
from tests.fuzz.raw import parse
from tests.independent.updates import canonical, plain

KINDS: dict[str, type[Any]] = {
    RootKind.TEXT: Text,
    RootKind.MAP: Map,
    RootKind.ARRAY: Array,
    RootKind.XML: XmlFragment,
}
SCHEMA = {"text": RootKind.TEXT, "map": RootKind.MAP, "array": RootKind.ARRAY, "xml": RootKind.XML}
"""What the app uses in a document that has nothing yet."""

WORDS = ("a", "word ", "åäö", "😀", "日本", "👨‍👩‍👧 ", "e\u0301", "\n")
KEYS = ("x", "y", "😀", "")

Node: TypeAlias = "Map[Any] | Array[Any] | XmlElement | XmlFragment | Text | XmlText"
_DEPTH_MAX = 12
"""It looks no deeper for something to edit, and stays far from the limit."""


class Phone:
    """`doc` gets updates one by one, as they were logged, and edits on top."""

    def __init__(self, client: int) -> None:
        self.doc: Doc[Any] = Doc(client_id=client)

    def receive(self, update: bytes) -> None:
        self.doc.apply_update(update)

    def edit(self, random: Random, kinds: Mapping[str, str]) -> bytes | None:
        """One transaction somewhere in the roots of these kinds; the update, None if it changed nothing."""
        made: list[bytes] = []
        subscription = self.doc.observe(lambda event: made.append(event.update))
        with self.doc.transaction():
            for _ in range(random.choice((1, 1, 1, 2, 4))):
                root = random.choice(list(kinds))
                _edit(self.doc.get(root, type=KINDS[kinds[root]]), random, _DEPTH_MAX)
        self.doc.unobserve(subscription)
        return _in_order(made[0]) if made else None

    def shown(self, kinds: Mapping[str, str]) -> str:
        """What a user would see in these roots."""
        return shown(self.doc, kinds)


def _in_order(update: bytes) -> bytes:
    """The library writes the clients of a delete set in an order of chance: no case would be the same twice."""
    raw = parse(update)
    raw.deletes.sort()
    return raw.encode()


def shown(doc: Doc[Any], kinds: Mapping[str, str]) -> str:
    """Canonical JSON of the roots that are not empty."""
    found = {name: plain(doc.get(name, type=KINDS[kind])) for name, kind in kinds.items()}
    return canonical({name: _numbers(value) for name, value in found.items() if value not in ("", [], {})})


def _numbers(value: Any) -> Any:
    """The library stores a bigint as a float where it takes that for as exact."""
    match value:
        case dict():
            return {key: _numbers(item) for key, item in value.items()}
        case list():
            return [_numbers(item) for item in value]
        case int() if abs(value) >= 1 << 53:
            return float(value)
        case _:
            return value


def _edit(node: Node, random: Random, depth: int) -> None:
    inner = _inner(node)
    if inner and depth and random.random() < 0.45:
        _edit(random.choice(inner), random, depth - 1)
        return
    match node:
        case Map():
            _edit_map(node, random)
        case Array():
            _edit_array(node, random)
        case XmlElement():
            _edit_element(node, random)
        case XmlFragment():
            _edit_children(node, random)
        case XmlText():
            _edit_text(node, "".join(str(part) for part, _ in node.diff() if isinstance(part, str)), random)
        case Text():
            _edit_text(node, str(node), random)


def _inner(node: Node) -> list[Node]:
    match node:
        case Map():
            items = [node[key] for key in sorted(node.keys())]
        case Array():
            items = list(node)
        case XmlElement() | XmlFragment():
            items = list(node.children)
        case _:
            items = []
    return [item for item in items if isinstance(item, Map | Array | XmlElement | XmlFragment | Text | XmlText)]


def _value(random: Random) -> Any:
    nested: tuple[Any, ...] = (
        Map({"in": Text("m😀")}),
        Array([1, "two"]),
        Text("nested 😀"),
        Map({"k": Array([Map()])}),
        Doc(),
    )
    return random.choice((1, 2.5, "w😀", b"\x00\xff", None, True, [1, {"a": "b"}], *nested[: random.randrange(5)]))


def _edit_map(node: Map[Any], random: Random) -> None:
    keys = sorted(node.keys())
    if keys and random.random() < 0.3:
        del node[random.choice(keys)]
    else:
        node[random.choice((*keys, *KEYS))] = _value(random)


def _edit_array(node: Array[Any], random: Random) -> None:
    if len(node) and random.random() < 0.3:
        del node[random.randrange(len(node))]
    elif len(node) > 1 and random.random() < 0.1:
        node.clear()
    else:
        at = random.randint(0, len(node))
        node.insert(at, _value(random))


def _edit_element(node: XmlElement, random: Random) -> None:
    if random.random() < 0.4:
        node.attributes[random.choice(("class", "href"))] = random.choice(WORDS)
    else:
        _edit_children(node, random)


def _edit_children(node: XmlElement | XmlFragment, random: Random) -> None:
    children = node.children
    if len(children) and random.random() < 0.3:
        del children[random.randrange(len(children))]
        return
    new = random.choice((XmlElement("p", {"class": "c"}, [XmlText("in")]), XmlText("side 😀"), XmlElement("br")))
    children.insert(random.randint(0, len(children)), new)


def _edit_text(node: Text | XmlText, content: str, random: Random) -> None:
    """Between characters: the library counts UTF-8 bytes. Embeds take a place that `content` does not show."""
    if len(node) != len(content.encode()):
        node.insert(0, random.choice(WORDS))
        return
    start, end = (len(content[:at].encode()) for at in sorted(random.randint(0, len(content)) for _ in range(2)))
    choice = random.randrange(8)
    if choice < 4 or start == end:
        node.insert(start, random.choice(WORDS))
    elif choice < 6:
        del node[start:end]
    elif choice < 7:
        node.format(start, end, {random.choice(("bold", "href")): random.choice((True, None, "x"))})
    else:
        node.insert_embed(start, {"image": "😀"})
