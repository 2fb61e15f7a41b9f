"""What one client wrote, as far as the check of updates must know."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from typing import Final

# A run begins where a client's clocks go on in another lane, with content of another class, before another neighbour,
# or not right behind what it wrote before. Its code says in which lane, whether it is the first value of a key there
# that names none before it, whether it is *alone*, and which class. A *chain* is runs that each begin right behind the
# one before: they stand in the order of clocks. A run is alone if its neighbours are this client's own and alone, or
# none: it could have been written where nobody else was.
LANE_SHIFT: Final = 4
ALONE: Final = 8
FIRST: Final = 4
CLASS_MASK: Final = 3

CLOCK_MASK: Final = (1 << 32) - 1
"""The clock of a packed id."""

NONE: Final = (1 << 64) - 1
"""The packed id of no neighbour."""


def pack_id(number: int, clock: int) -> int:
    return number << 32 | clock


class Writer:
    """What one client wrote: its runs, the second halves of its surrogate pairs, and the types it made, by clock."""

    __slots__ = (
        "chains",
        "client",
        "codes",
        "firsts",
        "halves",
        "lefts",
        "number",
        "rights",
        "starts",
        "type_clocks",
        "type_ids",
    )

    def __init__(self, client: int, number: int) -> None:
        self.client = client
        self.number = number
        """Stands for the client where ids are packed."""
        self.starts = array("I")
        self.codes = array("I")
        self.chains = array("I")
        """Where the chain of each run begins."""
        self.lefts = array("Q")
        self.rights = array("Q")
        """The packed neighbours of each run; within a chain the left one is what was before."""
        self.halves = array("I")
        self.type_clocks = array("I")
        self.type_ids = array("I")
        self.firsts: set[int] = set()

    def run_at(self, clock: int) -> int:
        """The index of a run."""
        return bisect_right(self.starts, clock) - 1

    def code_at(self, clock: int) -> int:
        return self.codes[bisect_right(self.starts, clock) - 1]

    def chain_at(self, clock: int) -> int:
        return self.chains[bisect_right(self.starts, clock) - 1]

    def left_at(self, clock: int) -> int:
        """The packed left neighbour of what is at `clock`."""
        run = self.run_at(clock)
        return self.lefts[run] if clock == self.chains[run] else pack_id(self.number, clock - 1)

    def add(self, clock: int, code: int, in_chain: bool, left: int, right: int, alone: bool) -> None:
        """Go on at `clock` with `code` between two packed neighbours, right behind what went before or not."""
        if in_chain and self.rights[-1] == right and not (self.codes[-1] ^ code) & ~(FIRST | ALONE):
            return
        self.starts.append(clock)
        self.codes.append(code | ALONE if alone else code)
        self.chains.append(self.chains[-1] if in_chain else clock)
        self.lefts.append(0 if in_chain else left)
        self.rights.append(right)

    def is_dead_at_end(self) -> bool:
        """True if nobody knows the place of what it wrote last."""
        return bool(self.codes) and not self.codes[-1] >> LANE_SHIFT

    def is_second_half(self, clock: int) -> bool:
        halves = self.halves
        if not halves or clock > halves[-1]:
            return False
        return halves[bisect_left(halves, clock)] == clock

    def container_at(self, clock: int) -> int | None:
        """The type that was made at `clock`."""
        index = bisect_left(self.type_clocks, clock)
        if index < len(self.type_clocks) and self.type_clocks[index] == clock:
            return self.type_ids[index]
        return None

    def containers_in(self, start: int, end: int) -> array[int]:
        return self.type_ids[bisect_left(self.type_clocks, start) : bisect_left(self.type_clocks, end)]

    def cut(self, clock: int) -> None:
        """Forget everything from `clock` on."""
        del self.halves[bisect_left(self.halves, clock) :]
        kept = bisect_left(self.type_clocks, clock)
        del self.type_clocks[kept:], self.type_ids[kept:]
        kept = bisect_left(self.starts, clock)
        self.firsts.difference_update(code >> LANE_SHIFT for code in self.codes[kept:] if code & FIRST)
        for column in (self.starts, self.codes, self.chains, self.lefts, self.rights):
            del column[kept:]
