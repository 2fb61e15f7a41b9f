"""Random histories of a few devices that edit everything the library offers, and now and then tell each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, TypeAlias

from pycrdt import Array, Doc, Map, Text, XmlElement, XmlFragment, XmlText

from crdt.replica import Replica

WORDS = ("a", "word ", "åäö", "😀", "日本", "👨‍👩‍👧 ", "e\u0301")

Edit: TypeAlias = Callable[[Doc[Any], Random], object]


def _spot(text: Text, random: Random) -> tuple[int, int]:
    """Two borders between characters, as the UTF-8 offsets that the library counts."""
    content = str(text)
    first, last = sorted(random.randint(0, len(content)) for _ in range(2))
    return len(content[:first].encode()), len(content[:last].encode())


def _type(doc: Doc[Any], random: Random) -> None:
    text: Text = doc.get("text", type=Text)
    text.insert(_spot(text, random)[0], random.choice(WORDS))


def _erase(doc: Doc[Any], random: Random) -> None:
    text: Text = doc.get("text", type=Text)
    start, end = _spot(text, random)
    if start < end:
        del text[start:end]


def _format(doc: Doc[Any], random: Random) -> None:
    text: Text = doc.get("text", type=Text)
    start, end = _spot(text, random)
    if start < end:
        text.format(start, end, {random.choice(("bold", "href")): random.choice((True, None, "x"))})


def _embed(doc: Doc[Any], random: Random) -> None:
    text: Text = doc.get("styled", type=Text)
    text.insert_embed(0, {"image": random.randint(0, 9)})


def _set(doc: Doc[Any], random: Random) -> None:
    values: tuple[Any, ...] = (1, 2.5, "w😀", b"\x00\xff", None, True, [1, {"a": "b"}], Map({"in": Text("m")}))
    mapping: Map[Any] = doc.get("map", type=Map)
    mapping[random.choice("xyz")] = random.choice(values)


def _unset(doc: Doc[Any], random: Random) -> None:
    mapping: Map[Any] = doc.get("map", type=Map)
    keys = sorted(mapping.keys())
    if keys:
        del mapping[random.choice(keys)]


def _push(doc: Doc[Any], random: Random) -> None:
    array: Array[Any] = doc.get("array", type=Array)
    values: tuple[Any, ...] = (7, "item 😀", Array([1, "two"]), Map({"k": Array()}), Text("nested 😀"))
    array.insert(random.randint(0, len(array)), random.choice(values))


def _pull(doc: Doc[Any], random: Random) -> None:
    array: Array[Any] = doc.get("array", type=Array)
    if len(array):
        del array[random.randrange(len(array))]


def _nested(doc: Doc[Any], random: Random) -> None:
    array: Array[Any] = doc.get("array", type=Array)
    for item in array:
        if isinstance(item, Text):
            item.insert(_spot(item, random)[0], random.choice(WORDS))
        elif isinstance(item, Array):
            item.append(random.randint(0, 99))
        elif isinstance(item, Map):
            item["n"] = random.randint(0, 99)


def _markup(doc: Doc[Any], random: Random) -> None:
    xml: XmlFragment = doc.get("xml", type=XmlFragment)
    node = random.choice((XmlElement("p", {"class": "c"}, [XmlText("in")]), XmlText("side 😀")))
    xml.children.insert(random.randint(0, len(xml.children)), node)


EDITS: tuple[Edit, ...] = (
    *(_type, _type, _type, _erase, _format, _embed, _set, _set, _unset, _push, _pull, _nested, _markup),
)


@dataclass(slots=True)
class History:
    """What happened: each device's replica, every update an edit made, and states that devices were in."""

    replicas: list[Replica]
    updates: list[bytes] = field(default_factory=list)
    states: list[bytes] = field(default_factory=list)


def happen(seed: int, devices: int = 3, steps: int = 30, edits: Sequence[Edit] = EDITS) -> History:
    """A history drawn from `seed`: the same one each time."""
    random = Random(seed)
    history = History([Replica(client_id) for client_id in range(1, devices + 1)])
    for _ in range(steps):
        replica = random.choice(history.replicas)
        if random.random() < 0.15:
            exchange(replica, random.choice(history.replicas))
        else:
            update = _edit(replica, random, edits)
            if update is not None:
                history.updates.append(update)
        history.states.append(replica.state())
    return history


def _edit(replica: Replica, random: Random, edits: Sequence[Edit]) -> bytes | None:
    edit = random.choice(edits)
    return replica.edit(lambda doc: edit(doc, random))


def exchange(left: Replica, right: Replica) -> None:
    """Each gets what it lacks of the other."""
    to_right, to_left = left.diff(right.state_vector_bytes()), right.diff(left.state_vector_bytes())
    right.apply([to_right])
    left.apply([to_left])


def converge(history: History) -> None:
    """Everyone gets everything, through the first device."""
    first, *others = history.replicas
    for _ in range(2):
        for other in others:
            exchange(first, other)
