"""What a fleet is to do."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from client_sim.core.pacing import Policy
from client_sim.fleet.capacity import Recording
from client_sim.fleet.habits import Habits
from client_sim.fleet.profiles import Profile


@dataclass(frozen=True, slots=True)
class Plan:
    """Times are seconds of the run. `stores` is a folder for the devices' files; None keeps them in memory.

    `speed` compresses sessions and absences, not how people type, nor networks. `policy` and `latency_s` are what the
    app chooses for its devices. `old_stores` is the share of devices whose store is of the first format. `budget_s` is
    what all have to converge when networks are well again.
    """

    users: int
    devices: int
    profile: Profile
    duration_s: float
    speed: float = 1.0
    seed: int = 1
    recording: Recording | None = None
    stores: Path | None = None
    bursts_s: tuple[float, ...] = ()
    restart_at_s: float | None = None
    policy: Policy | None = None
    latency_s: float | None = None
    old_stores: float = 0.0
    budget_s: float = 60.0
    habits: Habits = Habits()  # noqa: RUF009 - it is frozen
