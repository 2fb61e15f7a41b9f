from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from client_sim.core.backoff import Backoff


@given(seed=st.integers(0, 1 << 32), floor_s=st.floats(0, 1000), tries=st.integers(1, 40))
def test_every_wait_is_between_the_floor_and_the_growing_span(seed: int, floor_s: float, tries: int) -> None:
    backoff = Backoff(Random(seed), base_s=0.5, cap_s=60)
    for number in range(tries):
        jitter_s = backoff.next_wait_s(floor_s) - floor_s
        assert -1e-9 <= jitter_s <= min(60, 0.5 * 2**number) + 1e-9


def test_success_makes_the_waits_short_again() -> None:
    backoff = Backoff(Random(1))
    for _ in range(10):
        backoff.next_wait_s()
    backoff.reset()
    assert backoff.next_wait_s() <= 0.5


def test_devices_that_were_cut_together_do_not_return_together() -> None:
    waits = {round(Backoff(Random(seed)).next_wait_s(5.0), 6) for seed in range(100)}
    assert len(waits) > 95
