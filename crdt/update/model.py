"""A v1 update as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NamedTuple, TypeAlias

StateVector: TypeAlias = dict[int, int]
"""Client id to the first clock that is missing."""

CLIENT_MAX: Final = (1 << 53) - 1
CLOCK_MAX: Final = (1 << 31) - 1


class Id(NamedTuple):
    """One unit of content: `clock` counts what `client` wrote."""

    client: int
    clock: int


class Content(StrEnum):
    """What a struct holds, by the names of Yjs; nested types each by their own."""

    GC = "gc"
    DELETED = "deleted"
    BINARY = "binary"
    STRING = "string"
    EMBED = "embed"
    FORMAT = "format"
    ANY = "any"
    DOC = "doc"
    ARRAY_TYPE = "array_type"
    MAP_TYPE = "map_type"
    TEXT_TYPE = "text_type"
    XML_ELEMENT = "xml_element"
    XML_FRAGMENT = "xml_fragment"
    XML_TEXT = "xml_text"


XML_TYPES = frozenset((Content.XML_ELEMENT, Content.XML_FRAGMENT, Content.XML_TEXT))
TYPES = XML_TYPES | {Content.ARRAY_TYPE, Content.MAP_TYPE, Content.TEXT_TYPE}


class Struct(NamedTuple):
    """One run of content. `origin` and `right_origin` are its neighbours when it was inserted.

    A struct without both says where it goes: `parent` is a root's name or the id of a nested type, `key` a map key.
    """

    client: int
    clock: int
    length: int
    content: Content
    origin: Id | None = None
    right_origin: Id | None = None
    parent: str | Id | None = None
    key: str | None = None


class DeleteRange(NamedTuple):
    """Clocks `start` up to but not including `end` of `client` are deleted."""

    client: int
    start: int
    end: int


@dataclass(slots=True)
class Update:
    """A v1 update, read. `sections` gives each client's clock range [start, end).

    `needs` are the ids outside of it that must exist for it to be complete: what its sections continue, what its
    structs stand beside or within, what it deletes. `pairs` are the second halves of surrogate pairs in its strings,
    ascending by clock within each client: nothing may come between the two.
    """

    sections: dict[int, tuple[int, int]]
    structs: list[Struct]
    deletes: list[DeleteRange]
    needs: list[Id]
    pairs: list[Id] = field(default_factory=list)

    def missing(self, known: Mapping[int, int]) -> Id | None:
        """The first id that this update builds on and that is neither in `known` nor in itself; None if it fits."""
        for ref in self.needs:
            if ref.clock >= known.get(ref.client, 0):
                return ref
        return None

    def advance(self, known: StateVector) -> bool:
        """Move the state vector `known` to where it is once this update is in. True if that changed it."""
        changed = False
        for client, (_, end) in self.sections.items():
            if end > known.get(client, 0):
                known[client] = end
                changed = True
        return changed
