"""What phones do to an app, and an app does about it: networks, batteries, the background."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from client_sim.core import events
from client_sim.core.pacing import Policy
from client_sim.sim.plan import Deed

WINDOW_S = (3.0, 30.0, 200.0)
WINDOW_BYTES = (1_500, 20_000, 1 << 20)
LATENCIES_S = (None, 0.0, 3.0, 2_000.0)


def _policy(rng: Random) -> events.Event:
    return events.PolicyChosen(rng.choice((None, *Policy)), rng.choice(LATENCIES_S))


def _network(rng: Random) -> events.Event:
    return events.NetworkChanged(rng.choice(("home", "cell", None)), metered=rng.random() < 0.3)


def _window(rng: Random) -> events.Event:
    return events.WindowOpened(rng.choice(WINDOW_S), rng.choice(WINDOW_BYTES))


DRAWS: dict[Deed, Callable[[Random], events.Event]] = {
    Deed.POLICY: _policy,
    Deed.NETWORK: _network,
    Deed.NETWORK_BACK: lambda _: events.NetworkBack(),
    Deed.SUSPEND: lambda _: events.Suspended(),
    Deed.WINDOW: _window,
    Deed.HURRY: lambda _: events.Hurried(),
}
