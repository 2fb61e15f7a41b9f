"""Edits that wait are sent as one op: what somebody typed letter by letter goes out as a word."""

from __future__ import annotations

from collections.abc import Sequence

from client_sim.core.parting import is_bounded
from crdt.replica import Replica
from crdt.update import StateVector, Update, read_update, write_state_vector
from crdt.update.ranges import Ranges


def merged(replica: Replica, updates: Sequence[bytes]) -> bytes | None:
    """One update in the place of `updates`, which are the last ones of their writers in `replica`.

    It has those writers' content as the replica has it now: letters typed one after the other are one run, and what
    was deleted again is only counted. Of the replica's deletes it has those that the updates made. None where that is
    no shorter, or can not be done.
    """
    reads = [read_update(update) for update in updates]
    now = replica.state_vector()
    before = _before(reads, now)
    if before is None:
        return None
    deleted = Ranges(found for read in reads for found in read.deletes)
    update = _structs(replica, before, now) + deleted.pack()
    return update if len(update) < sum(map(len, updates)) and is_bounded(update) else None


def _before(reads: Sequence[Update], now: StateVector) -> StateVector | None:
    """Where the replica was before these updates, for their writers alone; None if they do not end where it is now."""
    before, ends = dict(now), dict(now)
    for read in reads:
        for client, (start, end) in read.sections.items():
            before[client] = min(before[client], start)
            ends[client] = end
    return before if ends == now else None


def _structs(replica: Replica, before: StateVector, now: StateVector) -> bytes:
    """The structs of an update, without its delete set.

    An update ends with the delete set, and one from where the replica is now has nothing else but a count of zero.
    """
    deletes_bytes = len(replica.diff(write_state_vector(now))) - 1
    update = replica.diff(write_state_vector(before))
    return update[: len(update) - deletes_bytes]
