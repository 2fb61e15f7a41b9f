"""A server that was set back, or has begun another history, gets from the devices what it lacks."""

from __future__ import annotations

import pytest

from client_sim.core.status import State
from crdt.protocol import codec
from crdt.protocol.frames import DeviceFrame, Opened, Push, Resync
from tests.unit.client_sim.fake_server import FakeServer, Session
from tests.unit.client_sim.rig import Rig

NEW_EPOCH = b"newepoch"


def last_push(rig: Rig) -> Push:
    push = rig.frames(Push)[-1]
    assert isinstance(push, Push)
    return push


def put(rig: Rig, key: str, value: object) -> None:
    rig.edit(lambda roots: roots.map("data").update({key: value})).settle()


def set_back(server: FakeServer, seq: int, epoch: bytes | None) -> None:
    server.room("main").rewind(seq)
    if epoch:
        server.new_epoch("main", epoch)


@pytest.mark.parametrize("epoch", [None, NEW_EPOCH])
def test_what_the_server_lost_comes_back(epoch: bytes | None) -> None:
    server = FakeServer()
    rig = Rig(server).start().type("a").settle().type("b").settle()
    rig.lose().type("c")
    set_back(server, 1, epoch)
    rig.wait().settle()
    assert rig.status.state is State.CURRENT
    assert rig.text == "abc"
    assert server.room("main").replica.values() == {"body": "abc"}
    assert last_push(rig).heal
    assert last_push(rig).first_op == (1 if epoch else 2)
    assert len(last_push(rig).updates) == 1
    assert rig.device.counters.heals == 1


def test_what_is_too_much_for_one_op_comes_back_by_several() -> None:
    server = FakeServer()
    server.limits = {"update_bytes": 200}
    rig = Rig(server).start()
    for number in range(60):
        put(rig, f"key {number}", number)
    rig.edit(lambda roots: roots.map("data").pop("key 7")).settle().lose()
    set_back(server, 30, NEW_EPOCH)
    rig.wait().settle()
    healing = [push for push in rig.frames(Push) if isinstance(push, Push) and push.heal]
    updates = [update for push in healing for update in push.updates]
    assert len(updates) > 1
    assert max(map(len, updates)) <= 200
    assert server.room("main").replica.values() == rig.document.values()
    assert len(rig.document.values()["data"]) == 59
    assert rig.status.state is State.CURRENT


@pytest.mark.parametrize("epoch", [None, NEW_EPOCH])
def test_edits_after_a_heal_come_from_a_fresh_client(epoch: bytes | None) -> None:
    server = FakeServer()
    rig = Rig(server).start().type("a").settle().type("b").settle().lose()
    before = set(rig.document.copy.replica.state_vector())
    set_back(server, 0, epoch)
    rig.wait().settle().type("c").settle()
    assert len(set(rig.document.copy.replica.state_vector()) - before) == 1
    assert server.room("main").replica.values() == {"body": "abc"}


def test_two_devices_heal_one_server() -> None:
    server = FakeServer()
    one = Rig(server).start().type("a").settle()
    two = Rig(server, "laptop", seed=2).start().type("b").settle()
    one.settle()
    one.lose().type("c")
    two.lose().type("d")
    set_back(server, 0, NEW_EPOCH)
    one.wait().settle()
    two.wait().settle()
    one.settle()
    assert one.text == two.text
    assert sorted(one.text) == list("abcd")
    assert server.room("main").replica.values() == {"body": one.text}


def test_a_heal_cut_at_any_message_heals_later() -> None:
    for messages in range(10):
        server = FakeServer()
        rig = Rig(server).start().type("a").settle().type("b").settle().lose().type("c")
        set_back(server, 1, NEW_EPOCH)
        rig.wait()
        for _ in range(messages):
            rig.deliver_up() or rig.deliver_down()
        rig.kill().start()
        assert server.room("main").replica.values() == {"body": "abc"}, messages
        assert (rig.text, rig.status.state) == ("abc", State.CURRENT)


def test_the_same_heal_bytes_are_sent_again_as_a_heal() -> None:
    server = FakeServer()
    rig = Rig(server).start().type("a").settle().lose()
    set_back(server, 0, NEW_EPOCH)
    rig.wait()
    while not rig.frames(Push)[1:]:
        rig.deliver_up() or rig.deliver_down()
    first = last_push(rig)
    rig.kill().start()
    assert last_push(rig).heal
    assert last_push(rig).updates == first.updates


def test_a_state_vector_that_is_not_given_is_asked_for() -> None:
    server = FakeServer()

    def silent(session: Session, frame: DeviceFrame) -> bool:
        """Answers as in the same epoch: without a state vector."""
        session.serve(frame)
        if not isinstance(frame, Resync):
            session.outgoing.extend(_without_state_vector(session))
        return True

    rig = Rig(server).start().type("a").settle().type("b").settle().lose()
    set_back(server, 1, NEW_EPOCH)
    server.script = silent
    rig.wait().settle()
    resync = rig.frames(Resync)[0]
    assert isinstance(resync, Resync)
    assert resync.cursor is None
    assert server.room("main").replica.values() == {"body": "ab"}


def _without_state_vector(session: Session) -> list[bytes]:
    messages = []
    while session.outgoing:
        frame = codec.decode_server_frame(session.outgoing.popleft())
        assert frame is not None
        if isinstance(frame, Opened):
            fields = {name: getattr(frame, name) for name in Opened.__slots__}
            frame = Opened(**{**fields, "state_vector": None})
        messages.append(codec.encode(frame))
    return messages


def test_a_server_that_lacks_nothing_gets_nothing() -> None:
    server = FakeServer()
    rig = Rig(server).start().type("a").settle().lose()
    server.new_epoch("main", NEW_EPOCH)
    rig.wait().settle()
    assert len(rig.frames(Push)) == 1  # the edit itself
    assert rig.status.state is State.CURRENT
    rig.type("b").settle()
    assert last_push(rig).first_op == 1
    assert not last_push(rig).heal


def test_a_device_without_a_past_takes_the_server_as_it_is() -> None:
    server = FakeServer()
    Rig(server).start().type("a").settle().lose()
    reinstalled = Rig(server, seed=3).start()
    assert reinstalled.text == "a"
    reinstalled.type("b").settle()
    assert last_push(reinstalled).first_op == 2
    assert reinstalled.status.state is State.CURRENT
