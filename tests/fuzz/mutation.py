"""Changes to honest updates: to their bytes, and to what their bytes say."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import TypeAlias

from crdt.update import Id
from tests.fuzz import contents
from tests.fuzz.raw import Piece, Raw, Section, gone, string, uint

_BYTES = (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0x21, 0x27, 0x28, 0x44, 0x7F, 0x80, 0x81, 0x84, 0xC4, 0xFF)
_NUMBERS = (0, 1, 2, 127, 128, 1 << 20, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 32, (1 << 53) - 1, 1 << 53, 1 << 62)


def bytes_changed(random: Random, update: bytes, others: list[bytes]) -> bytes:
    """Some bytes are others, lost, doubled, or come from another update."""
    data = bytearray(update)
    for _ in range(random.choice((1, 1, 1, 2, 3, 6))):
        at = random.randrange(len(data) + 1)
        match random.randrange(7):
            case 0:
                data[at : at + 1] = random.randbytes(1)
            case 1:
                data[at : at + 1] = bytes((random.choice(_BYTES),))
            case 2:
                del data[at : at + random.randrange(1, 5)]
            case 3:
                data[at:at] = random.choice((uint(random.choice(_NUMBERS)), random.randbytes(3)))
            case 4:
                data[at:at] = data[at : at + random.randrange(1, 12)]
            case 5:
                other = random.choice(others)
                data[at:] = other[random.randrange(len(other) + 1) :]
            case _:
                del data[at:]
    return bytes(data)


def fields_changed(random: Random, raw: Raw, others: list[Raw]) -> Raw:
    """One to three fields say something else."""
    changed = raw.copy()
    for _ in range(random.choice((1, 1, 2, 3))):
        random.choice(_CHANGES)(random, changed, random.choice(others))
    return changed


_Change: TypeAlias = Callable[[Random, Raw, Raw], None]


def _section(random: Random, raw: Raw) -> Section | None:
    return random.choice(raw.sections) if raw.sections else None


def _piece(random: Random, raw: Raw) -> Piece | None:
    section = _section(random, raw)
    return random.choice(section.pieces) if section and section.pieces else None


def _near(random: Random, number: int) -> int:
    if random.random() < 0.15:
        return random.choice(_NUMBERS)
    return max(0, number + random.choice((-9, -3, -2, -1, 1, 2, 3, 9)))


def _id(random: Random, ref: Id | None, raw: Raw) -> Id:
    clients = [section.client for section in raw.sections] or [1]
    if ref is None or random.random() < 0.3:
        return Id(random.choice((*clients, 1, 2, 3)), random.randrange(12))
    return Id(ref.client, _near(random, ref.clock))


def _other_clock(random: Random, raw: Raw, other: Raw) -> None:
    if section := _section(random, raw):
        section.clock = _near(random, section.clock)


def _other_client(random: Random, raw: Raw, other: Raw) -> None:
    if section := _section(random, raw):
        section.client = random.choice((1, 2, 3, 4, random.choice(_NUMBERS)))


def _fresh_client(random: Random, raw: Raw, other: Raw) -> None:
    """The same content, as if somebody new had written it."""
    if section := _section(random, raw):
        section.client, section.clock = random.randrange(50, 60), 0


def _other_neighbour(random: Random, raw: Raw, other: Raw) -> None:
    if piece := _piece(random, raw):
        if random.random() < 0.5:
            piece.origin = random.choice((None, _id(random, piece.origin, raw), piece.right))
        else:
            piece.right = random.choice((None, _id(random, piece.right, raw), piece.origin))


def _other_parent(random: Random, raw: Raw, other: Raw) -> None:
    if piece := _piece(random, raw):
        parent = piece.parent if isinstance(piece.parent, Id) else None
        piece.parent = random.choice((*contents.ROOTS, _id(random, parent, raw)))
        piece.key = random.choice((None, piece.key, random.choice(contents.KEYS)))
        if random.random() < 0.5:
            piece.origin = piece.right = None


def _other_flags(random: Random, raw: Raw, other: Raw) -> None:
    if piece := _piece(random, raw):
        piece.flags ^= random.choice((0x20, 0x20, 0x40, 0x80, 0x10))


def _other_kind(random: Random, raw: Raw, other: Raw) -> None:
    if piece := _piece(random, raw):
        piece.kind = random.randrange(12)


def _other_content(random: Random, raw: Raw, other: Raw) -> None:
    if piece := _piece(random, raw):
        fresh = contents.bad_piece(random) if random.random() < 0.3 else contents.piece(random, random.randrange(3, 10))
        piece.kind, piece.length, piece.body = fresh.kind, fresh.length, fresh.body


def _other_length(random: Random, raw: Raw, other: Raw) -> None:
    if piece := _piece(random, raw):
        fresh = gone(random.choice((0, 1)), _near(random, piece.length))
        piece.kind, piece.length, piece.body, piece.flags = fresh.kind, fresh.length, fresh.body, 0


def _split_pair(random: Random, raw: Raw, other: Raw) -> None:
    """A string of surrogate pairs where something begins or ends in the middle of one."""
    if piece := _piece(random, raw):
        fresh = string("😀" * random.randrange(1, 4))
        piece.kind, piece.length, piece.body = fresh.kind, fresh.length, fresh.body


def _sections_moved(random: Random, raw: Raw, other: Raw) -> None:
    if section := _section(random, raw):
        match random.randrange(4):
            case 0:
                raw.sections.remove(section)
            case 1:
                raw.sections.append(section)
            case 2:
                random.shuffle(raw.sections)
            case _:
                raw.sections.extend(other.copy().sections[:1])


def _pieces_moved(random: Random, raw: Raw, other: Raw) -> None:
    section = _section(random, raw)
    if section is None or not section.pieces:
        return
    at = random.randrange(len(section.pieces))
    match random.randrange(4):
        case 0:
            del section.pieces[at]
        case 1:
            section.pieces.insert(at, section.pieces[at])
        case 2:
            random.shuffle(section.pieces)
        case _:
            if fresh := _piece(random, other.copy()):
                section.pieces.insert(at, fresh)


def _deletes_moved(random: Random, raw: Raw, other: Raw) -> None:
    if not raw.deletes or random.random() < 0.3:
        client = random.choice([section.client for section in raw.sections] or [1, 2])
        raw.deletes.append((client, [(random.randrange(6), random.randrange(1, 9))]))
        return
    at = random.randrange(len(raw.deletes))
    client, ranges = raw.deletes[at]
    match random.randrange(5):
        case 0:
            ranges = [(_near(random, start), length) for start, length in ranges]
        case 1:
            ranges = [(start, _near(random, length)) for start, length in ranges]
        case 2:
            random.shuffle(ranges)
        case 3:
            ranges = ranges * 2
        case _:
            client = _near(random, client)
    raw.deletes[at] = (client, ranges)


_CHANGES: tuple[_Change, ...] = (
    *(_other_clock, _other_client, _fresh_client, _fresh_client, _other_neighbour, _other_neighbour, _other_parent),
    *(_other_flags, _other_kind, _other_content, _other_content, _other_length, _split_pair, _sections_moved),
    *(_pieces_moved, _deletes_moved, _deletes_moved),
)
