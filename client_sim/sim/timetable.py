"""Virtual time: what is going to happen, in order, and coroutines that sleep in it."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Coroutine, Generator
from itertools import count
from typing import Any

STEPS_MAX = 300_000
"""A run takes some thousands."""


class Restless(Exception):
    """Something goes round and round."""


class Sleep:
    """Awaited in work that a timetable runs: so many seconds of virtual time."""

    __slots__ = ("seconds",)

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __await__(self) -> Generator[Sleep, None, None]:
        yield self


class Work:
    """A coroutine on its way. `cancel` ends it where it sleeps, as the end of its process would."""

    def __init__(self, timetable: Timetable, coroutine: Coroutine[Sleep, None, None]) -> None:
        self._timetable = timetable
        self._coroutine = coroutine
        self._is_cancelled = self._is_running = False
        self.is_done = False

    def cancel(self) -> None:
        """Called from within, it goes on to its next sleep."""
        self._is_cancelled = True
        if not (self.is_done or self._is_running):
            self._coroutine.close()

    def go_on(self) -> None:
        if self._is_cancelled:
            return
        self._is_running = True
        try:
            sleep = self._coroutine.send(None)
        except StopIteration:
            self.is_done = True
        else:
            self._timetable.after(sleep.seconds, self.go_on)
        finally:
            self._is_running = False


class Timetable:
    """The world's clock. `now` is in seconds since the beginning; what is due at one time happens in order of entry."""

    def __init__(self) -> None:
        self.now = 0.0
        self.steps = 0
        self._unstarted: dict[Work, None] = {}
        self._heap: list[tuple[float, int, Callable[[], object]]] = []
        self._order = count()

    def at(self, when: float, act: Callable[[], object]) -> None:
        """`act` happens at `when`, or now if that is past."""
        heapq.heappush(self._heap, (max(when, self.now), next(self._order), act))

    def after(self, seconds: float, act: Callable[[], object]) -> None:
        self.at(self.now + seconds, act)

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> Work:
        """Run a coroutine that awaits nothing but Sleep. Its first part runs soon, not within this call."""
        work = Work(self, coroutine)
        self._unstarted[work] = None
        self.after(0.0, lambda: self._start(work))
        return work

    def _start(self, work: Work) -> None:
        del self._unstarted[work]
        work.go_on()

    def end(self) -> None:
        """Nothing happens any more: what was to begin just now never does."""
        for work in self._unstarted:
            work.cancel()

    def run_until(self, end: float) -> None:
        """Let happen all that is due up to `end`."""
        while self._heap and self._heap[0][0] <= end:
            self.now, _, act = heapq.heappop(self._heap)
            self.steps += 1
            if self.steps > STEPS_MAX:
                raise Restless(f"{self.steps} steps, and no end, at {self.now:.3f} s")
            act()
        self.now = end
