"""Operators' updates on their way into one document. Each is an op like a device's, and is answered once."""

from __future__ import annotations

from crdt.ids import DeviceId
from server.core.desk import Desk
from server.core.effects import ImportFinished
from server.core.intake import Ops

IMPORTER = DeviceId("", "import")
"""The device that imports are written under. No token can name it: a user's name is never empty.

Server processes that share a document share it, so a number stands for an import only while it is queued or in flight.
"""


class Imports:
    """Requests that wait for the document, and those that are ops by now."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._waiting: list[tuple[int, bytes]] = []
        self._numbered: dict[int, int] = {}
        """Requests by op number."""

    @property
    def are_waiting(self) -> bool:
        return bool(self._waiting)

    def add(self, request: int, update: bytes) -> None:
        self._waiting.append((request, update))

    def next(self, number: int) -> Ops | None:
        """The first that waits, as op `number`; None if none does."""
        if not self._waiting:
            return None
        self._numbered[number], update = self._waiting.pop(0)
        return Ops(0, IMPORTER, number, (update,), self._desk.now, rehearsed=True)

    def wait_again(self, op: Ops) -> None:
        """The op was given up: it gets another number, in case another process took this one."""
        self._waiting.append((self._numbered.pop(op.number), op.updates[0]))

    def finish(self, number: int, seq: int, error: str | None = None) -> None:
        """Answer an import that is an op: its entry's seq (0 if it changed nothing), or why it is not durable."""
        self._desk.emit(ImportFinished(self._numbered.pop(number), seq, error))

    def fail_waiting(self, error: str) -> None:
        waiting, self._waiting = self._waiting, []
        for request, _ in waiting:
            self._desk.emit(ImportFinished(request, 0, error))
