"""How badly things go in one run: every fault's probability and every latency's range, drawn from the seed (swarm)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from random import Random
from typing import NamedTuple

DAY_S = 86_400.0


class Span(NamedTuple):
    """Seconds, drawn log-uniformly: most are short, and a few are as long as they get."""

    low: float
    high: float

    def draw(self, rng: Random) -> float:
        return float(self.low * (self.high / self.low) ** rng.random())


class Fault(StrEnum):
    """A kind of trouble. Half of them are absent from a run, so that each is met with and without the others."""

    NETWORK = "network"
    SLOW_READERS = "slow_readers"
    CRASHES = "crashes"
    DISK = "disk"
    STORES = "stores"
    CLONES = "clones"
    OPERATORS = "operators"
    RESTORES = "restores"
    TOKENS = "tokens"
    CLOCKS = "clocks"
    HOSTILE = "hostile"
    ABSENCE = "absence"
    KEYS = "keys"
    WORKERS = "workers"
    ROT = "rot"
    OVERLOAD = "overload"
    EXCISION = "excision"


PROFILES: dict[str, tuple[Fault, ...] | None] = {
    "swarm": None,
    "calm": (),
    "all": tuple(Fault),
    "network": (Fault.NETWORK, Fault.SLOW_READERS, Fault.ABSENCE),
    "servers": (Fault.CRASHES, Fault.DISK, Fault.OPERATORS),
    "devices": (Fault.STORES, Fault.CLONES, Fault.ABSENCE),
    "restores": (Fault.RESTORES, Fault.CRASHES),
    "hostile": (Fault.HOSTILE, Fault.TOKENS, Fault.OPERATORS),
    "door": (Fault.KEYS, Fault.TOKENS, Fault.OVERLOAD, Fault.NETWORK),
    "documents": (Fault.ROT, Fault.WORKERS, Fault.EXCISION, Fault.DISK),
}
"""Which faults a run has. None: every run draws its own."""

PINGS = (Span(0.005, 0.04), Span(0.04, 0.137), Span(0.137, 0.889))
"""One way or another of a round trip: a good line, 4G with p50 75 ms and p95 137 ms, and its slowest hundredth."""
BANDWIDTHS = (8e6, 175_000.0, 62_500.0, 8_000.0)
"""Bytes a second: a good line, 3G at its median of 1.4 Mbit/s and its p5 of 0.5, and worse."""
STALLS = Span(1.0, 70.0)
"""3G commutes: 441 stalls in 5.8 h, median 4.1 s, longest 70 s."""


@dataclass(frozen=True, slots=True)
class Weather:
    """Probabilities are per event of the kind; spans are in seconds."""

    faults: tuple[Fault, ...]
    latency: Span
    bandwidth: float
    stall: float
    connect_fails: float
    append: Span
    append_fails: float
    append_unreported: float
    load: Span
    load_fails: float
    compact: Span
    compact_fails: float
    worker_dies: float
    misread: float
    """What is stored reads as damaged, once."""
    token: Span
    token_fails: float
    token_life: Span
    store_fails: float
    noticed: Span
    """How soon an end finds a connection lost that was cut."""

    @property
    def calm(self) -> Weather:
        """The same place after the storm: what was slow stays slow, nothing fails any more."""
        return replace(
            self,
            bandwidth=BANDWIDTHS[0],
            stall=0.0,
            connect_fails=0.0,
            append_fails=0.0,
            append_unreported=0.0,
            load_fails=0.0,
            compact_fails=0.0,
            worker_dies=0.0,
            misread=0.0,
            token_fails=0.0,
            token_life=Span(86_400.0, 86_401.0),
            store_fails=0.0,
        )


def draw(rng: Random, profile: str) -> Weather:
    """The weather of one run."""
    chosen = PROFILES[profile]
    faults = chosen if chosen is not None else tuple(fault for fault in Fault if rng.random() < 0.5)
    worst = 10.0 ** rng.uniform(-2.5, -0.7)

    def maybe(fault: Fault, scale: float = 1.0) -> float:
        return scale * worst * rng.random() if fault in faults else 0.0

    network, tokens = Fault.NETWORK in faults, Fault.TOKENS in faults
    disk = rng.choice((Span(0.001, 0.01), Span(0.01, 0.3), Span(0.2, 4.0))) if Fault.DISK in faults else None
    return Weather(
        faults=faults,
        latency=rng.choice(PINGS) if network else PINGS[0],
        bandwidth=rng.choice(BANDWIDTHS) if network else BANDWIDTHS[0],
        stall=maybe(Fault.NETWORK, 0.1),
        connect_fails=maybe(Fault.NETWORK, 3),
        append=disk or Span(0.001, 0.01),
        append_fails=maybe(Fault.DISK),
        append_unreported=maybe(Fault.DISK),
        load=disk or Span(0.001, 0.02),
        load_fails=maybe(Fault.DISK),
        compact=Span(0.01, 20.0) if disk else Span(0.01, 0.1),
        compact_fails=maybe(Fault.DISK, 3),
        worker_dies=maybe(Fault.WORKERS, 3),
        misread=maybe(Fault.ROT),
        token=Span(0.05, 30.0) if tokens else Span(0.05, 0.3),
        token_fails=maybe(Fault.TOKENS),
        token_life=rng.choice((Span(10.0, 40.0), Span(60.0, 600.0))) if tokens else Span(3600.0, 36_000.0),
        store_fails=maybe(Fault.STORES, 0.3),
        noticed=Span(0.01, rng.choice((0.1, 5.0, 60.0))),
    )


@dataclass(frozen=True, slots=True)
class Place:
    """Who is there: `handsets` of alice, `guests` who have grants on her documents, server processes."""

    handsets: int
    guests: tuple[str, ...]
    processes: int
    documents: tuple[str, ...]
    tiny: bool
    days: float
    grants: dict[str, str] = field(default_factory=dict)
    binds_from_s: float | None = None
    """From then on the app's token service binds tokens to the keys of devices; None: devices have none."""


def place(rng: Random, weather: Weather) -> Place:
    """The place of one run."""
    guests = tuple(name for name, odds in (("bob", 0.4), ("carol", 0.25)) if rng.random() < odds)
    days = rng.choice((0.003, 0.01, 0.05))
    if Fault.ABSENCE in weather.faults:
        days = rng.choice((1.0, 7.0, 30.0))
    keys = Fault.KEYS in weather.faults
    return Place(
        handsets=rng.choice((1, 2, 2, 3)),
        guests=guests,
        processes=rng.choice((1, 1, 2, 3)),
        documents=("main", "notes") if rng.random() < 0.4 else ("main",),
        tiny=rng.random() < 0.5,
        days=days,
        grants={name: "r" if name == "carol" else "rw" for name in guests},
        binds_from_s=rng.choice((0.0, rng.random() * days * DAY_S)) if keys else None,
    )
