"""A large answer of a Yjs client on its way into the document: as several ops, a little at a time."""

from __future__ import annotations

from collections.abc import Iterator

from crdt.update import StateVector, parts_in_turns, write_state_vector

LARGE_BYTES = 64 << 10
"""What is larger goes in by parts."""

PART_BYTES = 256 << 10
"""At most about so many, or one struct that is larger. Each is rehearsed, so they are not many."""

LIVE_BYTES = 128 << 10
"""Larger updates are asked for as answers: 20,000 structs, and more than an update may have, do not fit in so few."""

PART_STRUCTS = 4_000
"""To check and apply so many takes the event loop 50 ms."""

WHOLE_STRUCTS_MAX = 200_000
"""In memory they take 100 MB while they go in."""


class Upload:
    """`known` is what the document has, as far as its server said; `updates` are settled once all of it is durable."""

    def __init__(self, update: bytes, known: StateVector, updates: int, *, heal: bool) -> None:
        self.updates = updates
        self.heal = heal
        self.left_out = False
        """The client has sent something meanwhile, which builds on it."""
        self.unpaid_bytes = len(update)
        """What is in no part so far: parts are paid for as ops."""
        self._known = known
        self._parts: Iterator[bytes | None] = parts_in_turns(update, known, PART_STRUCTS, PART_BYTES, WHOLE_STRUCTS_MAX)
        self._is_over = False

    def step(self) -> bytes | None:
        """Work on for about 20 ms: the next part, if there is one by then. Raises BadUpdate."""
        try:
            part = next(self._parts)
        except StopIteration:
            self._is_over = True
            return None
        self.unpaid_bytes -= len(part or b"")
        return part

    @property
    def is_over(self) -> bool:
        return self._is_over

    @property
    def state_vector(self) -> bytes:
        """What the document has once all that was said is in it."""
        return write_state_vector(self._known)
