"""What a client that may only read gives back: Yjs clients repeat all deletes that they know of, each time."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from crdt.errors import BadUpdate
from crdt.update import EMPTY_UPDATE, read_update
from crdt.update.ranges import Ranges

READ_BYTES_MAX = 8 << 10
"""Of an update that is read here, some milliseconds. Nobody pays for more."""


class Doubt(NamedTuple):
    """A reader's deletes, which the document may have or not, and how many of the client's updates that settles."""

    update: bytes
    updates: int

    def deletes_more(self, diff: bytes | None) -> bool:
        """Whether it deletes what the document still has: any diff of the document tells.

        What is too long to be read is not known: False, for most that is long is repeated. None is such a diff.
        """
        if diff is None or max(len(self.update), len(diff)) > READ_BYTES_MAX:
            return False
        try:
            deleted = Ranges.deleted_by(read_update(self.update))
        except BadUpdate:
            return True
        return bool(deleted - Ranges.deleted_by(read_update(diff)))


class Diffs:
    """The diffs that the hub owes, in order: for the client, or to settle a doubt."""

    def __init__(self) -> None:
        self._due: deque[Doubt | None] = deque()

    @property
    def are_due(self) -> bool:
        return bool(self._due)

    def ask(self, doubt: Doubt | None = None) -> None:
        self._due.append(doubt)

    def forget_doubts(self) -> None:
        """The client counts anew."""
        self._due = deque(None if due is None else Doubt(EMPTY_UPDATE, 0) for due in self._due)

    def take(self) -> Doubt | None:
        """One has come; None: for the client."""
        return self._due.popleft() if self._due else None


def is_deletion(update: bytes) -> bool:
    """It says to have no structs: that is a look at its first byte."""
    return update.startswith(b"\x00")
