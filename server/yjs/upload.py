"""A large answer of a Yjs client on its way into the document: as several ops, a little at a time."""

from __future__ import annotations

from collections.abc import Iterator

from crdt.errors import PeerError
from crdt.protocol.codes import Code
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

TOGETHER_BYTES_MAX = 8 << 20
"""Of all uploads of a server: in memory they take up to fifty times as much. One alone may be larger."""


class Upload:
    """`known` is what the document has, as far as its server said; `updates` are settled once all of it is durable."""

    def __init__(self, update: bytes, known: StateVector, updates: int, *, heal: bool) -> None:
        self.updates = updates
        self.heal = heal
        self.left_out = False
        """The client has sent something meanwhile, which builds on it."""
        self.size = self.unpaid_bytes = len(update)
        """`size`, less what is in parts so far: these are paid for as ops."""
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


class Uploads:
    """All that are under way on a server."""

    def __init__(self) -> None:
        self._bytes = 0

    def begin(self, update: bytes, known: StateVector, updates: int, *, heal: bool) -> Upload:
        """`end` must follow. Raises PeerError while there is no room for it."""
        if self._bytes and self._bytes + len(update) > TOGETHER_BYTES_MAX:
            raise PeerError(Code.OVERLOADED, "much is being uploaded by others")
        upload = Upload(update, known, updates, heal=heal)
        self._bytes += upload.size
        return upload

    def end(self, upload: Upload) -> None:
        """It is over, or given up."""
        self._bytes -= upload.size
