"""What the roots of a document are, told from its structs."""

from __future__ import annotations

from bisect import bisect_right
from enum import StrEnum
from typing import TypeAlias

from crdt.errors import BadUpdate
from crdt.update.model import XML_TYPES, Content, Id, Struct, Update


class RootKind(StrEnum):
    """What a root is, as far as its content tells."""

    MAP = "map"
    ARRAY = "array"
    XML = "xml"
    TEXT = "text"


def root_kinds(state: Update) -> dict[str, RootKind]:
    """What each root of a *whole* document is, told from its structs: `state` must lack nothing.

    A map key makes a map; strings and formats make a text; XML types make XML; anything else makes an array. Where a
    root holds several, the later of map, array, XML, text wins: texts and XML have attributes, texts hold types.
    A root with nothing left but deleted content has no kind; its value is empty whatever it was.

    Raises BadUpdate for a string within a nested array: no library writes that, and reading it may never end.
    """
    arrays = {Id(struct.client, struct.clock) for struct in state.structs if struct.content is Content.ARRAY_TYPE}
    kinds: dict[str, RootKind] = {}
    for struct, (parent, key) in zip(state.structs, _placements(state.structs), strict=True):
        if struct.content is Content.STRING and key is None and parent in arrays:
            raise BadUpdate("unsupported", "a string within an array")
        if type(parent) is not str or struct.content in (Content.GC, Content.DELETED):
            continue
        kind = RootKind.MAP if key is not None else _list_kind(struct.content)
        kinds[parent] = max(kinds.get(parent, kind), kind, key=_KIND_ORDER.index)
    return kinds


_KIND_ORDER = (RootKind.MAP, RootKind.ARRAY, RootKind.XML, RootKind.TEXT)


def _list_kind(content: Content) -> RootKind:
    if content in (Content.STRING, Content.FORMAT, Content.EMBED):
        return RootKind.TEXT
    return RootKind.XML if content in XML_TYPES else RootKind.ARRAY


_Place: TypeAlias = tuple[str | Id | None, str | None]
_NOWHERE: _Place = (None, None)


def _placements(structs: list[Struct]) -> list[_Place]:
    """The (parent, key) of each struct: its own, or that of the neighbour it was inserted beside."""
    starts: dict[int, list[int]] = {}
    indices: dict[int, list[int]] = {}
    for index, struct in enumerate(structs):
        starts.setdefault(struct.client, []).append(struct.clock)
        indices.setdefault(struct.client, []).append(index)
    places: list[_Place | None] = [None] * len(structs)
    for index in range(len(structs)):
        path = []
        at = index
        while (place := places[at]) is None:
            neighbour = structs[at].origin or structs[at].right_origin
            if neighbour is None:
                place = places[at] = (structs[at].parent, structs[at].key)
                break
            path.append(at)
            places[at] = _NOWHERE  # where a damaged update refers in a circle, the circle ends here
            found = bisect_right(starts.get(neighbour.client, ()), neighbour.clock) - 1
            if found < 0:
                place = _NOWHERE
                break
            at = indices[neighbour.client][found]
        for passed in path:
            places[passed] = place
    return [place or _NOWHERE for place in places]
