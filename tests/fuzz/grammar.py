"""Updates that are right by the grammar, and refer to what a document has: in the right way, mostly."""

from __future__ import annotations

from random import Random

from crdt.update import Id
from tests.fuzz import contents
from tests.fuzz.atlas import Atlas, Lane
from tests.fuzz.raw import (
    ANY,
    ARRAY_TYPE,
    BINARY,
    DELETED,
    DOC,
    EMBED,
    FORMAT,
    GC,
    MAP_TYPE,
    STRING,
    TEXT_TYPE,
    TYPE,
    XML_ELEMENT,
    XML_FRAGMENT,
    XML_TEXT,
    Piece,
    Raw,
    Section,
    container,
    values,
)

_ARRAY = (DELETED, BINARY, TYPE, TYPE, ANY, ANY, ANY, DOC)
_TEXT = (DELETED, STRING, STRING, STRING, EMBED, FORMAT, FORMAT, TYPE)
_XML = (DELETED, TYPE, TYPE, TYPE)
_KEYED = (DELETED, BINARY, TYPE, TYPE, ANY, ANY, ANY, DOC)
_ALL = (GC, DELETED, BINARY, STRING, EMBED, FORMAT, TYPE, ANY, DOC)
_IN_LIST = {
    ARRAY_TYPE: _ARRAY,
    TEXT_TYPE: _TEXT,
    XML_TEXT: _TEXT,
    XML_ELEMENT: _XML,
    XML_FRAGMENT: _XML,
}
_XML_TYPES = (XML_ELEMENT, XML_ELEMENT, XML_FRAGMENT, XML_TEXT)


def compose(random: Random, atlas: Atlas, clients: tuple[int, ...]) -> Raw:
    """An update for the document that `atlas` describes. How wild it is differs from update to update."""
    return _Composer(random, atlas, clients, random.choice((0.0, 0.0, 0.01, 0.05))).compose()


class _Composer:
    """`wild` is how often each choice is made without regard for the rules."""

    def __init__(self, random: Random, atlas: Atlas, clients: tuple[int, ...], wild: float) -> None:
        self.random = random
        self.atlas = atlas
        self.clients = clients
        self.wild = wild
        self.made: dict[int, Section] = {}
        self.placed: dict[Lane, list[Id]] = {}
        self.types: list[tuple[Id, int]] = []

    def is_wild(self) -> bool:
        return self.random.random() < self.wild

    def compose(self) -> Raw:
        random = self.random
        chosen = random.sample(self.clients, min(random.choice((0, 1, 1, 1, 1, 2, 2, 3)), len(self.clients)))
        for client in chosen:
            self.made[client] = Section(client, self._start(client))
        for _ in range(random.choice((1, 1, 1, 2, 3, 5, 8)) * len(chosen)):
            self._go_on(self.made[random.choice(chosen)])
        sections = [section for section in self.made.values() if section.pieces or self.is_wild()]
        random.shuffle(sections)
        return Raw(sections, self._deletes() if random.random() < 0.45 else [])

    def _start(self, client: int) -> int:
        """Where it goes on; at times it repeats what it has written, in other words."""
        known = self.atlas.clocks.get(client, 0)
        return max(0, known - self.random.randrange(1, 4)) if self.random.random() < 0.08 else known

    def _go_on(self, section: Section) -> None:
        random = self.random
        if random.random() < 0.04:
            section.pieces.append(contents.piece(random, GC))
            return
        clock = section.end
        piece = self._with_place(section)
        section.pieces.append(piece)
        lane = self._lane_of(piece)
        self.placed.setdefault(lane, []).append(Id(section.client, clock + random.randrange(max(1, piece.length))))
        if piece.kind == TYPE:
            self.types.append((Id(section.client, clock), piece.body[0]))

    def _with_place(self, section: Section) -> Piece:
        random = self.random
        lanes = self._lanes()
        if lanes and random.random() < 0.65:
            lane = random.choice(lanes)
            piece = self._content(lane)
            piece.origin, piece.right = self._neighbours(lane, section)
            if piece.origin is not None or piece.right is not None:
                return piece
        lane = self._new_lane()
        piece = self._content(lane)
        piece.parent, piece.key = lane
        return piece

    def _lanes(self) -> list[Lane]:
        return [lane for lane in (*self.atlas.lanes, *self.placed) if lane[0] not in self.atlas.private]

    def _neighbours(self, lane: Lane, section: Section) -> tuple[Id | None, Id | None]:
        random = self.random
        choice = random.random()
        if section.pieces and choice < 0.2:
            return Id(section.client, max(0, section.end - 1)), None
        left = self._spot(lane) if choice < 0.8 else None
        right = self._spot(lane) if choice > 0.6 and (lane[1] is None or self.is_wild()) else None
        if left and right and left.client == right.client and left > right and random.random() < 0.9:
            left, right = right, left
        return left, right

    def _spot(self, lane: Lane) -> Id | None:
        if self.is_wild():
            lane = self.random.choice(self._lanes() or [lane])
        known, fresh = self.atlas.lanes.get(lane, ()), self.placed.get(lane, ())
        if fresh and (not known or self.random.random() < 0.4):
            return self.random.choice(fresh)
        return self.random.choice(known).some(self.random) if known else None

    def _lane_of(self, piece: Piece) -> Lane:
        for beside in (piece.origin, piece.right):
            if beside is not None:
                for lane, ids in self.placed.items():
                    if beside in ids:
                        return lane
        return self.atlas.lane_of(piece)

    def _new_lane(self) -> Lane:
        random = self.random
        known = [(Id(spot.client, spot.clock), spot.shape) for spot in self.atlas.types]
        if (known or self.types) and random.random() < 0.55:
            inner, shape = random.choice(self.types if not known or (self.types and random.random() < 0.4) else known)
            keyed = shape == MAP_TYPE or (shape != ARRAY_TYPE and random.random() < 0.3)
            return inner, random.choice(contents.KEYS) if keyed != self.is_wild() else None
        if self.is_wild() and self.atlas.clocks:
            client = random.choice(list(self.atlas.clocks))
            return Id(client, random.randrange(self.atlas.clocks[client])), None
        return random.choice(contents.ROOTS), random.choice(contents.KEYS) if random.random() < 0.35 else None

    def _content(self, lane: Lane) -> Piece:
        random = self.random
        if self.is_wild():
            return contents.bad_piece(random) if random.random() < 0.3 else contents.piece(random, random.choice(_ALL))
        parent, key = lane
        shape = self._shape(parent)
        if key is not None:
            return self._keyed(shape)
        if shape is None:
            return contents.piece(random, random.choice(self._kinds_of_root(str(parent))))
        kind = random.choice(_IN_LIST.get(shape, _ALL))
        if kind == TYPE and shape in (XML_ELEMENT, XML_FRAGMENT):
            return container(random.choice(_XML_TYPES))
        return contents.piece(random, kind)

    def _keyed(self, shape: int | None) -> Piece:
        kind = ANY if shape == XML_ELEMENT else self.random.choice(_KEYED)
        if kind == ANY and self.random.random() < 0.9:
            return values([contents.value(self.random)])
        return contents.piece(self.random, kind)

    def _shape(self, parent: str | Id) -> int | None:
        if isinstance(parent, str):
            return None
        fresh = dict(self.types)
        return fresh[parent] if parent in fresh else self.atlas.shape_of(parent)

    def _kinds_of_root(self, root: str) -> tuple[int, ...]:
        told = self.atlas.holds_text(root)
        if told is None:
            return {"text": _TEXT, "array": _ARRAY, "xml": _XML}.get(root, _TEXT + _ARRAY)
        return _TEXT if told else _ARRAY

    def _deletes(self) -> list[tuple[int, list[tuple[int, int]]]]:
        random = self.random
        ends = {**self.atlas.clocks, **{section.client: section.end for section in self.made.values()}}
        found = []
        for client in ends:
            ranges, at = [], 0
            for _ in range(random.choice((0, 0, 1, 1, 2, 4))):
                start = at + random.randrange(max(1, ends[client] - at))
                length = min(random.choice((1, 1, 2, 3, 6, 40)), ends[client] - start)
                if length > 0:
                    ranges.append((start, length))
                    at = start + length
            if ranges:
                found.append((client, ranges))
        return found
