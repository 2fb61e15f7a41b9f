"""Word from process to process of what was committed, by a database or a message bus: late, twice, or never.

In every other run there is none, and a process learns what others wrote only at its next append, or from a device.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from client_sim.sim.process import ServerProcess
from client_sim.sim.timetable import Timetable
from client_sim.sim.weather import Span
from crdt.ids import DocumentId
from crdt.protocol.frames import Cursor
from server.core.events import LogGrew

LOSSES = (0.0, 0.05, 0.5)
DELAYS = (Span(0.0005, 0.005), Span(0.005, 0.5), Span(0.1, 20.0))
TWICE = 0.1


class Bus:
    """Tells all processes of a commit, the one that made it too."""

    def __init__(self, rng: Random, timetable: Timetable, processes: Sequence[ServerProcess]) -> None:
        self._rng = rng
        self._timetable = timetable
        self._processes = processes if rng.random() < 0.5 and len(processes) > 1 else ()
        self._loss = rng.choice(LOSSES)
        self._delay = rng.choice(DELAYS)

    def committed(self, document: DocumentId, cursor: Cursor) -> None:
        for process in self._processes:
            while self._rng.random() >= self._loss:
                self._tell(process, LogGrew(document, cursor))
                if self._rng.random() >= TWICE:
                    break

    def _tell(self, process: ServerProcess, news: LogGrew) -> None:
        self._timetable.after(self._delay.draw(self._rng), lambda: process.told(news))
