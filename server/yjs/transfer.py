"""A large step 2 on its way from the hub's chunks to the client, without ever being whole in between."""

from __future__ import annotations

from crdt.protocol.frames import Chunk
from server.yjs.messages import Fragment, step_2_head

_ARRAY_OF_ONE = 0x91
_SIZE_BYTES = {0xC4: 1, 0xC5: 2, 0xC6: 4}
"""How many bytes tell the length of a bin (msgpack), by its first byte."""


class Transfer:
    """Chunks make up an array of one bin, the update. `prefix` comes before the message."""

    def __init__(self, prefix: bytes) -> None:
        self._prefix = prefix

    def fragment(self, chunk: Chunk) -> Fragment:
        """What the client is sent for a chunk; chunks come in order."""
        data = chunk.data
        if not chunk.offset:
            assert data[0] == _ARRAY_OF_ONE, "a diff is one update"
            begin = 2 + _SIZE_BYTES[data[1]]
            data = self._prefix + step_2_head(int.from_bytes(data[2:begin])) + data[begin:]
        return Fragment(data, not chunk.offset, chunk.offset + len(chunk.data) >= chunk.total)
