"""A Yjs document on a socket is a device that nobody will miss: what is written, what is said, what is left."""

from __future__ import annotations

import sys
from random import Random

import pytest

from crdt.errors import PeerError
from crdt.ids import DeviceId
from crdt.limits import Limits
from crdt.protocol.codec import decode_device_frame
from crdt.protocol.frames import DevicePresence, Open, Opened, Presence
from crdt.replica import Replica
from crdt.update import EMPTY_UPDATE
from crdt.update.ranges import Ranges
from server.core import events
from server.core.compaction import CompactionPolicy
from server.storage.authors import authorship
from server.yjs import messages
from server.yjs.dialect import YWebsocket
from server.yjs.link import End
from server.yjs.messages import AWARENESS_STATES_MAX, ClientState
from server.yjs.repeats import Doubt
from tests.unit.server.core.lab import Lab, Writer, token, values
from tests.unit.server.yjs.rig import Client


def test_an_update_is_saved_when_it_is_durable_and_not_before() -> None:
    lab = Lab()
    app = Client(lab)
    app.sync()
    first = app.saved
    app.push(Writer(7).type("typed"))
    lab.turn()
    app.pump()
    assert app.saved == first, "its commit is under way"
    app.settle()
    assert app.saved == first + 1
    assert values(lab.durable()) == {"t": "typed"}


def test_what_came_before_the_document_was_open_is_in_the_answer_to_our_step_1() -> None:
    lab = Lab()
    app = Client(lab)
    app.push(Writer(7).type("too early"))
    app.sync()
    app.settle()
    assert values(lab.durable()) == {"t": "too early"}
    assert app.saved == 1


def test_an_op_without_news_writes_nothing_and_is_saved_all_the_same() -> None:
    lab = Lab()
    writer = Writer(7)
    app = Client(lab)
    app.sync()
    app.push(writer.type("typed"))
    app.settle()
    entries = lab.durable()
    again = Client(lab, replica=Replica.load([writer.replica.state()]))
    again.sync()
    again.settle()
    again.push(writer.replica.state())
    again.settle()
    assert lab.durable() == entries
    assert again.saved == 2


def test_of_an_update_only_the_news_is_logged() -> None:
    lab = Lab()
    writer = Writer(7)
    app = Client(lab)
    app.sync()
    app.push(writer.type("a lot of text that everybody has, and that is not to be written again"))
    app.settle()
    writer.type("new ")
    late = Client(lab)
    late.sync()
    late.push(writer.replica.state())
    late.settle()
    assert lab.durable()[-1].update_bytes < 32
    assert values(lab.durable()) == writer.replica.values()


def test_what_is_not_news_waits_for_what_it_was_told_by() -> None:
    """Two apps bring the same at once: neither is told that it is saved before it is."""
    lab = Lab()
    update = Writer(7).type("typed")
    one, two = Client(lab), Client(lab)
    one.sync()
    two.sync()
    before = one.saved, two.saved
    one.push(update)
    two.push(update)
    lab.turn()
    two.pump()
    assert (one.saved, two.saved) == before
    lab.settle()
    one.pump()
    two.pump()
    assert (one.saved, two.saved) == (before[0] + 1, before[1] + 1)
    assert len(lab.durable()) == 1


def test_a_failed_commit_sends_the_client_away_for_a_while() -> None:
    lab = Lab()
    app = Client(lab)
    app.sync()
    saved = app.saved
    app.push(Writer(7).type("typed"))
    lab.turn()
    lab.fail()
    app.settle()
    assert app.link.end == End(1013, "not_saved: the storage failed: send it again")
    assert app.saved == saved


def test_a_gap_is_filled_from_the_clients_state() -> None:
    lab = Lab()
    writer = Writer(7)
    app = Client(lab)
    app.sync()
    writer.type("lost ")
    app.replica = Replica.load([writer.replica.state()])
    app.push(writer.type("and built on "))
    app.settle()
    assert values(lab.durable()) == writer.replica.values()
    assert app.saved == 2
    assert app.link.end is None


def test_numbers_that_went_back_with_a_reload_are_found_again() -> None:
    """The document was compacted and evicted: nobody remembers the device, which goes on all the same."""
    lab = Lab(compaction=CompactionPolicy(entries_max=2, entries_min=2, rest_s=0.0), resident_bytes_max=0)
    writer = Writer(7)
    app = Client(lab)
    app.sync()
    for word in ("one ", "two ", "three "):
        app.push(writer.type(word))
        app.settle()
    app.push(writer.type("four "))
    app.settle()
    app.push(writer.type("five "))
    app.settle()
    assert ("op_gap",) in lab.meter.of("refused"), "else this tests nothing"
    late = Client(lab)
    late.sync()
    assert late.replica.values() == writer.replica.values()
    assert app.link.end is None


def test_nothing_of_it_is_left() -> None:
    lab = Lab(compaction=CompactionPolicy(entries_max=2, entries_min=2, rest_s=0.0))
    app = Client(lab)
    app.sync()
    writer = Writer(7)
    for word in ("one ", "two ", "three "):
        app.push(writer.type(word))
        app.settle()
    app.leave()
    lab.settle()
    (room,) = lab.hub._rooms
    assert room.ops == {}
    lab.disconnect(lab.hello("alice", "phone", Open(1, "main", None, b"\0")))
    lab.advance(120)
    assert {seen.device for seen in lab.seen} == {DeviceId("alice", "web"), DeviceId("alice", "phone")}


def test_a_revoked_devices_apps_end_and_so_does_what_they_had_queued() -> None:
    lab = Lab()
    app = Client(lab)
    app.sync()
    app.push(Writer(7).type("queued"))
    lab.feed(events.RevocationsRead(frozenset({DeviceId("alice", "web")})))
    app.settle()
    assert app.link.end is not None
    assert app.link.end.close_code == 4403
    assert lab.durable() == []


def test_what_a_revoked_devices_app_left_behind_is_forgotten_too() -> None:
    lab = Lab()
    app = Client(lab)
    app.sync()
    app.push(Writer(7).type("large " * 20_000))
    app.leave()
    lab.feed(events.RevocationsRead(frozenset({DeviceId("alice", "web")})))
    lab.settle()
    assert lab.durable() == []


def test_what_an_app_wrote_is_its_devices_work() -> None:
    lab = Lab()
    app = Client(lab)
    app.sync()
    app.push(Writer(7).type("typed"))
    app.settle()
    (entry,) = lab.durable()
    assert entry.device.is_ephemeral
    assert authorship(entry).device == DeviceId("alice", "web")


def test_a_token_that_allows_more_lets_a_reader_write() -> None:
    lab = Lab()
    app = Client(lab, "alice/main", user="bob", docs={"alice/main": "r"})
    app.sync()
    app.push(Writer(7).type("kept back"))
    app.settle()
    assert lab.durable() == []
    assert app.heard.count(b"\x08\x00") == 1
    app.link.renew(token("bob", "web", docs={"alice/main": "rw"}))
    app.pump()
    app.settle()
    assert values(lab.durable()) == {"t": "kept back"}
    assert messages.authenticated("read-write") in app.heard


def test_a_readers_answer_is_not_read_to_see_whether_it_says_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be as long as a message, and nobody has paid for it."""
    lab = Lab()
    app = Client(lab, "alice/main", user="bob", docs={"alice/main": "r"})
    app.answers = False
    app.sync()

    def no_reading(update: bytes, **_: bool) -> None:
        raise AssertionError(f"{len(update)} bytes were read")

    for name, module in list(sys.modules.items()):
        if name.startswith(("server.yjs", "crdt.")) and hasattr(module, "read_update"):
            monkeypatch.setattr(module, "read_update", no_reading)
    app.say(messages.step_2(b"\x01\x7f\x09\x00" + b"\x00\x01" * 127 + b"\x00"))
    assert app.heard.count(b"\x08\x00") == 1, "content is not taken"


def test_a_readers_deletes_are_saved_where_the_document_has_them_and_only_there() -> None:
    lab = Lab()
    writer = Client(lab)
    writer.sync()
    writer.push(Writer(7).type("hello"))
    writer.push(Ranges([(7, 1, 3)]).as_deletion())
    writer.settle()
    reader = Client(lab, "alice/main", user="bob", docs={"alice/main": "r"})
    reader.sync()
    assert (reader.saved, reader.heard.count(b"\x08\x00")) == (1, 0), "it has repeated what it was told"
    reader.replica.apply([Ranges([(7, 4, 5)]).as_deletion()])
    reader.sync()
    assert (reader.saved, reader.heard.count(b"\x08\x00")) == (1, 1)
    writer.push(Ranges([(7, 4, 5)]).as_deletion())
    writer.settle()
    reader.sync()
    assert (reader.saved, reader.heard.count(b"\x08\x00")) == (2, 1)
    assert values(lab.durable()) == {"t": "hl"}


def test_of_a_long_delete_set_nothing_is_read() -> None:
    long = Ranges([(7, clock, clock + 1) for clock in range(0, 20_000, 2)]).as_deletion()
    assert not Doubt(long, 1).deletes_more(EMPTY_UPDATE)
    assert not Doubt(Ranges([(7, 1, 3)]).as_deletion(), 1).deletes_more(long)
    assert Doubt(b"\x00\x01", 1).deletes_more(EMPTY_UPDATE), "what can not be read is not taken"


def test_apps_of_one_user_may_send_each_others_edits_and_other_users_may_not() -> None:
    lab = Lab()
    writer = Writer(7)
    one, two = Client(lab), Client(lab, device="tablet")
    guest = Client(lab, "alice/main", user="bob", docs={"alice/main": "rw"})
    for client in (one, two, guest):
        client.sync()
    one.push(writer.type("by one, "))
    one.settle()
    two.push(writer.type("relayed by another"))
    two.settle()
    assert values(lab.durable()) == writer.replica.values()
    guest.push(writer.type("stolen"))
    guest.settle()
    assert guest.link.end is not None
    assert guest.link.end.reason.startswith("bad_update")


@pytest.mark.interpreted
def test_a_diff_that_many_ask_for_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    lab = Lab()
    app = Client(lab)
    app.sync()
    app.push(Writer(7).type("typed"))
    app.settle()
    known = app.replica.state_vector_bytes()
    made: list[bytes] = []
    diff = Replica.diff

    def counted(self: Replica, state_vector: bytes) -> bytes:
        made.append(state_vector)
        return diff(self, state_vector)

    monkeypatch.setattr(Replica, "diff", counted)
    for _ in range(5):
        late = Client(lab)
        late.answers = False
        late.say(messages.step_1(known))
        late.settle()
    assert made == [known]


def test_an_app_that_comes_back_owes_what_it_owed() -> None:
    lab = Lab()
    for _ in range(3):
        app = Client(lab)
        app.sync()
        app.leave()
    accounts = list(lab.hub._desk.accounts)
    assert len(accounts) == 1, "all of them had the same account"


@pytest.mark.parametrize("end", ["leave", "null"])
def test_what_an_app_shows_is_taken_back(end: str) -> None:
    lab = Lab()
    phone, _ = lab.join("alice", "phone")
    app = Client(lab)
    app.sync()
    app.say(messages.awareness([ClientState(9, 1, '{"name":"app"}')]))
    lab.settle()
    shown = [frame for frame in lab.received(phone) if isinstance(frame, DevicePresence)]
    assert [frame.payload for frame in shown] == [b'{"clientID":9,"clock":1,"state":{"name":"app"}}']
    if end == "leave":
        app.leave()
    else:
        app.say(messages.awareness([ClientState(9, 1, "null")]))
    lab.advance(1)
    assert [frame.payload for frame in lab.received(phone) if isinstance(frame, DevicePresence)] == [None]


def test_of_what_an_app_shows_again_and_again_in_one_message_the_last_counts_once() -> None:
    lab = Lab()
    phone, _ = lab.join("alice", "phone")
    app = Client(lab)
    app.sync()
    app.say(messages.awareness([ClientState(9, 1, '{"at":0}')]))
    lab.advance(1)
    lab.received(phone)
    heard = len(app.heard)
    again = [ClientState(9, 1, '{"at":0}')] * 500 + [ClientState(8, 7, "{}")] + [ClientState(9, 2, '{"at":1}')] * 400
    message = messages.awareness(again)
    app.link.receive(messages.read_message(message), len(message))
    assert [decode_device_frame(frame, Limits()) for frame in app.link.frames[1:]] == [
        Presence(app.link.handle or 0, b'{"clientID":9,"clock":2,"state":{"at":1}}')
    ]
    assert len(app.link.frames[0]) >= len(message), "all of it is paid for, before anything comes of it"
    app.pump()
    shown = [frame for frame in lab.received(phone) if isinstance(frame, DevicePresence)]
    assert [frame.payload for frame in shown] == [b'{"clientID":9,"clock":2,"state":{"at":1}}']
    assert len(app.heard) == heard


def test_an_awareness_message_of_a_thousand_clients_is_heard_and_one_of_more_is_not() -> None:
    states = [ClientState(client, 1, "{}") for client in range(AWARENESS_STATES_MAX + 1)]
    assert messages.read_message(messages.awareness(states[1:])) == messages.Awareness(tuple(states[1:]))
    assert messages.read_message(messages.awareness(states)) == messages.Awareness(())


def test_a_native_device_may_ask_for_the_servers_state_vector_too() -> None:
    lab = Lab()
    app = Client(lab)
    app.sync()
    app.push(Writer(7).type("typed"))
    app.settle()
    phone = lab.hello("alice", "phone", Open(1, "main", None, b"\0"), options={"sv": True})
    lab.settle()
    assert lab.take(phone, Opened).state_vector == app.replica.state_vector_bytes()


@pytest.mark.parametrize("seed", range(20))
def test_any_bytes_are_read_or_refused(seed: int) -> None:
    rng = Random(seed)
    lab = Lab()
    app = Client(lab, dialect=YWebsocket())
    app.sync()
    for _ in range(100):
        data = bytes((rng.randrange(8),)) + rng.randbytes(rng.randrange(30))
        try:
            app.say(data)
        except PeerError:
            continue
        if app.link.end is not None:
            break
    other = Client(lab)
    other.sync()
    assert other.link.end is None
