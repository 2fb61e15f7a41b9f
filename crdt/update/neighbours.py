"""Whether two units of content can ever have stood side by side.

In what devices write honestly, the lines from each unit to the left neighbour that it was inserted behind do not cross.
So whatever was found between a left and a right neighbour, the right one's own left neighbour is the left one, or among
those that the left one was put behind, one behind another. What was put behind the same unit, before the same one,
stands in the order of client ids. Where that does not hold, Yjs and this library put a struct elsewhere when they take
the same updates in another order, as they do when they load a document again.

An undo manager writes what does not hold to that. It makes a container anew, and puts back into it, one by one and in
any order, what was in the old one: each between two that it has put back already, whatever has come between them since,
and at times the wrong way round. What is *alone* (crdt.update.writer) may be named like that all the same: one client's
own beside nothing but its own come to stand in the same order always, each right behind its left neighbour, the latest
first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from crdt.errors import BadUpdate
from crdt.update.writer import ALONE, CLOCK_MASK, NONE, Writer

LOOKS_MAX: Final = 20_000
"""How far to look in all for what stood beside what, in one update: 20 ms. Honest ones take ten looks or so."""


class SameRun(BadUpdate):
    """Somebody puts a struct behind a run of content and before the same one.

    Yjs and this library cut a block where a right neighbour begins. If the left neighbour is in the same block, what is
    new lands in the midst of it, else behind it; and where blocks begin differs from device to device.
    """

    def __init__(self) -> None:
        super().__init__("malformed", "a struct goes behind a run of content and before the same one")


def check_between(
    writers: Sequence[Writer], writer: Writer, left: int, right: int, looks_max: int
) -> tuple[int, int, bool]:
    """See that `writer` may put something between these packed neighbours. Raises BadUpdate, or SameRun.

    Returns how many looks that took; the right neighbour as it counts: none, if that one is left of the left one; and
    whether what is put there is alone.
    """
    left_run = -1 if left == NONE else writers[left >> 32].run_at(left & CLOCK_MASK)
    right_run = -1 if right == NONE else writers[right >> 32].run_at(right & CLOCK_MASK)
    alone = _is_alone(writer, left, left_run) and _is_alone(writer, right, right_run)
    if left != NONE and writers[left >> 32].rights[left_run] == right:
        return 0, right, alone  # the left one was put right before the right one
    if alone and left != NONE and right != NONE:
        looks, in_order = _look_backwards(writer, left, left_run, right, right_run, looks_max)
        return looks, right if in_order else NONE, True
    if alone:
        return 0, right, True
    if right == NONE:
        _refuse_unless(left == NONE)  # a right neighbour that it once had is there for ever
        return 0, right, False
    beyond = writers[right >> 32].left_at(right & CLOCK_MASK)
    if beyond == left:
        return 0, right, False  # the right one was put right behind the left one
    _refuse_unless(left != NONE)
    return _look_leftwards(writers, left, right, beyond, looks_max), right, False


def _is_alone(writer: Writer, packed: int, run: int) -> bool:
    """True if what is at a packed id, in this run, is this client's own, and alone; or if nothing is."""
    return packed == NONE or (packed >> 32 == writer.number and bool(writer.codes[run] & ALONE))


def _look_backwards(
    writer: Writer, left: int, left_run: int, right: int, right_run: int, looks_max: int
) -> tuple[int, bool]:
    """How many looks it took, and whether the two, which are alone, stand in this order.

    Each side goes back to where their lines of left neighbours meet, a chain at a time: the one that begins later.
    """
    looks = 0
    one, other = left & CLOCK_MASK, right & CLOCK_MASK
    chain, other_chain = writer.chains[left_run], writer.chains[right_run]
    if one >= other and chain == other_chain:
        raise SameRun
    from_one = from_other = _LATEST
    while chain != other_chain:
        looks += 1
        _refuse_unless(looks <= looks_max)
        if chain > other_chain:
            one, from_one = _left_clock(writer, chain), chain
            chain = _chain(writer, one)
        else:
            other, from_other = _left_clock(writer, other_chain), other_chain
            other_chain = _chain(writer, other)
    return looks, one < other or (one == other and from_one > from_other)


_LATEST: Final = 1 << 32
"""Later than any clock: where the lines meet in one of the two, that stands before what was put behind it."""

_START: Final = -1
"""The clock of what is left of everything."""


def _chain(writer: Writer, clock: int) -> int:
    return _START if clock == _START else writer.chain_at(clock)


def _left_clock(writer: Writer, chain: int) -> int:
    left = writer.left_at(chain)
    return _START if left == NONE else left & CLOCK_MASK


def _look_leftwards(writers: Sequence[Writer], left: int, right: int, beyond: int, looks_max: int) -> int:
    """Go from `left` to what it was put behind, a chain at a time, until `beyond` is there. `right` must not be."""
    looks = 0
    at = left
    while True:
        looks += 1
        writer = writers[at >> 32]
        chain = writer.chain_at(at & CLOCK_MASK)
        _refuse_unless(looks <= looks_max and not _is_behind(at, right, chain))
        if _is_behind(at, beyond, chain):
            return looks + _look_rightwards(writers, beyond + 1, right, beyond, looks_max - looks)
        behind = writer.left_at(chain)
        if behind == beyond:
            return looks + _look_rightwards(writers, at & ~CLOCK_MASK | chain, right, beyond, looks_max - looks)
        _refuse_unless(behind != NONE)
        at = behind


def _look_rightwards(writers: Sequence[Writer], left: int, right: int, beyond: int, looks_max: int) -> int:
    """`left` and `right` were both put right behind `beyond`: see that they came to stand in this order.

    The right one stands at or before all that is looked at on the way. What was put before the same neighbour as the
    left one stands by client, one client's own by clock, the latest first.
    """
    before = _right_of(writers, left)
    looks = 0
    at = right
    while at != NONE:
        looks += 1
        _refuse_unless(looks <= looks_max and at != left)
        behind = _right_of(writers, at)
        if behind == before and writers[at >> 32].left_at(at & CLOCK_MASK) == beyond:
            _refuse_unless(_rank(writers, left) < _rank(writers, at))
            return looks
        at = behind
    return looks


def _rank(writers: Sequence[Writer], packed: int) -> tuple[int, int]:
    return writers[packed >> 32].client, -(packed & CLOCK_MASK)


def _is_behind(at: int, other: int, chain: int) -> bool:
    """True if `other` is `at`, or before it in the same chain, which begins at clock `chain`."""
    return chain <= other - (at & ~CLOCK_MASK) <= at & CLOCK_MASK


def _right_of(writers: Sequence[Writer], packed: int) -> int:
    writer = writers[packed >> 32]
    return writer.rights[writer.run_at(packed & CLOCK_MASK)]


def _refuse_unless(plausible: bool) -> None:
    if not plausible:
        raise BadUpdate("malformed", "the neighbours of a struct were never side by side")
