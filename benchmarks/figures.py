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
"""Does one run of all cases of a workload, with servers of its own. Raises WorkloadFailed."""


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of several runs, with the least and the most."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(statistics.median(values), min(values), max(values))
