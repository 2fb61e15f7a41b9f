"""What a writer of updates knows of a document: who wrote what, and where it is."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from random import Random
from typing import NamedTuple, TypeAlias

from crdt.update import Id
from tests.fuzz.raw import DELETED, GC, TYPE, XML_SHAPES, Piece, Raw

Lane: TypeAlias = tuple[str | Id, str | None]
"""A container, and a key of it or None for its list."""

LOST: Lane = ("", "?")


class Spot(NamedTuple):
    """A run of one client's clocks in one lane."""

    client: int
    clock: int
    length: int
    lane: Lane
    kind: int
    shape: int
    """Of a type: which one. -1 for all else."""

    def some(self, random: Random) -> Id:
        return Id(self.client, self.clock + random.choice((0, self.length - 1, random.randrange(self.length))))


class Atlas:
    """Grows with every update; content is found by id or by lane, deleted content too.

    Nobody but their owner writes into the list of `private` roots.
    """

    def __init__(self, private: frozenset[str] = frozenset()) -> None:
        self.private = private
        self.clocks: dict[int, int] = {}
        self.lanes: dict[Lane, list[Spot]] = {}
        self.types: list[Spot] = []
        self._starts: dict[int, list[int]] = {}
        self._spots: dict[int, list[Spot]] = {}

    def add(self, raw: Raw) -> None:
        """Take in an update that lacks nothing."""
        waiting = [(section.client, section.clock, iter(section.pieces)) for section in raw.sections]
        for client, clock, pieces in waiting:
            self._add_run(client, clock, pieces)

    def _add_run(self, client: int, clock: int, pieces: Iterator[Piece]) -> None:
        for piece in pieces:
            known = self.clocks.get(client, 0)
            fresh = clock + piece.length - known
            if fresh > 0:
                self.put(client, known, fresh, piece)
            clock += piece.length

    def put(self, client: int, clock: int, length: int, piece: Piece) -> Spot:
        lane = LOST if piece.kind == GC else self.lane_of(piece)
        shape = piece.body[0] if piece.kind == TYPE else -1
        spot = Spot(client, clock, length, lane, piece.kind, shape)
        self._starts.setdefault(client, []).append(clock)
        self._spots.setdefault(client, []).append(spot)
        self.clocks[client] = clock + length
        self.lanes.setdefault(lane, []).append(spot)
        if piece.kind == TYPE:
            self.types.append(spot)
        return spot

    def lane_of(self, piece: Piece) -> Lane:
        for beside in (piece.origin, piece.right):
            if beside is not None:
                found = self.at(beside)
                return found.lane if found else LOST
        return (piece.parent if piece.parent is not None else "", piece.key)

    def at(self, ref: Id) -> Spot | None:
        index = bisect_right(self._starts.get(ref.client, []), ref.clock) - 1
        return self._spots[ref.client][index] if index >= 0 else None

    def shape_of(self, container: str | Id) -> int | None:
        """Which type is there; None for a root and for what is none."""
        if isinstance(container, str):
            return None
        spot = self.at(container)
        return spot.shape if spot and spot.kind == TYPE else None

    def holds_xml_alone(self, root: str) -> bool:
        """Whether nothing else is in the list of a root."""
        spots = self.lanes.get((root, None), ())
        return all(spot.kind == DELETED or (spot.kind == TYPE and spot.shape in XML_SHAPES) for spot in spots)

    def holds_text(self, root: str) -> bool | None:
        """Whether a root is a text (True), an array (False), or nobody can tell."""
        kinds = {spot.kind for spot in self.lanes.get((root, None), ())} - {DELETED, TYPE}
        if not kinds:
            return None
        return bool(kinds & {4, 5, 6})
