"""What the app knows of statuses: none is told twice or forgotten, and none is without its reason."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from client_sim.core.context import Context
from client_sim.core.document import Document
from client_sim.core.documents import Documents
from client_sim.core.effects import StatusChanged
from client_sim.core.line import Line
from client_sim.core.reasons import COME_BACK_LATER, PLANNED
from client_sim.core.status import Link, State, Status

_AWAY = (State.OFFLINE, State.CONNECTING)


class Teller:
    """Compares what the app knew with what is. None stands for the device, a name for a document."""

    def __init__(self, context: Context, line: Line, documents: Documents) -> None:
        self._context = context
        self._line = line
        self._documents = documents
        self._told: dict[str | None, Status] = {}
        self._since: dict[str | None, float] = {}
        self._current_at: dict[str | None, float] = {}

    # --- how it stands now, and since when

    def status(self) -> Status:
        """The device's."""
        return self._dated(None, self._status())

    def document_status(self, name: str) -> Status:
        """Raises NotOpen."""
        document = self._documents[name]
        return self._dated(document.name, self._status_of(document))

    def _status(self) -> Status:
        return self._line.status(syncing=self._documents.is_any(State.SYNCING))

    def _status_of(self, document: Document) -> Status:
        """A document is offline for the reason for which its device is, or because the server is busy with others."""
        status = document.status()
        if status.state is not State.OFFLINE:
            return status
        is_sent_away = self._line.link is Link.OPEN and document.retry_at is not None
        return replace(status, reason=COME_BACK_LATER if is_sent_away else self._line.reason)

    def _dated(self, name: str | None, status: Status) -> Status:
        return status.began(self._since.get(name))

    # --- news

    def tell(self, now: float) -> Status:
        """Tell the app what changed. How the device stands."""
        for document in self._documents:
            self._tell(document.name, self._status_of(document), now)
        status = self._status()
        self._tell(None, status, now)
        return status

    def _tell(self, name: str | None, status: Status, now: float) -> None:
        if status.state is State.CURRENT:
            self._current_at[name] = now
        known = self._told.get(name)
        if known == status:
            return
        if known is None or not _goes_on(known, status):
            self._since[name] = now
        if name is None and status.state is State.CURRENT:
            self._context.counters.current_at = now
        self._told[name] = status
        self._context.emit(StatusChanged(name, self._dated(name, status)))

    def current_at(self, name: str) -> float | None:
        """When a document was current last; None if it never was. Raises NotOpen."""
        return self._current_at.get(self._documents[name].name)

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
