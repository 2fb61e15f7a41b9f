"""Texts differ in one place: what an editor widget has and what a document has, moment by moment."""

from __future__ import annotations

from itertools import takewhile
from typing import NamedTuple


class Splice(NamedTuple):
    """`insert` in the place of the characters from `start` up to `stop`."""

    start: int
    stop: int
    insert: str

    def moved_over(self, other: Splice) -> Splice:
        """The same splice of a text in which `other`, of the same text as this one, was made before."""
        return Splice(_moved(self.start, other), _moved(self.stop, other), self.insert)


def _moved(index: int, over: Splice) -> int:
    if index <= over.start:
        return index
    if index >= over.stop:
        return index + len(over.insert) - (over.stop - over.start)
    return over.start + len(over.insert)


def difference(old: str, new: str) -> Splice | None:
    """The smallest splice that makes `new` of `old`; None if they are equal."""
    if old == new:
        return None
    before = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(old, new, strict=False)))
    rest = zip(reversed(old[before:]), reversed(new[before:]), strict=False)
    after = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], rest))
    return Splice(before, len(old) - after, new[before : len(new) - after])


def location(text: str, index: int) -> tuple[int, int]:
    """Row and column of a character."""
    return text.count("\n", 0, index), index - (text.rfind("\n", 0, index) + 1)
