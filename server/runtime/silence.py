"""Whether a peer that says nothing is gone, or only behind with what it was sent."""

from __future__ import annotations

import asyncio
import socket
import sys
from contextlib import suppress
from dataclasses import dataclass, replace
from fcntl import ioctl
from typing import Final, Self

_SIOCOUTQNSD: Final = 0x894B
"""Of linux/sockios.h: bytes in the socket's send queue that were never sent."""

PATIENCE_S: Final = 20.0
"""How long an answer may be on its way behind `UNREAD_BYTES`: a peer's kernel takes megabytes at once."""
UNREAD_BYTES: Final = 256 << 10


@dataclass(frozen=True, slots=True)
class Pinged:
    """A peer that has not answered a ping yet. Times in seconds, on the loop's clock."""

    at_s: float
    written_bytes: int
    """Before the ping."""
    unread_bytes: int
    """Of these: what was written behind the last ping that it answered."""
    looked_s: float
    taken_bytes: int
    is_stuck: bool
    """When it was looked at last, it had taken so much, and something waited for it."""

    @classmethod
    def now(cls, now_s: float, transport: asyncio.Transport, written_bytes: int, read_bytes: int) -> Self:
        """It is pinged. Of all that was written on the transport, it has read `read_bytes` at least."""
        stuck_bytes = unsent_bytes(transport)
        unread_bytes = written_bytes - read_bytes
        return cls(now_s, written_bytes, unread_bytes, now_s, written_bytes - stuck_bytes, stuck_bytes > 0)

    def given_time(
        self, now_s: float, transport: asyncio.Transport, written_bytes: int, *, is_paused: bool
    ) -> Self | None:
        """To be looked at again; None if it is gone.

        While we do not read, silence proves nothing. Who takes bytes that were stuck has the ping behind them, and the
        ping may wait in the peer's kernel, where nobody can see it.
        """
        stuck_bytes = unsent_bytes(transport)
        taken_bytes = written_bytes - stuck_bytes
        if is_paused or (self.is_stuck and taken_bytes > self.taken_bytes):
            return replace(self, looked_s=now_s, taken_bytes=taken_bytes, is_stuck=stuck_bytes > 0)
        may_be_reading = self.unread_bytes > UNREAD_BYTES and now_s - self.looked_s < PATIENCE_S
        return self if may_be_reading else None


def unsent_bytes(transport: asyncio.Transport) -> int:
    """What was written and waits for room: ours, and in the kernel, which may hold megabytes. There Linux alone tells.

    What is on its way does not count: a peer's kernel takes that, whether or not anybody reads it.
    """
    return transport.get_write_buffer_size() + _kernel_bytes(transport.get_extra_info("socket"))


def _kernel_bytes(raw: socket.socket | None) -> int:
    if raw is not None and sys.platform == "linux":
        with suppress(OSError, ValueError):  # it is gone
            return int.from_bytes(ioctl(raw.fileno(), _SIOCOUTQNSD, bytes(4)), sys.byteorder)
    return 0
