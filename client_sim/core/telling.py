"""What the app knows of statuses: none is told twice or forgotten."""

from __future__ import annotations

from collections.abc import Iterable

from client_sim.core.context import Context
from client_sim.core.effects import StatusChanged
from client_sim.core.reasons import PLANNED
from client_sim.core.status import State, Status

_AWAY = (State.OFFLINE, State.CONNECTING)


class Teller:
    """Compares what the app knew with what is. None stands for the device, a name for a document."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._told: dict[str | None, Status] = {}
        self._since: dict[str | None, float] = {}
        self._current_at: dict[str | None, float] = {}

    def tell(self, name: str | None, status: Status, now: float) -> bool:
        """Tell it where it is news. True if it was."""
        if status.state is State.CURRENT:
            self._current_at[name] = now
        known = self._told.get(name)
        if known == status:
            return False
        if known is None or not _goes_on(known, status):
            self._since[name] = now
        if name is None and status.state is State.CURRENT:
            self._context.counters.current_at = now
        self._told[name] = status
        self._context.emit(StatusChanged(name, self.dated(name, status)))
        return True

    def dated(self, name: str | None, status: Status) -> Status:
        """The status, with when it began."""
        return status.began(self._since.get(name))

    def current_at(self, name: str | None) -> float | None:
        """When it was current last; None if it never was."""
        return self._current_at.get(name)

    def forget(self, names: Iterable[str]) -> None:
        for name in names:
            self._told.pop(name, None)
            self._since.pop(name, None)
            self._current_at.pop(name, None)


def _goes_on(known: Status, status: Status) -> bool:
    """True if it is the same trouble: a server that can not be reached is so from the first try that failed."""
    if known.state in _AWAY and status.state in _AWAY:
        return status.state is State.CONNECTING or (known.reason in PLANNED) == (status.reason in PLANNED)
    return known.state is status.state and known.reason == status.reason
