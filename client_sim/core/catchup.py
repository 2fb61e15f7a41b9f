"""What an OPENED is for, and what it says of this device's ops."""

from __future__ import annotations

from enum import Enum, auto

from client_sim.core.copy import LocalCopy
from crdt.protocol.frames import Opened


class Exchange(Enum):
    """What the next OPENED is for."""

    CATCH_UP = auto()
    FULL = auto()
    """The whole state, to build on it anew; then what only this device has."""
    REBUILD = auto()
    """The whole state, in the place of the replica; pending edits go aside."""


class Verdict(Enum):
    """What the server's idea of this device's ops says."""

    GOES_ON = auto()
    WENT_BACK = auto()
    """Another history, or ops are missing that were acknowledged: the server was set back."""
    FORKED = auto()
    """Ops are there that this device did not make: another one has its identity."""


def judge(copy: LocalCopy, opened: Opened) -> Verdict:
    """Compare the server's last op of this device, and the hash up to it, with what the copy knows."""
    progress = copy.progress
    if progress.epoch is None:  # nothing was ever numbered here, so nothing can be contradicted
        return Verdict.GOES_ON
    if opened.cursor.epoch != progress.epoch or opened.acked_op < progress.acked.op:
        return Verdict.WENT_BACK
    return Verdict.GOES_ON if copy.chain_at(opened.acked_op) == opened.chain else Verdict.FORKED
