"""What the kernel holds for a peer that takes no more for now."""

from __future__ import annotations

import asyncio
import socket
import sys
from contextlib import suppress
from fcntl import ioctl
from typing import Final

_SIOCOUTQNSD: Final = 0x894B
"""Of linux/sockios.h: bytes in the socket's send queue that were never sent."""


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
