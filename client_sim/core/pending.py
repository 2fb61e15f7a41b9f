"""What a device has that no server has acknowledged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from client_sim.core.ports import OutboxEntry


@dataclass(frozen=True, slots=True)
class Pending:
    """Edits that wait for a server's acknowledgement; False if there are none. Edits that were merged count as one.

    `age_s` is how long the oldest has waited. Of one that an earlier process made: since this one found it.
    """

    count: int = 0
    bytes: int = 0
    age_s: float = 0.0

    def __bool__(self) -> bool:
        return self.count > 0

    def __add__(self, other: Pending) -> Pending:
        return Pending(self.count + other.count, self.bytes + other.bytes, max(self.age_s, other.age_s))


class Ages:
    """When each edit of an outbox was made, by the driver's clock."""

    def __init__(self) -> None:
        self._made: dict[int, float] = {}

    def made(self, position: int, now: float) -> None:
        self._made[position] = now

    def since(self, entry: OutboxEntry, now: float) -> float:
        """When an edit was made: now, if nobody knows."""
        return self._made.setdefault(entry.position, now)

    def forget(self, outbox: Sequence[OutboxEntry]) -> None:
        """Only these are left."""
        first = outbox[0].position if outbox else None
        for position in [known for known in self._made if first is None or known < first]:
            del self._made[position]

    def pending(self, outbox: Sequence[OutboxEntry], now: float) -> Pending:
        if not outbox:
            return Pending()
        age_s = max(0.0, now - self.since(outbox[0], now))
        return Pending(len(outbox), sum(len(entry.update) for entry in outbox), age_s)
