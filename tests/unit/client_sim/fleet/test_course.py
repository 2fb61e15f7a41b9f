"""Networks under a clock that is a number."""

from __future__ import annotations

from math import inf
from random import Random

import pytest

from client_sim.fleet.capacity import Drawn
from client_sim.fleet.course import Course, Pipe, without_stalls
from client_sim.fleet.profiles import BREAKS, COMMUTE, PROFILES, Profile, Reach, Trouble
from client_sim.fleet.quantiles import Quantiles
from client_sim.fleet.radio import UMTS, WIFI

KILOBYTE_S = Quantiles.always(1000.0)
TEN_MS = Quantiles.always(0.010)
HOUR_S = 3600.0


def profile(*troubles: Trouble, loss: float = 0.0) -> Profile:
    return Profile("test", TEN_MS, KILOBYTE_S, KILOBYTE_S, loss, troubles, WIFI, ())


def trouble(reach: Reach, apart_s: float, lasts_s: float, **more: bool) -> Trouble:
    return Trouble(reach, Quantiles.always(apart_s), Quantiles.always(lasts_s), "made up", **more)


def pipe(course: Course, like: Profile) -> Pipe:
    return Pipe(course, like, Drawn(like.down, Random(1)), Random(1))


def test_what_is_sent_takes_its_time_and_keeps_its_order() -> None:
    network = profile()
    down = pipe(Course(network, Random(1)), network)
    assert down.arrival(500, 0.0) == pytest.approx(0.505)
    assert down.arrival(500, 0.0) == pytest.approx(1.005), "it waits for what is before it"
    assert down.arrival(500, 10.0) == pytest.approx(10.505)


def test_nothing_gets_through_a_stall_and_all_does_afterwards() -> None:
    network = profile(trouble(Reach.STALLED, 2.0, 5.0))
    down = pipe(Course(network, Random(1)), network)
    assert down.arrival(3000, 0.0) == pytest.approx(2.0 + 5.0 + 1.0 + 0.005)
    assert Course(network, Random(1)).next_break(0.0) is None


def test_a_lost_packet_is_waited_for() -> None:
    network = profile(loss=0.5)
    down = pipe(Course(network, Random(1)), network)
    late = sum(down.arrival(1, float(second)) - second > 0.2 for second in range(0, 2000, 10))
    assert 70 < late < 130, "about half of 200"


def test_breaks_are_foretold_and_come() -> None:
    course = Course(profile(trouble(Reach.OFF, 10.0, 3.0), trouble(Reach.STALLED, 4.0, 1.0)), Random(1))
    first = course.next_break(0.0)
    assert first is not None
    assert first.reach is Reach.OFF
    assert course.at(first.start_s) == first
    assert course.reachable_since(first.start_s + 1.0) == first.start_s + 1.0
    assert course.reachable_since(first.end_s + 0.1) == first.end_s
    second = course.next_break(first.start_s)
    assert second is not None
    assert second.start_s > first.start_s


def test_habits_are_compressed_and_networks_are_not() -> None:
    flights = Course(profile(trouble(Reach.OFF, HOUR_S, HOUR_S, habit=True)), Random(1), speed=60.0)
    assert flights.next_break(0.0) == (60.0, 120.0, Reach.OFF)
    stalls = Course(profile(trouble(Reach.OFF, HOUR_S, HOUR_S)), Random(1), speed=60.0)
    assert stalls.next_break(0.0) == (HOUR_S, 2 * HOUR_S, Reach.OFF)


def test_a_portal_is_there_at_once() -> None:
    assert Course(PROFILES["captive-portal"], Random(1)).at(0.0).reach is Reach.PORTAL


def test_calm_ends_everything() -> None:
    network = profile(trouble(Reach.OFF, 1.0, 100.0))
    course = Course(network, Random(1))
    assert course.at(5.0).reach is Reach.OFF
    course.calm(6.0)
    assert course.at(5.5).reach is Reach.OFF
    assert course.at(6.0) == (6.0, inf, Reach.CLEAR)
    assert course.next_break(6.0) is None
    assert course.reachable_since(9.0) == 6.0


@pytest.mark.parametrize("name", PROFILES)
def test_every_profile_has_a_course_without_gaps(name: str) -> None:
    network = PROFILES[name]
    course, at_s = Course(network, Random(7)), 0.0
    while at_s < 24 * HOUR_S:
        spell = course.at(at_s)
        assert spell.start_s <= at_s < spell.end_s
        at_s = spell.end_s
    assert network.sources
    assert all(kind.source for kind in network.troubles)


def test_a_commute_stalls_as_the_recorded_ones_did() -> None:
    """441 stalls of 1 s or more in 5.8 h, median 4.1 s, longest 70 s."""
    course, stalls, at_s, hours = Course(COMMUTE, Random(3)), list[float](), 0.0, 58.0
    while at_s < hours * HOUR_S:
        spell = course.at(at_s)
        if spell.reach is Reach.STALLED:
            stalls.append(spell.end_s - spell.start_s)
        at_s = spell.end_s
    assert 0.75 * 4410 < len(stalls) < 1.1 * 4410, "fewer, because none begins in another one"
    assert sorted(stalls)[len(stalls) // 2] == pytest.approx(4.1, rel=0.1)
    assert max(stalls) <= 70.0


def test_a_recording_has_stalls_of_its_own() -> None:
    left = without_stalls(COMMUTE)
    assert left.radio is UMTS
    assert [kind.reach for kind in left.troubles] == [Reach.OFF]
    assert set(BREAKS).isdisjoint({Reach.CLEAR, Reach.STALLED})
