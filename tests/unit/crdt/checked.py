"""A document behind the check, as a server has it."""

from __future__ import annotations

from collections.abc import Iterable

from crdt.replica import Replica
from crdt.update import Layout, StateVector, read_update


class Checked:
    """Takes updates as a server does: reads them, asks the layout, applies them."""

    def __init__(self, updates: Iterable[bytes] = ()) -> None:
        self.layout = Layout()
        self.known: StateVector = {}
        self.log: list[bytes] = []
        for update in updates:
            self.push(update)

    def push(self, update: bytes) -> int:
        """What it may cost to apply, in steps. Raises BadUpdate."""
        read = read_update(update, bounded=True)
        assert read.missing(self.known) is None
        steps = self.layout.admit(read, self.known)
        read.advance(self.known)
        self.log.append(update)
        return steps

    def compact(self) -> None:
        """Go on from a snapshot's state, as if nothing else was kept."""
        self.log = [self.replica().state()]
        self.layout = Layout.of(self.log)

    def replica(self) -> Replica:
        return Replica.load(self.log)
