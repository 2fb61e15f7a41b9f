"""The energy model, by hand."""

from __future__ import annotations

import pytest

from client_sim.fleet.radio import UMTS, WIFI, RadioMeter


def test_a_transfer_is_followed_by_its_tail() -> None:
    meter = RadioMeter(UMTS)
    meter.transfer(10.0, 12.0)
    meter.finish(100.0)
    assert meter.awake_s == pytest.approx(2.0 + 5.0 + 12.0)
    assert meter.joules == pytest.approx(2.0 * 0.80 + 5.0 * 0.80 + 12.0 * 0.46)
    assert meter.wakeups == 1


def test_what_comes_within_the_tail_does_not_wake_it_again() -> None:
    meter = RadioMeter(UMTS)
    for start_s in (0.0, 10.0, 20.0):
        meter.transfer(start_s, start_s)
    meter.finish(1000.0)
    assert meter.awake_s == pytest.approx(10.0 + 10.0 + 17.0)
    assert meter.wakeups == 1
    later = RadioMeter(UMTS)
    for start_s in (0.0, 17.0, 100.0):
        later.transfer(start_s, start_s)
    later.finish(1000.0)
    assert later.awake_s == pytest.approx(3 * 17.0)
    assert later.wakeups == 3


def test_transfers_at_the_same_time_count_once() -> None:
    meter = RadioMeter(WIFI)
    meter.transfer(0.0, 5.0)
    meter.transfer(1.0, 2.0)
    meter.transfer(4.0, 6.0)
    meter.finish(6.0)
    assert meter.awake_s == pytest.approx(6.0)
    assert meter.wakeups == 1
