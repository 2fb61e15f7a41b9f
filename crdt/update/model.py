"""A v1 update as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, TypeAlias

StateVector: TypeAlias = dict[int, int]
"""Client id to the first clock that is missing."""

CLIENT_MAX = (1 << 53) - 1
CLOCK_MAX = (1 << 31) - 1
DEPTH_MAX = 32
"""Lists and maps within lists and maps, in one embedded value."""


class Id(NamedTuple):
    """One unit of content: `clock` counts what `client` wrote."""

    client: int
    clock: int


class Content(StrEnum):
    """What a struct holds, by the names of Yjs."""

    GC = "gc"
    DELETED = "deleted"
    BINARY = "binary"
    STRING = "string"
    EMBED = "embed"
    FORMAT = "format"
    TYPE = "type"
    ARRAY_TYPE = "array_type"
    XML_TYPE = "xml_type"
    ANY = "any"
    DOC = "doc"


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
    structs stand beside or within, what it deletes.
    """

    sections: dict[int, tuple[int, int]]
    structs: list[Struct]
    deletes: list[DeleteRange]
    needs: list[Id]

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
