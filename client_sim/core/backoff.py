"""How long to wait before the next try."""

from __future__ import annotations

import math

from client_sim.core.ports import Randomness

BASE_S = 0.5
CAP_S = 60.0


def asked_s(retry_after_ms: float | None) -> float:
    """How long to stay away, in seconds, for a server that asks for so long: none makes a device stay away for good."""
    return min((retry_after_ms or 0) / 1000, CAP_S)


class Backoff:
    """Exponential, with full jitter: the n-th wait is drawn from 0 to `base_s` * 2**n seconds, at most `cap_s`."""

    def __init__(self, rng: Randomness, base_s: float = BASE_S, cap_s: float = CAP_S) -> None:
        self._rng = rng
        self._base_s = base_s
        self._cap_s = cap_s
        self._span_s = base_s

    def next_wait_s(self, floor_s: float = 0.0) -> float:
        """Seconds to wait now. `floor_s` is what the server asked for at least: the jitter comes on top of it."""
        wait_s = floor_s + self._rng.random() * self._span_s
        self._span_s = min(self._cap_s, 2 * self._span_s)
        return wait_s

    def reset(self) -> None:
        """It went well: the next wait is short again."""
        self._span_s = self._base_s


class Brake:
    """For what a server may ask for at any time: at once, but after the backoff where it asks again before its end."""

    def __init__(self, rng: Randomness) -> None:
        self._backoff = Backoff(rng)
        self._free_at = -math.inf

    def done(self, now: float) -> None:
        """It was done."""
        self._free_at = now + self._backoff.next_wait_s()

    def not_before(self, due: float) -> float:
        """When to do it again, where that is due then."""
        if due < self._free_at:
            return self._free_at
        self._backoff.reset()
        return due
