"""What a device has that no server has acknowledged."""

from __future__ import annotations

from dataclasses import dataclass

from client_sim.core.copy import LocalCopy


@dataclass(frozen=True, slots=True)
class Pending:
    """Edits that wait for a server's acknowledgement; False if there are none.

    `bytes` are of updates, as they will be sent. `age_s` is how long the oldest edit has waited. Of what an earlier
    process made: how long since this one found it, and edits that it had merged count as one.
    """

    count: int = 0
    bytes: int = 0
    age_s: float = 0.0

    def __bool__(self) -> bool:
        return self.count > 0

    def __add__(self, other: Pending) -> Pending:
        return Pending(self.count + other.count, self.bytes + other.bytes, max(self.age_s, other.age_s))


class Ages:
    """When each edit of an outbox was made, by the driver's clock: by position, those that were merged too."""

    def __init__(self) -> None:
        self._made: dict[int, float] = {}
        self._copy: LocalCopy | None = None

    def made(self, copy: LocalCopy, now: float) -> None:
        """The last entry is an edit made now."""
        self._look(copy, now)
        self._made[copy.outbox[-1].position] = now

    def forget(self, copy: LocalCopy) -> None:
        """Some are acknowledged, or stand in the outbox no more."""
        first = copy.outbox[0].position if copy.outbox else copy.next_position
        for position in [known for known in self._made if not first <= known < copy.next_position]:
            del self._made[position]

    def since(self, copy: LocalCopy, position: int, now: float) -> float:
        """When the edit there was made."""
        self._look(copy, now)
        return self._made.setdefault(position, now)

    def pending(self, copy: LocalCopy, now: float) -> Pending:
        if not copy.outbox:
            return Pending()
        age_s = max(0.0, now - self.since(copy, copy.outbox[0].position, now))
        self.forget(copy)
        return Pending(len(self._made), sum(len(entry.update) for entry in copy.outbox), age_s)

    def _look(self, copy: LocalCopy, now: float) -> None:
        """What the store had when the copy was loaded is as old as that, for all that is known."""
        if self._copy is not copy:
            self._copy = copy
            for entry in copy.outbox:
                self._made.setdefault(entry.position, now)
