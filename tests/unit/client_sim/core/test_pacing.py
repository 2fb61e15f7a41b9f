"""Edits wait for one another as the policy says, and never longer."""

from __future__ import annotations

import pytest

from client_sim.core import events
from client_sim.core.pacing import LATENCY_S, LEAD_S, RADIO_TAIL_S, Policy
from client_sim.core.reasons import RESTING
from client_sim.core.status import Link, State, Status
from crdt.protocol.frames import Error, Presence, Push
from tests.unit.client_sim.fake_server import FakeServer
from tests.unit.client_sim.rig import Rig


def paced(policy: Policy, latency_s: float | None = None, server: FakeServer | None = None) -> Rig:
    rig = Rig(server or FakeServer())
    rig.feed(events.PolicyChosen(policy, latency_s))
    return rig.start()


def without_heartbeat() -> FakeServer:
    """Nothing but what a test does wakes the radio."""
    server = FakeServer()
    server.heartbeat_ms = 0
    return server


def test_balanced_edits_go_together_when_the_oldest_has_waited_long_enough() -> None:
    rig = paced(Policy.BALANCED, 8.0, without_heartbeat())
    rig.now = 100.0
    for letter in "typed":
        rig.type(letter)
        rig.now += 1.0
    assert not rig.frames(Push)
    assert rig.device.pending(rig.now).age_s == 5.0
    rig.wait().settle()
    assert rig.now == 108.0
    assert len(rig.frames(Push)) == 1
    assert rig.pending_is_none_and_text_has("typed")


def test_an_answer_does_not_take_along_what_was_typed_since() -> None:
    """Else each letter would go with the ACK of the one before it."""
    rig = paced(Policy.BALANCED, 8.0, without_heartbeat())
    rig.now = 100.0
    rig.type("a").wait()
    rig.now += 0.1
    rig.type("b").settle()
    assert len(rig.frames(Push)) == 1
    rig.wait()
    assert (rig.now, len(rig.frames(Push))) == (116.1, 2)


def test_what_wakes_the_radio_takes_along_what_waits() -> None:
    rig = paced(Policy.BALANCED, 1000.0)
    rig.now = 100.0
    rig.type("a")
    rig.feed(events.PresenceSet("main", b"here"))
    assert [type(frame) for frame in rig.sent[-2:]] == [Presence, Push]
    rig.settle().type("b")
    rig.now += RADIO_TAIL_S / 2
    rig.feed(events.PresenceSet("main", b"there"))
    assert isinstance(rig.sent[-1], Presence), "the radio was up"


def test_a_keepalive_takes_along_what_waits() -> None:
    rig = paced(Policy.BALANCED, 1000.0)
    rig.now = 20.0
    rig.type("a").wait().settle()
    assert rig.now < 100
    assert rig.pending_is_none_and_text_has("a")


def test_what_others_send_takes_along_what_waits() -> None:
    server = FakeServer()
    rig, other = paced(Policy.BALANCED, 1000.0, server), Rig(server, "laptop", seed=2).start()
    rig.now = 20.0
    rig.type("a")
    other.type("b").settle()
    assert rig.settle().document.pending == 0


def test_an_app_that_waits_is_not_made_to_wait() -> None:
    rig = paced(Policy.BALANCED)
    rig.type("a")
    rig.now += 1.0
    rig.feed(events.Hurried())
    assert rig.settle().document.pending == 0


def test_a_refused_push_is_sent_again_without_waiting_for_the_policy() -> None:
    server = FakeServer()
    rig = paced(Policy.BALANCED, 600.0, server)
    refusal = Error(None, 1, "not_saved", "", "now", None, {"op": 1})

    def refuse(session: object, frame: object) -> bool:
        if isinstance(frame, Push):
            server.script = None
            rig.session.send(refusal) if rig.session else None
            return True
        return False

    server.script = refuse
    rig.type("a").feed(events.Hurried())
    before = rig.settle().now
    rig.wait().settle()
    assert rig.document.pending == 0
    assert rig.now < before + 5


def test_a_saver_hangs_up_and_comes_back_within_its_latency() -> None:
    rig = paced(Policy.SAVER)
    assert rig.device.status == Status(State.OFFLINE, RESTING)
    rig.now += 100.0
    made = rig.now
    rig.type("a")
    assert not rig.frames(Push)
    rig.wait().settle()
    assert rig.now <= made + LATENCY_S[Policy.SAVER] - LEAD_S
    assert rig.pending_is_none_and_text_has("a")
    assert rig.device.link is Link.WAITING


def test_a_saver_fetches_what_others_wrote() -> None:
    server = FakeServer()
    rig, other = paced(Policy.SAVER, 120.0, server), Rig(server, "laptop", seed=2).start()
    other.type("news").settle()
    assert rig.wait().settle().text == "news"


def test_a_saver_with_a_short_latency_stays_connected() -> None:
    assert paced(Policy.SAVER, 10.0).device.link is Link.OPEN


@pytest.mark.parametrize("wish", [events.Hurried(), events.PolicyChosen(None), events.OpenRequested("other")])
def test_a_saver_that_rests_is_there_when_the_app_wants_it(wish: events.Event) -> None:
    rig = paced(Policy.SAVER)
    rig.feed(wish)
    rig.settle()
    assert rig.device.counters.connections == 2


def test_a_metered_network_makes_a_saver_of_who_chose_nothing() -> None:
    rig = Rig(FakeServer()).start()
    rig.feed(events.NetworkChanged("cell", metered=True))
    assert rig.settle().device.status == Status(State.OFFLINE, RESTING)
    rig.feed(events.NetworkChanged("home", metered=False))
    assert rig.settle().device.status.state is State.CURRENT
    rig.feed(events.PolicyChosen(Policy.INTERACTIVE))
    rig.feed(events.NetworkChanged("cell", metered=True))
    assert rig.settle().device.status.state is State.CURRENT


@pytest.mark.parametrize("change", [events.PolicyChosen(Policy.INTERACTIVE), events.PolicyChosen(None)])
def test_what_waited_for_a_policy_goes_when_the_next_one_waits_for_nothing(change: events.Event) -> None:
    rig = paced(Policy.BALANCED, 1000.0, without_heartbeat())
    rig.now = 100.0
    rig.type("a").type("b")
    assert not rig.frames(Push)
    rig.feed(change)
    assert len(rig.frames(Push)) == 1
    assert rig.settle().device.status.state is State.CURRENT


@pytest.mark.parametrize("latency_s", [-1.0, float("inf"), float("nan")])
def test_a_latency_is_a_time(latency_s: float) -> None:
    with pytest.raises(ValueError, match="latency"):
        Rig(FakeServer()).feed(events.PolicyChosen(Policy.BALANCED, latency_s))
