"""Updates that are small to send and dear to apply, each within the grammar."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import TypeAlias

from crdt.update import Id
from tests.fuzz.atlas import Atlas
from tests.fuzz.raw import (
    ARRAY_TYPE,
    DELETED,
    FORMAT,
    GC,
    MAP_TYPE,
    TEXT_TYPE,
    XML_ELEMENT,
    Piece,
    Raw,
    Section,
    container,
    gone,
    string,
    text,
    uint,
    values,
)

Pattern: TypeAlias = Callable[[Random, Atlas, int, int], Raw]
"""Of a document, for a client that writes on, with about so many structs."""

_NULL = b"\x7e"


def pattern(random: Random, atlas: Atlas) -> Raw:
    """One of them, mostly short; at times as long as fits in one turn of the server."""
    client = random.choice((1, 2, 3, 70, 71, 72))
    many = random.choice(_LARGE if random.random() < 0.05 else _SMALL)
    return random.choice(PATTERNS)(random, atlas, client, many)


_SMALL = (2, 3, 5, 10, 30, 60)
_LARGE = (300, 1000, 3000, 6000)


def _section(atlas: Atlas, client: int) -> Section:
    return Section(client, atlas.clocks.get(client, 0))


def _beginning(atlas: Atlas, client: int) -> Piece:
    """The first struct, at the end of what the client wrote last, or in a root of its own."""
    clock = atlas.clocks.get(client, 0)
    spot = atlas.at(Id(client, clock - 1)) if clock else None
    if spot is not None and spot.kind == 4:
        return _right_of(string("a"), Id(client, clock - 1))
    return _within(string("a"), f"p{client}-{clock}")


def _within(piece: Piece, parent: str | Id, key: str | None = None) -> Piece:
    piece.parent, piece.key = parent, key
    return piece


def _right_of(piece: Piece, origin: Id, right: Id | None = None) -> Piece:
    piece.origin, piece.right = origin, right
    return piece


def same_left(random: Random, atlas: Atlas, client: int, many: int) -> Raw:
    """All of them behind the same character."""
    section = _section(atlas, client)
    section.pieces.append(_beginning(atlas, client))
    first = Id(client, section.clock)
    section.pieces += [_right_of(string("b"), first) for _ in range(many)]
    return Raw([section])


def same_left_of_many(random: Random, atlas: Atlas, client: int, many: int) -> Raw:
    """Many clients, each with one struct at the same place."""
    section = _section(atlas, client)
    section.pieces.append(_beginning(atlas, client))
    first = Id(client, section.clock)
    base = random.randrange(1000, 1 << 20)
    others = [Section(base + number, 0, [_right_of(string("c"), first)]) for number in range(many)]
    if random.random() < 0.5:
        random.shuffle(others)
    return Raw([section, *others])


def same_right(random: Random, atlas: Atlas, client: int, many: int) -> Raw:
    """All of them in front of the same character."""
    section = _section(atlas, client)
    section.pieces.append(_beginning(atlas, client))
    first = Id(client, section.clock)
    for _ in range(many):
        piece = string("d")
        piece.right = first
        section.pieces.append(piece)
    return Raw([section])


def splits(random: Random, atlas: Atlas, client: int, many: int) -> Raw:
    """A long string, and others that go within it, in some order."""
    section = _section(atlas, client)
    start = _beginning(atlas, client)
    start.length, start.body = many + 2, text("e" * (many + 2))
    section.pieces.append(start)
    places = list(range(many))
    random.choice((lambda _: None, random.shuffle, list.reverse))(places)
    first = section.clock
    section.pieces += [_right_of(string("f"), Id(client, first + at), Id(client, first + at + 1)) for at in places]
    return Raw([section])


def interleaved(random: Random, atlas: Atlas, client: int, many: int) -> Raw:
    """Two clients, each behind what the other has just written."""
    left, right = _section(atlas, client), _section(atlas, client + 1)
    left.pieces.append(_beginning(atlas, client))
    for _ in range(many // 2):
        right.pieces.append(_right_of(string("g"), Id(client, left.end - 1)))
        left.pieces.append(_right_of(string("h"), Id(client + 1, right.end - 1)))
    return Raw(random.sample([left, right], 2))


def circle(random: Random, atlas: Atlas, client: int, many: int) -> Raw:
    """Two or more clients that each begin behind the other's end."""
    sections = [_section(atlas, client + number) for number in range(random.choice((2, 2, 3)))]
    for section, other in zip(sections, sections[1:] + sections[:1], strict=True):
        section.pieces.append(_right_of(string("i"), Id(other.client, other.clock)))
    return Raw(sections)


def nested(random: Random, atlas: Atlas, client: int, many: int) -> Raw:
    """Types within types, going on where the last update stopped."""
    section = _section(atlas, client)
    shape = random.choice((ARRAY_TYPE, MAP_TYPE, XML_ELEMENT))
    key = "k" if shape == MAP_TYPE else None
    own = [spot for spot in atlas.types if spot.client == client and spot.shape == shape]
    parent: str | Id = Id(client, own[-1].clock) if own else f"n{shape}-{client}"
    for _ in range(min(many, 120)):
        piece = _within(container(shape), parent, None if isinstance(parent, str) else key)
        parent = Id(client, section.end)
        section.pieces.append(piece)
    return Raw([section])


def overwritten(random: Random, atlas: Atlas, client: int, many: int) -> Raw:
    """Values of one key, each over the one before, or all over the first."""
    section = _section(atlas, client)
    section.pieces.append(_within(values([_NULL]), f"o{client}-{section.clock}", "k"))
    chained = random.random() < 0.5
    for _ in range(many):
        origin = Id(client, section.end - 1 if chained else section.clock)
        section.pieces.append(_right_of(values([_NULL]), origin))
    return Raw([section])


def put_back(random: Random, atlas: Atlas, client: int, many: int) -> Raw:
    """What an undo manager writes, and more: text between any two of the client's own, in a text of its own or not."""
    section = _section(atlas, client)
    types = [Id(spot.client, spot.clock) for spot in atlas.types if spot.client == client and spot.shape == TEXT_TYPE]
    parents: list[str | Id] = ["text", *types[-2:]]
    parent = random.choice(parents)
    if random.random() < 0.3:
        parent = Id(client, section.clock)
        section.pieces.append(_within(container(TEXT_TYPE), "array"))
    own = [spot.some(random) for spot in atlas.lanes.get((parent, None), ()) if spot.client == client]
    for _ in range(min(many, 60)):
        piece = string(random.choice(("o", "op", "opq")))
        piece.origin, piece.right = (random.choice(own) if own and random.random() < 0.8 else None for _ in range(2))
        if piece.origin is piece.right:
            _within(piece, parent)
        own += [Id(client, section.end + at) for at in range(piece.length)]
        section.pieces.append(piece)
    return Raw([section])


def many_roots(random: Random, atlas: Atlas, client: int, many: int) -> Raw:
    section = _section(atlas, client)
    section.pieces = [_within(values([_NULL]), f"r{section.clock}-{number}") for number in range(many)]
    return Raw([section])


def many_keys(random: Random, atlas: Atlas, client: int, many: int) -> Raw:
    section = _section(atlas, client)
    section.pieces = [_within(values([_NULL]), "keys", f"{section.clock}-{number}") for number in range(many)]
    return Raw([section])


def formats(random: Random, atlas: Atlas, client: int, many: int) -> Raw:
    """Formats that begin and never end, one name or many."""
    section = _section(atlas, client)
    section.pieces.append(_beginning(atlas, client))
    for number in range(many):
        name = random.choice(("b", f"b{number}"))
        piece = Piece(FORMAT, 1, text(name) + text(random.choice(("true", "null"))))
        section.pieces.append(_right_of(piece, Id(client, section.end - 1)))
    section.pieces.append(_right_of(string("z"), Id(client, section.end - 1)))
    return Raw([section])


def holes(random: Random, atlas: Atlas, client: int, many: int) -> Raw:
    """A long string of which every other character is deleted."""
    section = _section(atlas, client)
    start = _beginning(atlas, client)
    start.length, start.body = 2 * many, text("j" * (2 * many))
    section.pieces.append(start)
    return Raw([section], [(client, [(section.clock + 2 * at, 1) for at in range(many)])])


def all_holes(random: Random, atlas: Atlas, client: int, many: int) -> Raw:
    """Every other clock of everybody deleted, at once or in a run of small ranges."""
    ranges = [
        (known, [(at, 1) for at in range(random.randrange(2), min(clock, 2 * many), 2)])
        for known, clock in atlas.clocks.items()
    ]
    return Raw([], [(known, some) for known, some in ranges if some])


def dead(random: Random, atlas: Atlas, client: int, many: int) -> Raw:
    """Structs within a type that is deleted in the same update, or was long ago."""
    section = _section(atlas, client)
    gone_already = [spot for spot in atlas.types if random.random() < 0.5]
    if gone_already and random.random() < 0.5:
        spot = random.choice(gone_already)
        parent = Id(spot.client, spot.clock)
        deletes = [(spot.client, [(spot.clock, 1)])]
    else:
        section.pieces.append(_within(container(TEXT_TYPE), f"d{section.clock}"))
        parent = Id(client, section.clock)
        deletes = [(client, [(section.clock, 1)])]
    section.pieces.append(_within(string("k"), parent))
    for _ in range(min(many, 300)):
        section.pieces.append(_right_of(string("l"), Id(client, section.end - 1)))
    return Raw([section], deletes)


def gaps(random: Random, atlas: Atlas, client: int, many: int) -> Raw:
    """Struct, GC, struct, GC."""
    section = _section(atlas, client)
    for number in range(many):
        section.pieces.append(gone(random.choice((GC, GC, DELETED)), random.choice((1, 3))))
        if section.pieces[-1].kind == DELETED:
            section.pieces[-1].parent = "g"
        section.pieces.append(_within(values([_NULL]), f"g{section.clock}-{number}"))
    return Raw([section])


def many_values(random: Random, atlas: Atlas, client: int, many: int) -> Raw:
    """A long array, or a wide value, or a deep one."""
    section = _section(atlas, client)
    wide = b"\x75" + uint(many) + _NULL * many
    deep = b"\x75\x01" * random.choice((10, 30, 31, 32)) + _NULL
    chosen = random.choice(([_NULL] * many, [wide], [deep], [wide, deep]))
    section.pieces.append(_within(values(chosen), f"v{client}-{section.clock}"))
    first = section.clock
    if len(chosen) > 4 and random.random() < 0.5:
        section.pieces += [_right_of(values([_NULL]), Id(client, first + at)) for at in range(0, len(chosen), 2)]
    return Raw([section])


def large_gone(random: Random, atlas: Atlas, client: int, many: int) -> Raw:
    """A few bytes that stand for a great many clocks, and others that go within them."""
    section = _section(atlas, client)
    length = max(1, random.choice((1 << 10, 1 << 20, 1 << 28, (1 << 31) - 1 - section.clock)))
    section.pieces.append(gone(random.choice((GC, DELETED)), length))
    section.pieces[-1].parent = f"l{client}-{section.clock}"
    others = [_section(atlas, client + 1)]
    for _ in range(min(many, 100)):
        beside = Id(client, section.clock + random.randrange(length))
        others[0].pieces.append(_right_of(random.choice((string("m"), values([_NULL]))), beside))
    return Raw([section, *others] if random.random() < 0.8 else [section])


PATTERNS: tuple[Pattern, ...] = (
    *(same_left, same_left_of_many, same_right, splits, interleaved, circle, nested, nested, nested, overwritten),
    *(put_back, put_back, put_back),
    *(many_roots, many_keys, formats, holes, all_holes, dead, gaps, many_values, large_gone),
)
