"""One seed, from its plan to its verdict."""

from __future__ import annotations

import traceback
from collections import Counter
from dataclasses import dataclass, field

from client_sim.sim import bounds, ending
from client_sim.sim.history import Line
from client_sim.sim.plan import Plan, make
from client_sim.sim.truth import Broken
from client_sim.sim.world import World


@dataclass(frozen=True, slots=True)
class Failure:
    """A promise that does not hold, by its short name, how that shows, and when it did in virtual time."""

    promise: str
    message: str
    at_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a run. `lines` are there if they were asked for."""

    seed: int
    digest: str
    days: float
    device_days: float
    counts: Counter[str]
    failure: Failure | None
    lines: list[Line] = field(default_factory=list)


def play(plan: Plan, *, keep: bool = False) -> Outcome:
    """Play a plan to its end. An exception of the product's own is a failure like any other."""
    failure = None
    with bounds.constants(tiny=plan.place.tiny):
        world = World(plan, keep=keep)
        try:
            world.play()
            ending.settle(world)
        except Broken as exc:
            failure = Failure(exc.promise, str(exc), world.timetable.now)
        except Exception as exc:  # noqa: BLE001 - whatever it is, it is what was looked for
            failure = Failure("no defects", f"{type(exc).__name__}: {exc} {_where(exc)}", world.timetable.now)
    world.timetable.end()
    days = world.timetable.now / 86_400
    history = world.history
    device_days = days * len(world.handsets)
    return Outcome(plan.seed, history.digest, days, device_days, history.counts, failure, history.lines)


def play_seed(seed: int, profile: str = "swarm", *, keep: bool = False) -> Outcome:
    return play(make(seed, profile), keep=keep)


def _where(exc: Exception) -> str:
    """The innermost places, as file:line."""
    frames = traceback.extract_tb(exc.__traceback__)[-4:]
    return " < ".join(f"{'/'.join(frame.filename.split('/')[-3:])}:{frame.lineno}" for frame in reversed(frames))
