"""A connection that is quiet costs few PINGs, and a dead one is noticed in the time that is stated."""

from __future__ import annotations

from random import Random

from client_sim.core import events
from client_sim.core.keepalive import ANSWER_S, CEILING_S, FLOOR_S, PROBE_S, SLOW_BYTES_PER_S, START_S, KeepAlive
from client_sim.core.status import Link, State
from crdt.protocol.frames import Ping
from tests.unit.client_sim.fake_server import FakeServer
from tests.unit.client_sim.rig import Rig

MOST_S = 1000.0


def quiet(keepalive: KeepAlive, now: float) -> float:
    """Let time pass to the next PING, which is answered at once."""
    due = keepalive.deadline()
    assert due is not None
    assert keepalive.ping_due(due)
    keepalive.heard(due)
    return due - now


def dies(keepalive: KeepAlive, now: float) -> float:
    """The same, but nobody answers; then the device is connected again. When that is."""
    due = keepalive.deadline()
    assert due is not None
    assert keepalive.ping_due(due)
    dead = keepalive.deadline()
    assert dead is not None
    assert dead >= due + ANSWER_S
    assert keepalive.is_dead(dead)
    keepalive.end()
    keepalive.begin(MOST_S, dead + 1)
    return dead + 1


def test_the_interval_grows_while_it_is_quiet_and_answered() -> None:
    keepalive = KeepAlive()
    keepalive.begin(MOST_S, 0.0)
    waits, now = [], 0.0
    for _ in range(12):
        waits.append(quiet(keepalive, now))
        now += waits[-1]
    assert waits[0] == START_S
    assert waits == sorted(waits)
    assert waits[-1] == CEILING_S


def test_a_servers_heartbeat_bounds_the_interval() -> None:
    keepalive = KeepAlive()
    keepalive.begin(30.0, 0.0)
    now = 0.0
    for _ in range(5):
        now += quiet(keepalive, now)
    assert now == 5 * 30.0


def test_a_nat_that_forgets_is_learnt_and_not_tried_again() -> None:
    """One that forgets after two minutes: the interval comes to rest below that."""
    keepalive = KeepAlive()
    keepalive.begin(MOST_S, 0.0)
    now, deaths = 0.0, 0
    for _ in range(1000):
        if keepalive.interval_s > 120.0:
            now = dies(keepalive, now)
            deaths += 1
        else:
            now += quiet(keepalive, now)
    assert deaths <= 15
    assert now / 1000 > 80.0, "that is how long it is quiet on the whole"


def test_a_connection_that_died_of_something_else_is_no_lesson_for_ever() -> None:
    keepalive = KeepAlive()
    keepalive.begin(MOST_S, 0.0)
    now = 0.0
    for _ in range(20):
        now += quiet(keepalive, now)
    now = dies(keepalive, now)
    assert keepalive.interval_s < CEILING_S
    for _ in range(20):
        now += quiet(keepalive, now)
    assert keepalive.interval_s == CEILING_S


def test_a_network_that_stalls_is_given_more_time_until_it_answers_soon() -> None:
    keepalive = KeepAlive()
    keepalive.begin(MOST_S, 0.0)
    now, waits = 0.0, []
    for _ in range(6):
        before = keepalive.deadline()
        assert before is not None
        now = dies(keepalive, now)
        waits.append(now - 1 - before)
    assert waits == [20, 40, 80, 160, 160, 160]
    for _ in range(3):
        now += quiet(keepalive, now)
    ping = keepalive.deadline()
    assert ping is not None
    assert dies(keepalive, now) - 1 - ping == ANSWER_S


def test_no_network_makes_it_shorter_than_the_floor() -> None:
    keepalive = KeepAlive()
    keepalive.begin(MOST_S, 0.0)
    now = 0.0
    for _ in range(10):
        now = dies(keepalive, now)
    assert keepalive.interval_s == FLOOR_S


def test_a_server_that_stays_away_says_nothing_of_the_network() -> None:
    keepalive = KeepAlive()
    keepalive.begin(MOST_S, 0.0)
    due = keepalive.deadline()
    assert due is not None
    keepalive.ping_due(due)
    assert keepalive.is_dead(due + ANSWER_S)
    keepalive.end()
    keepalive.begin(MOST_S, due + 10_000.0)
    assert keepalive.interval_s == START_S


def test_each_network_has_its_own_lesson() -> None:
    keepalive = KeepAlive()
    keepalive.use("cafe")
    keepalive.begin(MOST_S, 0.0)
    now = dies(keepalive, 0.0)
    assert keepalive.interval_s < START_S
    keepalive.use("home")
    assert keepalive.interval_s == START_S
    keepalive.use("cafe")
    keepalive.begin(MOST_S, now)
    assert keepalive.interval_s < START_S


def test_a_half_open_connection_is_noticed_soon_after_an_edit() -> None:
    rig = Rig(FakeServer()).start()
    rig.now = 5.0
    rig.type("a")
    rig.up.clear()  # nothing arrives any more
    rig.wait()
    assert isinstance(rig.sent[-1], Ping)
    rig.up.clear()
    rig.wait()
    assert rig.now <= 5.0 + PROBE_S + ANSWER_S + 1
    assert rig.device.link is Link.WAITING


def test_what_others_say_is_no_answer_to_an_edit() -> None:
    """The connection dies behind another's edit, while the edit of this device is on its way."""
    server = FakeServer()
    rig = Rig(server).start()
    rig.type("a")
    rig.up.clear()
    rig.now = 5.0
    Rig(server, "laptop", seed=2).start().type("b").settle()
    rig.settle()
    assert (sorted(rig.text), rig.status.state) == (["a", "b"], State.SYNCING)
    rig.wait()
    assert isinstance(rig.sent[-1], Ping)
    rig.up.clear()
    rig.wait()
    assert rig.now <= 5.0 + PROBE_S + ANSWER_S + 1
    assert rig.device.link is Link.WAITING


def test_a_slow_uplink_is_not_taken_for_dead() -> None:
    rig = Rig(FakeServer()).start().type(Random(1).randbytes(200_000).hex())
    sent = rig.device.counters.bytes_up
    rig.wait()
    assert rig.now > sent / SLOW_BYTES_PER_S


def test_a_network_that_is_back_is_tried_at_once() -> None:
    rig = Rig(FakeServer()).start()
    rig.now = 3.0
    rig.feed(events.NetworkBack())
    rig.wait()
    assert (rig.now, isinstance(rig.sent[-1], Ping)) == (3.0, True)
    assert rig.settle().device.status.state is State.CURRENT


def test_another_network_means_another_connection_at_once() -> None:
    rig = Rig(FakeServer()).start()
    rig.feed(events.NetworkChanged("cafe"))
    assert rig.device.counters.connections == 1
    assert rig.settle().device.status.state is State.CURRENT
    assert rig.device.counters.connections == 2
    rig.feed(events.NetworkChanged("cafe"))
    assert rig.settle().device.counters.connections == 2
