"""What a workload reports: named figures with units, of one run or of several."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

GENERATOR_BUSY = 0.85
"""A generator that takes more of its core than this may be what was measured."""


class Better(StrEnum):
    """Which way a figure is good."""

    LOWER = "lower"
    HIGHER = "higher"
    NEITHER = "neither"


@dataclass(frozen=True, slots=True)
class Figure:
    """One thing measured in one run, e.g. `Figure("server CPU", 41.2, "us/update", Better.LOWER)`."""

    name: str
    value: float
    unit: str
    better: Better = Better.LOWER


@dataclass(frozen=True, slots=True)
class Run:
    """One run of one case of a workload, whose result was checked: values converged, nothing was lost.

    `generator_share` is how much of its core the generator took, where there was one.
    """

    case: str
    figures: tuple[Figure, ...]
    generator_share: float | None = None
    note: str = ""


class WorkloadFailed(Exception):
    """The result of a run was not what it has to be; the text says what differs."""


Workload = Callable[[], Sequence[Run]]
"""Does one run of all cases of a workload, with servers of its own.

Raises WorkloadFailed, and ConnectionError if a server is gone.
"""


@dataclass(frozen=True, slots=True)
class Scale:
    """How much a run does. Each group's module has `def workloads(scale: Scale) -> dict[str, Workload]`.

    The dict is made before anything is chosen, so making it is to cost nothing; it has the same names at any scale.
    """

    seconds: float = 3.0
    """How long a part pushes that is measured for a time rather than for an amount of work."""
    quick: bool = False
    """A smoke run: every path once, on the least that shows that it works, in a second or two. No measurement."""

    def of(self, full: int, quick: int) -> int:
        """An amount of work, `quick` of it in a smoke run."""
        return quick if self.quick else full


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of several runs, with the least and the most."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(statistics.median(values), min(values), max(values))
