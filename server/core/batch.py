"""One document's share of a commit: runs of ops, applied to the replica before anything is written."""

from __future__ import annotations

from dataclasses import dataclass

from crdt.errors import ReplicaBroken
from crdt.ids import DeviceId
from crdt.replica import Replica
from crdt.update import StateVector, read_update
from server.core.intake import Op
from server.core.records import LogEntry


@dataclass(frozen=True, slots=True)
class Flight:
    """The batch that storage has: the entries to be, and the run of ops that each came from.

    `barred` devices may write no more: what they have in it counts if it is written, and is not tried again if not.
    """

    entries: tuple[LogEntry, ...]
    runs: list[list[Op]]
    barred: frozenset[DeviceId] = frozenset()

    @property
    def ops(self) -> list[Op]:
        """Those to be tried again if it is not written."""
        return [op for run in self.runs for op in run if op.device not in self.barred]


def expected_after(replica: Replica, runs: list[list[Op]]) -> StateVector:
    """The replica's state vector once these runs are in, where others are queued behind them."""
    expected = replica.state_vector()
    for run in runs:
        for op in run:
            read_update(op.update).advance(expected)
    return expected


def apply_runs(replica: Replica, runs: list[list[Op]], expected: StateVector) -> None:
    """Apply in log order, and find out which ops change anything; `expected` is the state vector that must follow.

    Raises ReplicaBroken: the replica may be half changed then.
    """
    pending: list[bytes] = []
    for run in runs:
        for op in run:
            if op.changes:
                pending.append(op.update)
                continue
            replica.apply(pending)
            pending = []
            op.changes = replica.apply_if_new(op.update)
    replica.apply(pending)
    if replica.state_vector() != expected:
        raise ReplicaBroken("the state vector is not the expected one")


def entries_of(runs: list[list[Op]], head_seq: int, time_ms: int) -> tuple[LogEntry, ...]:
    """An entry for each run, after `head_seq`, once it is known which ops change anything."""
    return tuple(
        LogEntry(
            seq=head_seq + index,
            device=run[0].device,
            first_op=run[0].number,
            last_op=run[-1].number,
            chain=run[-1].state.chain,
            updates=tuple(op.update for op in run if op.changes or op.teaches),
            time_ms=time_ms,
            heal=run[0].heal,
        )
        for index, run in enumerate(runs, 1)
    )
