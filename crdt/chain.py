"""The running hash over a device's ops in one epoch: it tells two devices with one identity apart."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b

from crdt.protocol.frames import CHAIN_BYTES


def extend(chain: bytes, updates: Iterable[bytes]) -> bytes:
    """chain(n) = BLAKE2b-64(chain(n-1) || update n), for each update in turn. CHAIN_START is chain(0)."""
    for update in updates:
        chain = blake2b(chain + update, digest_size=CHAIN_BYTES).digest()
    return chain
