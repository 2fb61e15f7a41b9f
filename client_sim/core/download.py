"""A catch-up answer that arrives in chunks: over more than one connection, or process, if need be."""

from __future__ import annotations

from dataclasses import replace

from client_sim.core.holding import Holder
from crdt.errors import PeerError
from crdt.protocol import codec
from crdt.protocol.frames import Ack, Chunk, Opened, Resume


class Download:
    """The answer that an OPENED announced. Its bytes are kept with the copy until they are in, or of no use."""

    def __init__(self, holder: Holder) -> None:
        self._holder = holder
        self._opened: Opened | None = None

    @property
    def resume(self) -> Resume | None:
        """Where to go on; None if there is nothing to go on from. Raises StoreError and StoreDamaged."""
        copy = self._holder.copy
        return Resume(copy.partial_id, len(copy.partial)) if copy.partial_id else None

    def announced(self, opened: Opened) -> None:
        """Its chunks follow: on what is kept, if that is of the same payload."""
        self._opened = opened
        if self._holder.copy.partial_id != opened.payload_id:
            self.drop()

    def acknowledged(self, ack: Ack) -> None:
        """The server has more of this device's ops than when it announced the payload."""
        if self._opened is not None:
            self._opened = replace(self._opened, acked_op=ack.op, chain=ack.chain)

    def add(self, chunk: Chunk) -> bool:
        """Keep the next slice, or the first one again. False for any other: then nothing is kept."""
        assert self._opened is not None
        payload_id = self._opened.payload_id or b""
        with self._holder.changing() as copy:
            kept_bytes = len(copy.partial) if copy.partial_id == payload_id else 0
            fits = chunk.offset in (0, kept_bytes) and chunk.offset + len(chunk.data) <= chunk.total
            if fits:
                copy.keep_chunk(payload_id, chunk.offset, chunk.data)
            else:
                copy.drop_partial()
        return fits

    def is_complete(self, total: int) -> bool:
        return len(self._holder.copy.partial) == total

    def finished(self) -> tuple[Opened, tuple[bytes, ...]]:
        """What was announced, and the updates that the payload holds. Raises PeerError: then nothing is kept."""
        opened, self._opened = self._opened, None
        assert opened is not None
        try:
            return opened, codec.decode_updates(bytes(self._holder.copy.partial), deflated=True)
        except PeerError:
            self.drop()
            raise

    def drop(self) -> None:
        """What was kept is of no use."""
        if self._holder.copy.partial_id is not None:
            with self._holder.changing() as copy:
                copy.drop_partial()
