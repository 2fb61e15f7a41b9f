"""When a commit begins, and on which thread: at once on an idle server, together with others on a busy one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from server.core.records import DocumentAppend

GATHER_READS: Final = 8
"""Reads between two looks, a turn of the loop or a commit apart, from which on a server is busy."""
GATHER_S: Final = 0.005
"""How long a busy one lets a commit wait for more: each entry and each commit has its cost, whatever is in it."""
HOLD_BYTES_MAX: Final = 64 << 10
"""More in one entry takes longer than a look at another thread (1 MiB: 13 ms)."""
SLOW_S: Final = 0.005
"""A commit that held up the loop for longer was slow."""
REST: Final = 100
"""After a slow one the loop is not held up again for so many times as long."""


class Pace:
    """Decides for one driver. `now` is the loop's clock."""

    def __init__(self) -> None:
        self._reads = 0
        self._gathers_until = 0.0
        """Until when the commit that is due waits for more, at most; 0 if none does."""
        self._rests_until = 0.0

    def has_read(self) -> None:
        """A read of some socket was handled."""
        self._reads += 1

    def gathers(self, now: float) -> bool:
        """Asked once a turn while a commit is all that is due: whether it is to wait for what the next turn brings."""
        reads, self._reads = self._reads, 0
        if reads >= GATHER_READS and now < (self._gathers_until or now + GATHER_S):
            self._gathers_until = self._gathers_until or now + GATHER_S
            return True
        self._gathers_until = 0.0
        return False

    def may_hold_up(self, batch: Sequence[DocumentAppend], now: float) -> bool:
        """Whether a commit may run on the loop's thread, which does nothing else meanwhile.

        It may for a single entry: to wake up another thread, and then the loop, takes a tenth of the CPU that an idle
        server uses for it. Where more came together, more is to come.
        """
        if now < self._rests_until or len(batch) != 1 or len(batch[0].entries) != 1:
            return False
        return batch[0].entries[0].update_bytes <= HOLD_BYTES_MAX

    def held_up(self, seconds: float, now: float) -> None:
        """One has, for so long, whatever came of it."""
        if seconds > SLOW_S:
            self._rests_until = now + REST * seconds
