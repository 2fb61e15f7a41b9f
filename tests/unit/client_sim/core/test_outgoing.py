"""Whoever types and closes the document at once has the edit on the server all the same."""

from __future__ import annotations

from client_sim.core import events
from client_sim.core.effects import WindowClosed
from client_sim.core.errand import Outcome
from client_sim.core.pacing import Policy
from client_sim.core.status import State
from crdt.protocol.frames import Leave, Open, Presence
from tests.unit.client_sim.fake_server import FakeServer
from tests.unit.client_sim.rig import Rig


def on(server: FakeServer, name: str = "note") -> str:
    return str(server.room(name).replica.values().get("body", ""))


def states(rig: Rig) -> list[State]:
    return [rig.device.status.state]


def typed_and_closed(rig: Rig, text: str = "typed") -> Rig:
    rig.feed(events.OpenRequested("note"))
    rig.type(text, "note")
    rig.feed(events.CloseRequested("note"))
    return rig


def test_it_is_pending_until_the_server_has_it_and_left_then() -> None:
    server = FakeServer()
    rig = typed_and_closed(Rig(server).start())
    assert rig.device.pending(rig.now).count == 1
    assert states(rig) == [State.SYNCING]
    rig.settle()
    assert on(server) == "typed"
    assert not rig.device.pending(rig.now)
    assert states(rig) == [State.CURRENT]
    assert len(rig.frames(Leave)) == 1


def test_it_waits_for_a_connection() -> None:
    server = FakeServer()
    rig = typed_and_closed(Rig(server)).start()
    assert on(server) == "typed"
    assert not rig.device.pending(rig.now)


def test_the_next_process_sends_it_though_nobody_opens_it() -> None:
    server = FakeServer()
    rig = typed_and_closed(Rig(server).start().lose())
    rig.kill()
    assert rig.device.pending(rig.now).count == 1
    rig.start()
    assert on(server) == "typed"
    assert not rig.device.pending(rig.now)


def test_what_the_policy_makes_wait_is_sent_when_it_is_time() -> None:
    server = FakeServer()
    rig = Rig(server)
    rig.feed(events.PolicyChosen(Policy.BALANCED, None))
    rig.start()
    rig.now = 100.0
    rig.feed(events.OpenRequested("note"))
    rig.settle()
    rig.now = 200.0
    rig.type("typed", "note").feed(events.CloseRequested("note"))
    rig.settle()
    assert rig.device.pending(rig.now).count == 1
    rig.feed(events.Hurried())
    rig.settle()
    assert on(server) == "typed"


def test_opened_again_it_is_the_apps_as_it_is() -> None:
    server = FakeServer()
    rig = Rig(server).start()
    rig.feed(events.OpenRequested("note"))
    rig.settle()
    typed_and_closed(rig)
    rig.feed(events.OpenRequested("note"))
    rig.type(" on", "note").settle()
    assert on(server) == "typed on"
    assert rig.device.document("note").status().state is State.CURRENT
    assert len([frame for frame in rig.frames(Open) if isinstance(frame, Open) and frame.doc == "note"]) == 1
    assert not rig.frames(Leave)


def test_a_window_in_the_background_is_for_it_too() -> None:
    server = FakeServer()
    rig = typed_and_closed(Rig(server))
    rig.feed(events.WindowOpened(20.0, 10**6))
    rig.settle()
    assert on(server) == "typed"
    assert [effect.done.outcome for effect in rig.told if isinstance(effect, WindowClosed)] == [Outcome.DONE]


def test_the_others_see_that_the_app_has_left() -> None:
    rig = Rig(FakeServer()).start()
    rig.feed(events.OpenRequested("note"))
    rig.settle()
    rig.feed(events.PresenceSet("note", b"here"))
    typed_and_closed(rig)
    assert [frame.payload for frame in rig.frames(Presence) if isinstance(frame, Presence)] == [b"here", None]


def test_under_its_other_name_it_is_sent_after_the_first_login() -> None:
    server = FakeServer()
    rig = Rig(server)
    rig.feed(events.OpenRequested("alice/note"))
    rig.type("typed", "alice/note").feed(events.CloseRequested("alice/note"))
    rig.start()
    assert on(server) == "typed"
    assert not rig.device.pending(rig.now)


def test_nothing_of_it_is_left_where_the_device_is_revoked() -> None:
    rig = Rig(FakeServer()).start()
    rig.feed(events.OpenRequested("note"))
    rig.settle()
    typed_and_closed(rig)
    rig.lose(4403, "device_revoked")
    assert not rig.device.pending(rig.now)
