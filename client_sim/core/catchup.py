"""What an OPENED is for, and what it says of this device's ops."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, auto
from typing import assert_never

from client_sim.core.context import Context
from client_sim.core.copy import LocalCopy
from client_sim.core.status import Phase
from crdt.protocol.codes import Code
from crdt.protocol.frames import SERVER_REF, Mode, Opened

BEYOND_REPAIR = (Code.BAD_UPDATE, Code.TOO_BIG, Code.TOO_EXPENSIVE)
"""An op that is refused so is refused however often it comes."""
ENDS_MEMBERSHIP = (Code.FORBIDDEN, Code.DOC_QUARANTINED, Code.RESET_REQUIRED)


class Exchange(Enum):
    """What the next OPENED is for."""

    CATCH_UP = auto()
    FULL = auto()
    """The whole state, to build on it anew; then what only this device has."""
    REBUILD = auto()
    """The whole state, in the place of the replica; what the server refuses goes aside."""


def due(exchange: Exchange, copy: LocalCopy) -> Exchange:
    """What to ask for now: what comes from a damaged store can only be put together with the server's whole state."""
    return Exchange.FULL if copy.progress.salvaged and exchange is Exchange.CATCH_UP else exchange


class Verdict(Enum):
    """What the server's idea of this device's ops says."""

    GOES_ON = auto()
    WENT_BACK = auto()
    """Another history, or ops are missing that were acknowledged: the server was set back."""


class Forked(Exception):
    """The server has ops of this device that it did not make: another one has its identity.

    Nothing of the frame that shows it is applied, and nothing leaves the outbox for it.
    """


def judge(copy: LocalCopy, opened: Opened) -> Verdict:
    """Compare the server's last op of this device, and the hash up to it, with what the copy knows. Raises Forked."""
    progress = copy.progress
    if progress.epoch is None:  # nothing was ever numbered here, so nothing can be contradicted
        return Verdict.GOES_ON
    if opened.cursor.epoch != progress.epoch or opened.acked_op < progress.acked.op:
        return Verdict.WENT_BACK
    compare(copy, opened.acked_op, opened.chain)
    return Verdict.GOES_ON


def compare(copy: LocalCopy, op: int, chain: bytes) -> None:
    """Raise Forked if the server's hash over this device's ops up to `op`, the last acknowledged one at least, differs.

    It does where this copy has no such op, too.
    """
    if copy.chain_at(op) != chain:
        raise Forked(f"the server has another op {op} of this device")


def heals(exchange: Exchange, verdict: Verdict) -> bool:
    """True if the server lacks what it acknowledged: it gets that again, under new numbers."""
    return verdict is Verdict.WENT_BACK and exchange is not Exchange.REBUILD


def take_in(
    copy: LocalCopy, exchange: Exchange, updates: Sequence[bytes], refused_position: int, context: Context
) -> None:
    """Let the copy have a catch-up's updates, all of them. Raises Misfit, BadUpdate and ReplicaBroken.

    What was numbered in another history can not stay as it is: then `refused_position` is 0.
    """
    match exchange:
        case Exchange.CATCH_UP:
            copy.take(updates)
        case Exchange.FULL:
            copy.start_over(updates, context.next_client_id(), context.limits.update_bytes)
        case Exchange.REBUILD:
            copy.rebuild(updates, context.next_client_id(), refused_position)
        case _:
            assert_never(exchange)


def is_beside(opened: Opened, phase: Phase, ref: int | None) -> bool:
    """True for an unasked OPENED while an answer is awaited, or comes: it goes on from what this device ignored.

    Only the answer to OPEN has its `ref`, only the one to RESYNC a state vector. An unasked NEED_SV while chunks come
    counts: there will be no more of them.
    """
    match phase:
        case Phase.OPENING:
            return opened.ref != ref
        case Phase.RESYNCING:
            return opened.state_vector is None
        case Phase.RECEIVING:
            return opened.ref == SERVER_REF and opened.state_vector is None and opened.mode is not Mode.NEED_SV
        case Phase.CLOSED | Phase.LIVE | Phase.BLOCKED:
            return False
        case _:
            assert_never(phase)
