"""When edits that wait go out: a phone's radio costs most for being woken, and then stays up for a while.

What is sent, and what comes, are the same to a radio: whoever wakes it takes along what waits.
"""

from __future__ import annotations

from enum import StrEnum

RADIO_TAIL_S = 10.0
"""How long a radio stays up after the last byte, in LTE and UMTS networks about. Traffic within it wakes nothing."""


class Policy(StrEnum):
    """How an app weighs the battery against those who look on."""

    INTERACTIVE = "interactive"
    """Edits go out at once."""
    BALANCED = "balanced"
    """Edits wait for each other, and go out together as one op."""
    SAVER = "saver"
    """As BALANCED, and the device hangs up between two such times."""


LATENCY_S: dict[Policy, float] = {Policy.INTERACTIVE: 0.0, Policy.BALANCED: 90.0, Policy.SAVER: 900.0}
"""How long the oldest edit waits at most, where the app says nothing.

Of a day of typing, `balanced` is the shortest of such waits by which a writer and a reader together send less than 1.3
times the final state: docs/PERFORMANCE.md. Who waits, looks away or leaves is not made to wait for it.
"""
REST_S_MIN = 60.0
"""A saver that may let edits wait for less does not hang up in between: connecting costs a wake-up too."""
LEAD_S = 5.0
"""So much earlier it connects again: what waits goes out when the connection is up."""


def check_choice(policy: Policy | None, latency_s: float | None) -> None:
    """Raises ValueError for a policy or a latency that is none."""
    if policy is not None and policy not in [*Policy]:
        raise ValueError(f"policy is {policy!r}, which is none of {', '.join(Policy)}")
    if latency_s is not None and not 0.0 <= latency_s < float("inf"):
        raise ValueError(f"latency_s is {latency_s} s, which is no latency")


class Pacing:
    """The policy, and whether what waits may go out now.

    Without a policy of the app's a device is interactive, and a saver on a metered network.
    """

    def __init__(self) -> None:
        self.metered = False
        self._chosen: Policy | None = None
        self._latency_s: float | None = None
        self._is_released = False
        self._traffic_at: float | None = None

    def choose(self, policy: Policy | None, latency_s: float | None) -> None:
        """Raises as `check_choice`."""
        check_choice(policy, latency_s)
        self._chosen, self._latency_s = None if policy is None else Policy(policy), latency_s

    @property
    def policy(self) -> Policy:
        return self._chosen or (Policy.SAVER if self.metered else Policy.INTERACTIVE)

    @property
    def latency_s(self) -> float:
        """How long the oldest edit may wait, in seconds."""
        if self.policy is Policy.INTERACTIVE:
            return 0.0
        return LATENCY_S[self.policy] if self._latency_s is None else self._latency_s

    @property
    def is_open(self) -> bool:
        """True if an edit made now goes out now."""
        return self._is_released or self.latency_s == 0.0

    @property
    def is_released(self) -> bool:
        return self._is_released

    def release(self) -> None:
        """All that waits goes out, until `hold`."""
        self._is_released = True

    def hold(self) -> None:
        self._is_released = False

    def traffic(self, now: float) -> bool:
        """Something was sent or has come. True if it woke the radio."""
        woke = self._traffic_at is None or now - self._traffic_at > RADIO_TAIL_S
        self._traffic_at = now
        return woke
