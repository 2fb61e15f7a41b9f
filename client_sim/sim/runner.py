"""Many seeds, on all cores."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor
from dataclasses import dataclass, field

from client_sim.sim.run import Failure, Outcome, play_seed

BATCH = 4
"""Seeds that a worker takes at a time."""


@dataclass(slots=True)
class Summary:
    """What came of many runs."""

    seeds: int = 0
    days: float = 0.0
    device_days: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)
    failures: list[Outcome] = field(default_factory=list)

    def add(self, outcome: Outcome) -> None:
        self.seeds += 1
        self.days += outcome.days
        self.device_days += outcome.device_days
        self.counts.update(outcome.counts)
        if outcome.failure is not None:
            self.failures.append(outcome)


def outcomes(first: int, seeds: int, profile: str, cores: int, goes_on: Callable[[], bool]) -> Iterator[Outcome]:
    """The outcomes of `seeds` runs from `first` on, in the order of their seeds, as long as `goes_on()`."""
    with ProcessPoolExecutor(cores) as pool:
        waiting: deque[tuple[int, Future[list[Outcome]]]] = deque()
        starts = iter(range(first, first + seeds, BATCH))
        while True:
            while len(waiting) < 2 * cores and goes_on() and (start := next(starts, None)) is not None:
                count = min(BATCH, first + seeds - start)
                waiting.append((start, pool.submit(_play, start, count, profile)))
            if not waiting:
                return
            start, batch = waiting.popleft()
            try:
                yield from batch.result()
            except BrokenExecutor:
                died = Failure("no defects", f"the process died in one of the seeds {start} to {start + BATCH - 1}")
                yield Outcome(start, "", 0.0, 0.0, Counter(), died)
                return


def _play(start: int, count: int, profile: str) -> list[Outcome]:
    return [play_seed(seed, profile) for seed in range(start, start + count)]
