"""What a Yjs client waits to hear of its updates: Hocuspocus counts them, and is told of each that is durable."""

from __future__ import annotations

from collections import deque


class Debts:
    """Of one document. An update that is left out is owed on: the next answer to our step 1 has it."""

    def __init__(self) -> None:
        self._by_op: deque[tuple[int, int]] = deque()
        """Op numbers, and how many updates each one settles."""
        self._carried = 0

    def begin(self) -> None:
        """The client has sent step 1: it counts anew, and waits for its answer to ours."""
        self._by_op.clear()
        self._carried = 1

    def carry(self, updates: int = 1) -> None:
        """They were left out."""
        self._carried += updates

    def take_carried(self) -> int:
        """What the answer to our step 1 settles."""
        carried, self._carried = self._carried, 0
        return carried

    def add(self, op: int, updates: int) -> None:
        self._by_op.append((op, updates))

    def settle(self, op: int) -> int:
        """How many updates are settled: ops up to `op` are durable."""
        settled = 0
        while self._by_op and self._by_op[0][0] <= op:
            settled += self._by_op.popleft()[1]
        return settled

    def add_to_last(self, updates: int) -> int:
        """Settled with what was sent last; how many of them already are, for nothing is under way."""
        if not self._by_op:
            return updates
        op, before = self._by_op.pop()
        self._by_op.append((op, before + updates))
        return 0

    def rewind(self, op: int) -> None:
        """Ops from `op` on were not taken."""
        while self._by_op and self._by_op[-1][0] >= op:
            self._carried += self._by_op.pop()[1]
