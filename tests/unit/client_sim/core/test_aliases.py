"""The user's own `main` is one document, also for an app that calls it `alice/main` before it is known who logs in."""

from __future__ import annotations

from client_sim.core import events
from client_sim.core.ports import Identity, Keeping, OutboxEntry, Progress
from client_sim.core.status import State
from client_sim.store import MemoryStore
from tests.unit.client_sim.fake_server import FakeServer
from tests.unit.client_sim.rig import Rig


def on(server: FakeServer) -> str:
    return str(server.room("main").replica.values().get("body", ""))


def test_an_edit_of_before_the_first_login_arrives_under_either_name() -> None:
    server = FakeServer()
    rig = Rig(server, documents=("alice/main",)).type("early", "alice/main").start()
    assert on(server) == "early"
    assert rig.status.state is State.CURRENT
    assert rig.device.document("main") is rig.device.document("alice/main")
    assert rig.store.documents() == ["main"]
    rig.type(" late", "main").settle()
    assert on(server) == "early late"


def test_two_screens_that_open_it_under_two_names_have_one_document() -> None:
    server = FakeServer()
    rig = Rig(server, documents=("main", "alice/main"))
    rig.type("<a>", "main").type("<b>", "alice/main").type("<c>", "main").start()
    assert sorted(on(server).replace("><", "> <").split()) == ["<a>", "<b>", "<c>"]
    assert rig.text == on(server)
    assert rig.device.status.state is State.CURRENT
    assert not rig.device.pending(rig.now)
    rig.type("<d>", "alice/main").settle()
    assert "<d>" in on(server)
    assert len([*rig.device.documents]) == 1


def test_what_a_kill_left_under_the_other_name_is_found_at_the_next_start() -> None:
    server = FakeServer()
    rig = Rig(server).start().type("<a>").settle()
    rig.feed(events.Stopped())
    rig.type("<b>")
    other = Rig(FakeServer(), seed=9, documents=("alice/main",)).type("<c>", "alice/main").store.load("alice/main")
    with rig.store.transaction():
        rig.store.append_updates("alice/main", other.updates)
        rig.store.save_outbox("alice/main", other.outbox)
        rig.store.put_aside("alice/main", [b"aside"])
        rig.store.save_keeping("alice/main", Keeping(pinned=True))
    rig.kill()
    assert all(part in rig.text for part in ("<a>", "<b>", "<c>"))
    rig.start()
    assert rig.pending_is_none_and_text_has("<a>", "<b>", "<c>")
    assert on(server) == rig.text
    assert rig.store.documents() == ["main"]
    assert rig.store.aside("main") == [b"aside"]
    assert rig.device.documents.cache.is_pinned("main")


def test_a_document_that_had_only_the_other_name_keeps_its_place_in_the_log() -> None:
    store = MemoryStore()
    progress = Progress(epoch=b"\0" * 8, seq=7)
    with store.transaction():
        store.save_identity(Identity("phone", "alice"))
        store.save_progress("alice/main", progress)
        store.save_outbox("alice/main", [OutboxEntry(3, b"\0\0")])
        store.save_progress("bob/main", progress)
    rig = Rig(FakeServer(), store=store)
    assert rig.store.load("main").progress == progress
    assert [entry.position for entry in rig.store.load("main").outbox] == [3]
    assert rig.store.documents() == ["bob/main", "main"]


def test_what_is_wanted_ahead_goes_by_its_one_name_too() -> None:
    server = FakeServer()
    Rig(server, "laptop", seed=5, documents=("a",)).type("text", "a").start()
    rig = Rig(server)
    rig.feed(events.PrefetchRequested(("alice/a",)))
    rig.start()
    assert rig.store.documents() == ["a", "main"]


def test_a_store_that_fails_at_the_first_login_leaves_both_for_the_next() -> None:
    server = FakeServer()
    rig = Rig(server, documents=("main", "alice/main")).type("<a>", "main").type("<b>", "alice/main").start()
    assert on(server)
    rig.kill(without_last_transaction=True)
    rig.start()
    assert "<a>" in on(server)
    assert "<b>" in on(server)
