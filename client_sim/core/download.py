"""A catch-up answer that arrives in chunks, over more than one connection if need be."""

from __future__ import annotations

from dataclasses import replace

from crdt.protocol import codec
from crdt.protocol.frames import Ack, Chunk, Opened, Resume


class Download:
    """The payload of one OPENED, as far as it is here. Kept in memory: a device that restarts asks anew."""

    def __init__(self, opened: Opened) -> None:
        self.opened = opened
        self._data = bytearray()

    @classmethod
    def going_on(cls, previous: Download | None, opened: Opened) -> Download:
        """The download that `opened` announces: `previous`, where it is of the same payload."""
        download = cls(opened)
        if previous and previous.opened.payload_id == opened.payload_id and opened.payload_id is not None:
            download._data = previous._data
        return download

    @property
    def resume(self) -> Resume | None:
        """Where to go on; None if there is nothing to go on from."""
        payload_id = self.opened.payload_id
        return Resume(payload_id, len(self._data)) if payload_id and self._data else None

    def acknowledged(self, ack: Ack) -> None:
        """The server has more of this device's ops than when it announced the payload."""
        self.opened = replace(self.opened, acked_op=ack.op, chain=ack.chain)

    def add(self, chunk: Chunk) -> bool:
        """Take the next slice, or the first one again. False for any other."""
        if chunk.offset == 0:
            self._data.clear()
        if chunk.offset != len(self._data) or chunk.offset + len(chunk.data) > chunk.total:
            return False
        self._data += chunk.data
        return True

    def is_complete(self, total: int) -> bool:
        return len(self._data) == total

    def updates(self) -> tuple[bytes, ...]:
        """What the payload holds. Raises PeerError."""
        return codec.decode_updates(bytes(self._data), deflated=True)
