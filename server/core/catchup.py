"""What a device that opens a document is sent: the cheapest of nothing, the log's tail, or a state-vector diff."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from crdt.ids import DeviceId
from crdt.protocol.frames import Cursor, Mode
from crdt.replica import Replica
from server.core.records import LogEntry

TAIL_ALWAYS_BYTES = 512
"""A tail this short is sent without asking what a diff would cost."""


DIFFS_BYTES_MAX = 64 << 10
"""Of the diffs that are kept of one document, with their state vectors."""


class Tail:
    """The last entries of a log, in memory, as many as fit a budget."""

    __slots__ = ("_bytes", "_bytes_max", "_entries")

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._bytes = 0
        self._entries: list[LogEntry] = []

    def clear(self) -> None:
        self._bytes = 0
        self._entries.clear()

    def restart(self, entries: Iterable[LogEntry]) -> None:
        """The tail of another log, or of one that was read again."""
        self.clear()
        self.extend(entries)

    def extend(self, entries: Iterable[LogEntry]) -> None:
        for entry in entries:
            self._entries.append(entry)
            self._bytes += _cost(entry)
        gone = 0
        while self._bytes > self._bytes_max:
            self._bytes -= _cost(self._entries[gone])
            gone += 1
        del self._entries[:gone]

    @property
    def resident_bytes(self) -> int:
        return self._bytes

    def after(self, seq: int) -> list[LogEntry] | None:
        """The entries after `seq`, all of them; None if some are no longer here."""
        if not self._entries or seq < self._entries[0].seq - 1:
            return None
        return [entry for entry in self._entries if entry.seq > seq]


class Diffs:
    """The diffs of one document's head that were asked for last: many devices come back with the same state vector."""

    __slots__ = ("_bytes", "_cursor", "_kept")

    def __init__(self) -> None:
        self._cursor: Cursor | None = None
        self._kept: dict[bytes, bytes] = {}
        self._bytes = 0

    def get(self, replica: Replica, cursor: Cursor, state_vector: bytes) -> bytes:
        """What a device with `state_vector` lacks of `replica`, the document at `cursor`. Raises ReplicaBroken."""
        if cursor != self._cursor:
            self._cursor, self._kept, self._bytes = cursor, {}, 0
        diff = self._kept.get(state_vector)
        if diff is None:
            diff = replica.diff(state_vector)
            self._bytes += len(state_vector) + len(diff)
            if self._bytes > DIFFS_BYTES_MAX:
                self._kept, self._bytes = {}, len(state_vector) + len(diff)
            if self._bytes <= DIFFS_BYTES_MAX:
                self._kept[state_vector] = diff
        return diff


def choose(
    tail: list[LogEntry] | None, device: DeviceId, state_vector: bytes | None, diff_of: Callable[[bytes], bytes]
) -> tuple[Mode, tuple[bytes, ...], int]:
    """How to bring a device current that is behind, the updates that do it, and the bytes that were read to find out.

    `tail` is what the log has after the device's cursor, if it has a valid one; the device's own ops are left out
    by device, never by state vector, which knows nothing of deletes. `diff_of` gives what a state vector lacks.
    Without a tail or a state vector there is nothing to go by: NEED_SV.
    """
    updates = tuple(u for entry in tail or () if entry.device != device for u in entry.updates)
    tail_bytes = sum(map(len, updates))
    if tail is not None and (state_vector is None or tail_bytes <= TAIL_ALWAYS_BYTES):
        return Mode.TAIL, updates, tail_bytes
    if state_vector is None:
        return Mode.NEED_SV, (), 0
    diff = diff_of(state_vector)
    if tail is not None and tail_bytes <= len(diff):
        return Mode.TAIL, updates, len(diff)
    return Mode.DIFF, (diff,), len(diff)


def _cost(entry: LogEntry) -> int:
    return entry.update_bytes + 200
