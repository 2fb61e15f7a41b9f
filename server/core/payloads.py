"""Catch-up answers that travel in chunks, and the memory that all of them take."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from crdt.ids import DeviceId, DocumentId
from crdt.protocol.frames import Cursor

PATIENCE_S = 10.0
"""A transfer that took nothing for so long gives way to one that waits for memory."""

DONE = float("-inf")
"""When a payload was last used that is used no more."""


@dataclass(frozen=True, slots=True)
class Payload:
    """A catch-up answer that travels in chunks: once all are there the device is at `cursor`."""

    id: bytes
    document: DocumentId
    device: DeviceId
    data: bytes
    cursor: Cursor


class Payloads:
    """Chunked answers by id, those under way and those that may be gone on with, within one budget of memory.

    A new one finds room by dropping those whose transfers are done, then those that have stood still for PATIENCE_S.
    """

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._bytes = 0
        self._payloads: OrderedDict[bytes, tuple[Payload, float]] = OrderedDict()
        """With the time of their last use: the one to be dropped next is the first."""

    def have_room(self, now: float) -> bool:
        """Another one may be made, and stays within the budget but for its own size."""
        return self._bytes < self._bytes_max or self._oldest_is_dispensable(now)

    def _oldest_is_dispensable(self, now: float) -> bool:
        used_at = next((used_at for _, used_at in self._payloads.values()), DONE)
        return used_at <= now - PATIENCE_S

    def put(self, payload: Payload, now: float) -> None:
        """Keep it, and drop what has to go for it."""
        while self._payloads and self._bytes + len(payload.data) > self._bytes_max and self._oldest_is_dispensable(now):
            _, (oldest, _) = self._payloads.popitem(last=False)
            self._bytes -= len(oldest.data)
        self._payloads[payload.id] = (payload, now)
        self._bytes += len(payload.data)

    def use(self, payload_id: bytes, document: DocumentId, device: DeviceId, now: float) -> Payload | None:
        """The payload, if it is still here and was made for this device and document."""
        payload, _ = self._payloads.get(payload_id, (None, DONE))
        if payload is None or (payload.document, payload.device) != (document, device):
            return None
        self._payloads[payload_id] = (payload, now)
        self._payloads.move_to_end(payload_id)
        return payload

    def done(self, payload_id: bytes) -> None:
        """It is needed only if its last chunks were lost: it is kept until there is a better use for the memory."""
        if payload_id in self._payloads:
            self._payloads[payload_id] = (self._payloads[payload_id][0], DONE)
            self._payloads.move_to_end(payload_id, last=False)
