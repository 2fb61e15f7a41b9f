"""One document's outbox on its way to the server."""

from __future__ import annotations

from client_sim.core.context import Context
from client_sim.core.holding import Holder
from client_sim.core.pushing import FRAME_OVERHEAD_BYTES, UPDATE_OVERHEAD_BYTES, Batch

MERGED_BYTES_MAX = 256 << 10
"""The longest op that edits are merged to: it is sent again as a whole, and refused as one."""


class Sender:
    """Frames what waits. An op gets its number here, stored before it is sent; edits without one are merged first."""

    def __init__(self, context: Context, holder: Holder) -> None:
        self._context = context
        self._holder = holder

    def send(self, handle: int) -> bool:
        """Frame as much as the window allows. False if the next edit is larger than the server takes."""
        window, limits = self._holder.window, self._context.limits
        batch = window.next_batch(self._holder.copy, limits)
        while batch is not None and not batch.too_big:
            if batch.stop > self._holder.copy.numbered:
                batch = self._number(batch)
            if batch is not None:
                if not self._context.can_send(self._size(batch)):
                    return True
                frame, resent = window.frame(self._holder.copy, handle, batch)
                self._context.counters.ops_resent += resent
                self._context.send(frame)
                batch = window.next_batch(self._holder.copy, limits)
        return batch is None

    def _number(self, batch: Batch) -> Batch | None:
        """The batch once edits were merged, its entries numbered; None if it is too much for the window now."""
        limits = self._context.limits
        with self._holder.changing() as copy:
            merged = copy.merge_waiting(self._merged_bytes_max)
            found = self._holder.window.next_batch(copy, limits) if merged else batch
            if found is not None:
                copy.number_up_to(found.stop)
        self._context.counters.edits_merged += merged
        return found

    def _size(self, batch: Batch) -> int:
        updates = (entry.update for entry in self._holder.copy.outbox[batch.start : batch.stop])
        return FRAME_OVERHEAD_BYTES + sum(UPDATE_OVERHEAD_BYTES + len(update) for update in updates)

    @property
    def _merged_bytes_max(self) -> int:
        limits = self._context.limits
        message_bytes = limits.message_bytes - FRAME_OVERHEAD_BYTES - UPDATE_OVERHEAD_BYTES
        return min(limits.update_bytes, message_bytes, MERGED_BYTES_MAX)
