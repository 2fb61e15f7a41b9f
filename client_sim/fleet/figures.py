"""What a fleet measures, as it comes; `summary` makes figures of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple

from client_sim.fleet.quantiles import percentile

HOUR_S = 3600.0
SHARES = (0.5, 0.9, 0.95, 0.99, 1.0)


class Timed(NamedTuple):
    """It took `seconds`, and was over at `at_s` of the run."""

    at_s: float
    seconds: float


@dataclass(slots=True)
class Spent:
    """What one device cost. `open_s`: its app was open, and not suspended; `lives` are starts of the app."""

    open_s: float = 0.0
    lives: int = 0
    kills: int = 0
    upgrades: int = 0
    """Of its store, from an older format."""
    edits: int = 0
    bytes_up: int = 0
    bytes_down: int = 0
    awake_s: float = 0.0
    joules: float = 0.0
    wakeups: int = 0
    attempts: int = 0
    failures: int = 0
    """Of attempts to connect."""
    connections: int = 0
    resent: int = 0
    resyncs: int = 0
    heals: int = 0

    def __add__(self, other: Spent) -> Spent:
        return Spent(**{known.name: getattr(self, known.name) + getattr(other, known.name) for known in fields(Spent)})


class Sample(NamedTuple):
    """The fleet at a moment: how many apps are open, how many current, and how many have something pending."""

    at_s: float
    open: int
    current: int
    behind: int
    asleep: int
    """Those with something pending whose app is suspended: the others are `behind`."""
    pending: int
    """Edits, of both."""
    age_p95_s: float
    """Of the oldest pending edit of each device that has one, and whose app is not suspended."""
    age_max_s: float
    bytes_up: int
    bytes_down: int
    edits: int
    lag_s: float
    """How late this process's event loop was: what it adds itself to every time that it measures."""


@dataclass(slots=True)
class Figures:
    """Of the whole run."""

    opened: list[Timed] = field(default_factory=list)
    """From the start of an app, or from when there was a network, until it was current."""
    reconnected: list[Timed] = field(default_factory=list)
    """From when a connection was lost, or could be made again, until the device was current."""
    seen_live: list[Timed] = field(default_factory=list)
    """From an edit to another device's having it, where both were online, or believed so."""
    seen_open: list[Timed] = field(default_factory=list)
    """The same where one offline: offline, or still catching up."""
    samples: list[Sample] = field(default_factory=list)
    ages: list[float] = field(default_factory=list)
    """The same, of each such device at each sample."""
    modes: Counter[str] = field(default_factory=Counter)
    windows: Counter[str] = field(default_factory=Counter)
    """Background syncs, by how they ended."""
    errors: Counter[str] = field(default_factory=Counter)
    events: list[tuple[float, str]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Verdict:
    """How it ended. `problems` is empty if everything converged, and nothing that was acknowledged is missing."""

    devices: int
    documents: int
    converged_s: float | None
    """From when all was well with the networks until every device had everything."""
    problems: tuple[str, ...]


def quantiles(values: Iterable[float]) -> dict[str, float | None]:
    ordered = sorted(values)
    return {"count": len(ordered)} | {f"p{100 * share:g}": percentile(ordered, share) for share in SHARES}


def summary(
    figures: Figures, spent: Mapping[str, Spent], verdict: Verdict, about: Mapping[str, Any], run_s: float
) -> dict[str, Any]:
    """All figures, as JSON has them. Seconds, bytes, joules; `per_device_hour` is of time with the app open."""
    total = sum(spent.values(), Spent())
    hours = max(total.open_s / HOUR_S, 1e-9)
    return {
        "about": dict(about),
        "verdict": {
            "converged": not verdict.problems, "problems": list(verdict.problems),
            "devices": verdict.devices, "documents": verdict.documents, "converged_within_s": verdict.converged_s,
        },
        "run_s": run_s,
        "time_to_current_s": {
            "after_reconnect": quantiles(timed.seconds for timed in figures.reconnected),
            "after_opening": quantiles(timed.seconds for timed in figures.opened),
        },
        "edit_to_other_device_s": {
            "both_online": quantiles(timed.seconds for timed in figures.seen_live),
            "one_offline": quantiles(timed.seconds for timed in figures.seen_open),
        },
        "queue_age_s": quantiles(figures.ages),
        "total": {known.name: getattr(total, known.name) for known in fields(Spent)},
        "device_hours_open": total.open_s / HOUR_S,
        "per_device_hour": {
            "bytes_up": total.bytes_up / hours, "bytes_down": total.bytes_down / hours,
            "radio_awake_s": total.awake_s / hours, "radio_joules": total.joules / hours,
            "radio_wakeups": total.wakeups / hours,
        },
        "catch_ups": dict(sorted(figures.modes.items())),
        "background_syncs": dict(sorted(figures.windows.items())),
        "errors": dict(sorted(figures.errors.items())),
        "own_delay_s": quantiles(sample.lag_s for sample in figures.samples),
        "samples": [sample._asdict() for sample in figures.samples],
        "events": [{"at_s": at_s, "what": what} for at_s, what in figures.events],
    }  # fmt: skip
