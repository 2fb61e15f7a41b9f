"""The running hash over a device's ops in one epoch: it tells two devices with one identity apart."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from typing import Final, NamedTuple

from crdt.protocol.frames import CHAIN_BYTES, CHAIN_START


class OpState(NamedTuple):
    """How far a device's numbered ops are: the last one, and the running hash up to it."""

    op: int
    chain: bytes

    def after(self, update: bytes) -> OpState:
        """Once one more op, with this update, is in."""
        return OpState(self.op + 1, link(self.chain, update))


OPS_START: Final = OpState(0, CHAIN_START)

_EMPTY: Final = blake2b(digest_size=CHAIN_BYTES)
"""To set one up takes as long as to hash an update."""


def link(chain: bytes, update: bytes) -> bytes:
    """chain(n) = BLAKE2b-64(chain(n-1) || update n). CHAIN_START is chain(0)."""
    state = _EMPTY.copy()
    state.update(chain + update)
    return state.digest()


def extend(chain: bytes, updates: Iterable[bytes]) -> bytes:
    """The hash after each of `updates` in turn."""
    for update in updates:
        chain = link(chain, update)
    return chain
