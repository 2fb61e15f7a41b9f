"""Whether two units of content can ever have stood side by side.

In what devices write honestly, the lines from each unit to the left neighbour that it was inserted behind do not cross.
So whatever was found between a left and a right neighbour, the right one's own left neighbour is the left one, or among
those that the left one was put behind, one behind another. What was put behind the same unit, before the same one,
stands in the order of client ids. Where that does not hold, Yjs and this library put a struct elsewhere when they take
the same updates in another order, as they do when they load a document again.
"""

from __future__ import annotations

from collections.abc import Sequence

from crdt.errors import BadUpdate
from crdt.update.writer import NONE, Writer

LOOKS_MAX = 20_000
"""How far to look in all for what stood beside what, in one update: 20 ms. Honest ones take ten looks or so."""

_CLOCK_MASK = (1 << 32) - 1


def check_between(writers: Sequence[Writer], left: int, right: int, looks_max: int) -> int:
    """How many looks it took to see that these packed neighbours may have stood side by side. Raises BadUpdate."""
    if left != NONE and _right_of(writers, left) == right:
        return 0  # the left one was put right before the right one
    if right == NONE:
        _refuse_unless(left == NONE)  # a right neighbour that it once had is there for ever
        return 0
    beyond = writers[right >> 32].left_at(right & _CLOCK_MASK)
    if beyond == left:
        return 0  # the right one was put right behind the left one
    _refuse_unless(left != NONE)
    return _look_leftwards(writers, left, right, beyond, looks_max)


def _look_leftwards(writers: Sequence[Writer], left: int, right: int, beyond: int, looks_max: int) -> int:
    """Go from `left` to what it was put behind, a chain at a time, until `beyond` is there. `right` must not be."""
    looks = 0
    at = left
    while True:
        looks += 1
        writer = writers[at >> 32]
        chain = writer.chain_at(at & _CLOCK_MASK)
        _refuse_unless(looks <= looks_max and not _is_behind(at, right, chain))
        if _is_behind(at, beyond, chain):
            return looks + _look_rightwards(writers, beyond + 1, right, looks_max - looks)
        behind = writer.left_at(chain)
        if behind == beyond:
            return looks + _look_rightwards(writers, at & ~_CLOCK_MASK | chain, right, looks_max - looks)
        _refuse_unless(behind != NONE)
        at = behind


def _look_rightwards(writers: Sequence[Writer], left: int, right: int, looks_max: int) -> int:
    """`left` and `right` were both put right behind the same unit: see that they came to stand in this order."""
    before = _right_of(writers, left)
    if before == _right_of(writers, right):  # then by client; one client's own by clock, the latest first
        _refuse_unless(_rank(writers, left) < _rank(writers, right))
        return 1
    looks = 0
    at = right
    while at != NONE:
        looks += 1
        _refuse_unless(looks <= looks_max and at != left)
        at = _right_of(writers, at)
    return looks


def _rank(writers: Sequence[Writer], packed: int) -> tuple[int, int]:
    return writers[packed >> 32].client, -(packed & _CLOCK_MASK)


def _is_behind(at: int, other: int, chain: int) -> bool:
    """True if `other` is `at`, or before it in the same chain, which begins at clock `chain`."""
    return chain <= other - (at & ~_CLOCK_MASK) <= at & _CLOCK_MASK


def _right_of(writers: Sequence[Writer], packed: int) -> int:
    writer = writers[packed >> 32]
    return writer.rights[writer.run_at(packed & _CLOCK_MASK)]


def _refuse_unless(plausible: bool) -> None:
    if not plausible:
        raise BadUpdate("malformed", "the neighbours of a struct were never side by side")
