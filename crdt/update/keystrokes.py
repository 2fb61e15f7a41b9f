"""The commonest updates, taken in as `Layout.admit` would, at a fraction of the cost: no object is made of them.

Most updates are keystrokes: a letter or two of ASCII beside text that is there, or one range deleted. So is a log, and
reading a long one again is what the first push to a cold document waits for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

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
_typed = re.compile(
    rb"\x01\x01"
    + _ID
    + rb"(?:\x84"
    + _ID
    + rb"|\xc4"
    + _ID
    + _ID
    + rb"|\x44"
    + _ID
    + rb")([\x01-\x7f])([\x00-\x7f]+)\0"
).fullmatch
"""One string with a left neighbour, with both, with a right one; nothing deleted."""
_deleted = re.compile(rb"\0\x01" + _UINT + rb"\x01" + _UINT + rb"([\x80-\xff]{1,8}[\x01-\x7f]|[\x01-\x7f])").fullmatch
"""One range, and no struct."""

_TEXT = int(Class.TEXT)
_KEY_BITS = 32
_KEY_MASK = (1 << _KEY_BITS) - 1


class Keystroke(NamedTuple):
    """One that was taken in. `client` wrote text that ends before clock `end`; None: something was deleted.

    `needs` are the clients and clocks of all that it refers to.
    """

    client: int | None
    end: int
    needs: tuple[tuple[int, int], ...]


def take_keystroke(
    layout: Layout, update: bytes, known: StateVector, may_write: Callable[[int], bool]
) -> Keystroke | None:
    """Take in one update as `take_keystrokes` does, if its client may write; None if it is to be read in full."""
    typed = _typed(update)
    if typed is None:
        deleted = _delete(layout, update, known)
        return None if deleted is None else Keystroke(None, 0, (deleted,))
    fields = typed.groups(b"")
    if not may_write(_uint(fields[0])):
        return None
    client = _type(layout, fields, known)
    if client is None:
        return None
    before = (client, _uint(fields[1]) - 1)
    beside = ((_uint(fields[at]), _uint(fields[at + 1])) for at in (2, 4, 6, 8) if fields[at])
    return Keystroke(client, known[client], (before, *beside))


def take_keystrokes(
    layout: Layout, updates: Sequence[bytes], at: int, known: StateVector, typists: dict[int, None]
) -> int:
    """Take in the updates from index `at` on, as long as they are keystrokes; the index of the first that is not.

    `known` is the document's state vector, and moves on with them; `typists` gets the clients that wrote something.
    What `Layout.admit` would refuse is no keystroke.
    """
    for index in range(at, len(updates)):
        update = updates[index]
        typed = _typed(update)
        if typed is not None:
            client = _type(layout, typed.groups(b""), known)
            if client is None:
                return index
            typists[client] = None
        elif _delete(layout, update, known) is None:
            return index
    return len(updates)


def _type(layout: Layout, fields: tuple[bytes, ...], known: StateVector) -> int | None:
    """The client that typed; None if this is to be read in full: the layout is unchanged then."""
    own, at, left_of, left_at, beside, beside_at, before, before_at, right_of, right_at, size, text = fields
    client, clock, length = _uint(own), _uint(at), len(text)
    if not clock or known.get(client) != clock or size[0] != length or clock + length > CLOCK_MAX:
        return None
    writer = layout.writers[client]
    if not (left_of == own and _uint(left_at) == clock - 1 and _goes_on(writer, NONE)):  # most go on where they were
        left = _neighbour(layout, left_of or beside, left_at or beside_at, known)
        right = _neighbour(layout, before or right_of, before_at or right_at, known)
        if left is None or right is None or not _place(layout, writer, clock, left, right):
            return None
    known[client] = clock + length
    return client


def _goes_on(writer: Writer, right: int) -> bool:
    """True if text right behind the last thing that a client wrote, before that neighbour, changes nothing."""
    return writer.codes[-1] & CLASS_MASK == _TEXT and writer.rights[-1] == right


def _place(layout: Layout, writer: Writer, clock: int, left: int, right: int) -> bool:
    """Put text between two packed neighbours; False if they are not in one list of text, or it may not."""
    in_chain = left == pack_id(writer.number, clock - 1)
    if in_chain and _goes_on(writer, right):
        return True
    lane = _lane_between(layout, left, right)
    if lane is None:
        return False
    try:
        _, right = check_between(layout.by_number, writer, left, right, LOOKS_MAX)
    except BadUpdate:
        return False
    writer.add(clock, lane << LANE_SHIFT | _TEXT, in_chain, left, right)
    layout.sizes[lane] += 1
    layout.items += 1
    return True


def _neighbour(layout: Layout, client_field: bytes, clock_field: bytes, known: StateVector) -> int | None:
    """The packed id that two fields give, NONE if they are not there; None if nobody has written it yet."""
    if not client_field:
        return NONE
    client, clock = _uint(client_field), _uint(clock_field)
    return pack_id(layout.writers[client].number, clock) if clock < known.get(client, 0) else None


def _lane_between(layout: Layout, left: int, right: int) -> int | None:
    """The list of text that both neighbours are in; None if that is not so."""
    lane = None
    for packed, border in ((left, 1), (right, 0)):
        if packed == NONE:
            continue
        beside, clock = layout.by_number[packed >> 32], packed & CLOCK_MASK
        found = beside.code_at(clock) >> LANE_SHIFT
        if lane not in (None, found) or beside.is_second_half(clock + border):
            return None
        lane = found
    if not lane:
        return None
    place = layout.lanes[lane]
    if place & _KEY_MASK or layout.kinds[place >> _KEY_BITS] != Kind.TEXT:
        return None
    return lane


def _delete(layout: Layout, update: bytes, known: StateVector) -> tuple[int, int] | None:
    """The client and the last clock of what was deleted; None if this is no range, or one to be read in full."""
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


@lru_cache(maxsize=1 << 14)
def _uint(field: bytes) -> int:
    return uint_at(field, 0)[0]
