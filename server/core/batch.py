"""One document's share of a commit: runs of ops, applied to the replica before anything is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from crdt.chain import OpState
from crdt.errors import ReplicaBroken
from crdt.ids import DeviceId
from crdt.replica import Replica
from crdt.update import StateVector, read_state_vector, read_update
from server.core.intake import Ops, Run
from server.core.ports import Meter
from server.core.records import LogEntry

NEWS_BYTES_SAVED = 32
"""What an update has to have beyond its news to be logged without it."""


@dataclass(frozen=True, slots=True)
class Flight:
    """The batch that storage has: the entries to be, and the run of ops that each came from.

    `idle` runs get no entry, and are done when those are in. `barred` devices may write no more: what they have in it
    counts if it is written, and is not tried again if not.
    """

    entries: tuple[LogEntry, ...]
    runs: list[Run]
    idle: list[Run]
    barred: frozenset[DeviceId] = frozenset()

    @property
    def op_count(self) -> int:
        return sum(entry.last_op - entry.first_op + 1 for entry in self.entries)

    @property
    def ops(self) -> list[Ops]:
        """Those to be tried again if it is not written."""
        return [ops for run in (*self.runs, *self.idle) for ops in run if not self._is_barred(ops.device)]

    @property
    def states(self) -> dict[DeviceId, OpState]:
        """Where each device's ops are once it is written."""
        last = sorted((run[-1] for run in (*self.runs, *self.idle)), key=lambda ops: ops.state.op)
        return {ops.device: ops.state for ops in last}

    def _is_barred(self, device: DeviceId) -> bool:
        return device in self.barred or device.registered in self.barred


class Outcome(NamedTuple):
    """What came of a flight that was written: ops acknowledged, updates times receivers, when the oldest op came."""

    ops: int
    deliveries: int
    received_s: float


def measure(outcomes: Sequence[Outcome], meter: Meter, now: float) -> None:
    """What came of one commit, for whoever watches."""
    if not outcomes:
        return
    waited_s = now - min(outcome.received_s for outcome in outcomes)
    meter.acknowledged(sum(outcome.ops for outcome in outcomes), waited_s)
    if deliveries := sum(outcome.deliveries for outcome in outcomes):
        meter.delivered(deliveries, waited_s)


def expected_after(replica: Replica, runs: list[Run]) -> StateVector:
    """The replica's state vector once these runs are in, where others are queued behind them."""
    expected = replica.state_vector()
    for run in runs:
        for ops in run:
            for update in ops.updates:
                read_update(update).advance(expected)
    return expected


def apply_runs(replica: Replica, runs: list[Run], expected: StateVector) -> None:
    """Apply in log order, and find out which ops change anything; `expected` is the state vector that must follow.

    Raises ReplicaBroken: the replica may be half changed then.
    """
    pending: list[bytes] = []
    for run in runs:
        for ops in run:
            if ops.changes and not ops.is_padded:
                pending += ops.updates
                continue
            if pending:
                replica.apply(pending)
                pending = []
            _apply_watched(replica, ops)
    if read_state_vector(replica.apply(pending)) != expected:
        raise ReplicaBroken("the state vector is not the expected one")


def _apply_watched(replica: Replica, ops: Ops) -> None:
    """Find out whether it changes anything, and keep no more of it than that where it may be much less."""
    (update,) = ops.updates
    ops.changes = replica.apply_if_new(update)
    news = replica.news
    if news is not None and ops.is_padded and not ops.teaches and len(news) + NEWS_BYTES_SAVED <= len(update):
        ops.updates = (news,)


def parted(runs: list[Run]) -> tuple[list[Run], list[Run]]:
    """Those that get an entry, and those that need none: an ephemeral device will never ask for its numbers again."""
    idle = [run for run in runs if run[0].device.is_ephemeral and not any(op.changes or op.teaches for op in run)]
    return ([run for run in runs if not any(run is other for other in idle)], idle) if idle else (runs, idle)


def entries_of(runs: list[Run], head_seq: int, time_ms: int) -> tuple[LogEntry, ...]:
    """An entry for each run, after `head_seq`, once it is known which ops change anything."""
    return tuple(
        LogEntry(
            seq, run[0].device, run[0].number, run[-1].state.op, run[-1].state.chain, _logged(run), time_ms, run[0].heal
        )
        for seq, run in enumerate(runs, head_seq + 1)
    )


def _logged(run: Run) -> tuple[bytes, ...]:
    if len(run) == 1 and run[0].changes:
        return run[0].updates
    return tuple(update for ops in run if ops.changes or ops.teaches for update in ops.updates)
