"""How much of an outbox goes out, and when."""

from __future__ import annotations

from typing import NamedTuple

from client_sim.core.copy import LocalCopy
from client_sim.core.ports import OutboxEntry
from crdt.limits import Limits
from crdt.protocol.frames import Push

WINDOW_OPS = 256
WINDOW_BYTES = 1 << 20
"""What may be on its way without an ACK, as the protocol advises; one op alone may be larger."""

FRAME_OVERHEAD_BYTES = 64
UPDATE_OVERHEAD_BYTES = 5


class Batch(NamedTuple):
    """Entries `start` to `stop` of the outbox, for one PUSH. `too_big`: the first is more than the server takes."""

    start: int
    stop: int
    too_big: bool = False


class Window:
    """What of an outbox was framed on this connection."""

    def __init__(self) -> None:
        self._sent_op = 0
        self._framed_op = 0
        """The last op that was framed on this connection or on one before it."""

    def loaded(self, copy: LocalCopy) -> None:
        """The outbox was read from the store: what has a number there was framed."""
        self._framed_op = max(self._framed_op, copy.last_number.op)

    def restart(self, copy: LocalCopy) -> None:
        """An OPENED is in: whatever it did not acknowledge goes out again."""
        self._sent_op = copy.progress.acked.op
        self._framed_op = min(self._framed_op, copy.last_number.op)

    def rewind(self, copy: LocalCopy, op: int) -> None:
        """`op` was refused, and later ones were ignored: they go out again."""
        self._sent_op = min(self._sent_op, op - 1)
        self._framed_op = min(self._framed_op, copy.last_number.op)

    def acknowledged(self, copy: LocalCopy) -> None:
        """What an earlier connection sent may be acknowledged before it was sent again on this one."""
        self._sent_op = max(self._sent_op, copy.progress.acked.op)

    def awaits_ack(self, copy: LocalCopy) -> bool:
        return self._in_flight(copy) > 0

    def is_open(self, copy: LocalCopy) -> bool:
        """True if an edit made now would be framed at once."""
        in_flight = self._in_flight(copy)
        return len(copy.outbox) == in_flight < WINDOW_OPS and self._bytes_left(copy, in_flight) > 0

    def next_entry(self, copy: LocalCopy) -> OutboxEntry | None:
        """The first one that was not framed on this connection."""
        in_flight = self._in_flight(copy)
        return copy.outbox[in_flight] if in_flight < len(copy.outbox) else None

    def next_batch(self, copy: LocalCopy, limits: Limits) -> Batch | None:
        """What to frame next; None if there is nothing, or no room."""
        start = self._in_flight(copy)
        if start == len(copy.outbox) or start >= WINDOW_OPS:
            return None
        first = copy.outbox[start]
        if len(first.update) > limits.update_bytes:
            return Batch(start, start, too_big=True)
        bytes_left = min(self._bytes_left(copy, start), limits.message_bytes - FRAME_OVERHEAD_BYTES)
        stop = start
        for entry in copy.outbox[start : start + min(limits.updates_per_push, WINDOW_OPS - start)]:
            bytes_left -= len(entry.update) + UPDATE_OVERHEAD_BYTES
            alone = stop == 0  # nothing is on its way: then one goes out, whatever its size
            if len(entry.update) > limits.update_bytes or entry.heal != first.heal or (bytes_left < 0 and not alone):
                break
            stop += 1
        return Batch(start, stop) if stop > start else None

    def frame(self, copy: LocalCopy, handle: int, batch: Batch) -> tuple[Push, int]:
        """The PUSH of a batch whose entries all have numbers, and how many of them were framed before."""
        entries = copy.outbox[batch.start : batch.stop]
        first_op = self._sent_op + 1
        self._sent_op += len(entries)
        resent = max(0, min(self._framed_op, self._sent_op) - first_op + 1)
        self._framed_op = max(self._framed_op, self._sent_op)
        return Push(handle, first_op, tuple(entry.update for entry in entries), entries[0].heal), resent

    def _in_flight(self, copy: LocalCopy) -> int:
        return self._sent_op - copy.progress.acked.op

    def _bytes_left(self, copy: LocalCopy, in_flight: int) -> int:
        return WINDOW_BYTES - sum(len(entry.update) for entry in copy.outbox[:in_flight])
