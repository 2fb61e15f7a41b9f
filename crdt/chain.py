"""The running hash over a device's ops in one epoch: it tells two devices with one identity apart."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b

from crdt.protocol.frames import CHAIN_BYTES


def link(chain: bytes, update: bytes) -> bytes:
    """chain(n) = BLAKE2b-64(chain(n-1) || update n). CHAIN_START is chain(0)."""
    return blake2b(chain + update, digest_size=CHAIN_BYTES).digest()


def extend(chain: bytes, updates: Iterable[bytes]) -> bytes:
    """The hash after each of `updates` in turn."""
    for update in updates:
        chain = link(chain, update)
    return chain
