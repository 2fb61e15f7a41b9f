"""The commonest updates, taken in as `Layout.admit` would, at a fraction of the cost: no object is made of them.

Most updates are keystrokes: a letter or two of ASCII beside text that is there, or one range deleted. So is a log, and
reading a long one again is what the first push to a cold document waits for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Final, TypeAlias

from crdt.errors import BadUpdate
from crdt.update.decoder import uint_at
from crdt.update.model import CLOCK_MAX, StateVector
from crdt.update.neighbours import LOOKS_MAX, check_between
from crdt.update.rules import Class, Kind
from crdt.update.writer import CLASS_MASK, CLOCK_MASK, LANE_SHIFT, NONE, Writer, pack_id

if TYPE_CHECKING:
    from crdt.update.layout import Layout

_UINT = rb"([\x80-\xff]{1,8}[\x01-\x7f]|[\x00-\x7f])"
_ID = _UINT + _UINT
_typed: Final = re.compile(
    rb"\x01\x01" + _ID + rb"(?:([\x84\x44])|\xc4" + _ID + rb")" + _ID + rb"([\x01-\x7f])([\x00-\x7f]+)\0"
).fullmatch
"""One string with a left neighbour or a right one, or with both; nothing deleted."""
_LEFT: Final = b"\x84"
_deleted: Final = re.compile(
    rb"\0\x01" + _UINT + rb"\x01" + _UINT + rb"([\x80-\xff]{1,8}[\x01-\x7f]|[\x01-\x7f])"
).fullmatch
"""One range, and no struct."""

_TEXT: Final = int(Class.TEXT)
_TEXT_KIND: Final = int(Kind.TEXT)
_DEAD: Final = 0
"""A lane that is no list of text."""
_KEY_BITS: Final = 32
_KEY_MASK: Final = (1 << _KEY_BITS) - 1


Typed: TypeAlias = tuple[bytes, ...]
"""The fields of text that was typed, as they are written."""


def read_typed(update: bytes) -> Typed | None:
    """The fields of an update that has a letter or two of ASCII beside text, and nothing else; None of any other."""
    found = _typed(update)
    return None if found is None else found.groups(b"")


def needs_of(typed: Typed) -> tuple[tuple[int, int], ...]:
    """The clients of all that it refers to, and clocks: of its own client only the last, which is the one before it."""
    own, at, side, left_of, left_at, beside, beside_at, _, _ = typed
    before = (_uint(own), _uint(at) - 1)
    if beside == own and left_of in (own, b""):
        return (before,)
    neighbour = (_uint(beside), _uint(beside_at))
    return (before, neighbour) if side else (before, neighbour, (_uint(left_of), _uint(left_at)))


def take_typed(layout: Layout, typed: Typed, known: StateVector, owners: Mapping[int, str], user: str) -> int | None:
    """Take it in as `take_keystrokes` does, if its client id is this user's; the client.

    None if the update is to be read in full: nothing has changed then.
    """
    return _type(layout, typed, known) if owners.get(_uint(typed[0])) == user else None


def take_deleted(layout: Layout, update: bytes, known: StateVector) -> tuple[int, int] | None:
    """Take in one range that is deleted: the client and the last clock of it. None if it is to be read in full."""
    deleted = _deleted(update)
    if deleted is None:
        return None
    client, start, length = map(_uint, deleted.groups())
    writer, end = layout.writers.get(client), start + length
    if writer is None or end > known.get(client, 0) or writer.containers_in(start, end):
        return None
    if writer.is_second_half(start) or writer.is_second_half(end):
        return None
    layout.ranges += 1
    return client, end - 1


def take_keystrokes(
    layout: Layout, updates: Sequence[bytes], at: int, known: StateVector, typists: dict[int, None]
) -> int:
    """Take in the updates from index `at` on, as long as they are keystrokes; the index of the first that is not.

    `known` is the document's state vector, and moves on with them; `typists` gets the clients that wrote something.
    What `Layout.admit` would refuse is no keystroke.
    """
    for index in range(at, len(updates)):
        update = updates[index]
        typed = read_typed(update)
        if typed is not None:
            client = _type(layout, typed, known)
            if client is None:
                return index
            typists[client] = None
        elif take_deleted(layout, update, known) is None:
            return index
    return len(updates)


def _type(layout: Layout, typed: Typed, known: StateVector) -> int | None:
    """The client that typed; None if this is to be read in full: the layout is unchanged then."""
    own, at, side, left_of, left_at, beside, beside_at, size, text = typed
    client, clock, length = _uint(own), _uint(at), len(text)
    if not clock or known.get(client) != clock or size[0] != length or clock + length > CLOCK_MAX:
        return None
    writer = layout.writers[client]
    last = pack_id(writer.number, clock - 1)
    neighbour = _neighbour(layout, beside, beside_at, known)
    if neighbour is None:
        return None
    if side == _LEFT:
        left, right = neighbour, NONE
    elif side:
        left, right = NONE, neighbour
    else:
        other = _neighbour(layout, left_of, left_at, known)
        if other is None:
            return None
        left, right = other, neighbour
    in_chain = left == last
    if not (in_chain and _goes_on(writer, right)) and not _place(layout, writer, clock, left, right, in_chain):
        return None
    known[client] = clock + length
    return client


def _goes_on(writer: Writer, right: int) -> bool:
    """True if text right behind the last thing that a client wrote, before that neighbour, changes nothing."""
    return writer.codes[-1] & CLASS_MASK == _TEXT and writer.rights[-1] == right


def _place(layout: Layout, writer: Writer, clock: int, left: int, right: int, in_chain: bool) -> bool:
    """Put text between two packed neighbours; False if they are not in one list of text, or it may not."""
    lane = _lane_between(layout, left, right)
    if lane is None:
        return False
    try:
        _, right, alone = check_between(layout.by_number, writer, left, right, LOOKS_MAX)
    except BadUpdate:
        return False
    writer.add(clock, lane << LANE_SHIFT | _TEXT, in_chain, left, right, alone)
    layout.sizes[lane] += 1
    layout.items += 1
    return True


def _neighbour(layout: Layout, client_field: bytes, clock_field: bytes, known: StateVector) -> int | None:
    """The packed id that two fields give; None if nobody has written it yet."""
    client, clock = _uint(client_field), _uint(clock_field)
    return pack_id(layout.writers[client].number, clock) if clock < known.get(client, 0) else None


def _lane_between(layout: Layout, left: int, right: int) -> int | None:
    """The list of text that both neighbours are in; None if that is not so."""
    lane = _DEAD if left == NONE else _lane_at(layout, left, 1)
    if right != NONE:
        beyond = _lane_at(layout, right, 0)
        if left != NONE and beyond != lane:
            return None
        lane = beyond
    place = layout.lanes[lane]
    is_text = not place & _KEY_MASK and layout.kinds[place >> _KEY_BITS] == _TEXT_KIND
    return lane if is_text else None


def _lane_at(layout: Layout, packed: int, border: int) -> int:
    """The list that a neighbour is in; that of the dead if the border on this side of it is within a pair."""
    writer, clock = layout.by_number[packed >> 32], packed & CLOCK_MASK
    if writer.halves and writer.is_second_half(clock + border):
        return _DEAD
    return writer.code_at(clock) >> LANE_SHIFT


@lru_cache(maxsize=1 << 14)
def _uint(field: bytes) -> int:
    return uint_at(field, 0)[0]
