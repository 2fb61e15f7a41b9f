"""A device whose store is damaged goes on with what can be read of it, and is told what can not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from client_sim.core import events
from client_sim.core.effects import Problem
from client_sim.core.ports import Holding, Identity, StoreDamaged, StoredDocument, StoreError
from client_sim.core.salvage import Remains
from client_sim.core.status import State, Status
from client_sim.store import MemoryStore
from tests.unit.client_sim.fake_server import FakeServer
from tests.unit.client_sim.rig import Rig

Lose = Callable[[Remains], Remains]


def nothing(remains: Remains) -> Remains:
    return remains


def everything(remains: Remains) -> Remains:
    return Remains(lost=("all of it",))


def of_documents(lose: Callable[[StoredDocument], StoredDocument]) -> Lose:
    def change(remains: Remains) -> Remains:
        documents = {name: lose(stored) for name, stored in remains.documents.items()}
        return replace(remains, documents=documents, lost=("some of it",))

    return change


CACHE = of_documents(lambda stored: replace(stored, state=None, updates=()))
OUTBOX = of_documents(lambda stored: replace(stored, outbox=()))
LATER_CACHE = of_documents(lambda stored: replace(stored, updates=stored.updates[:1]))


def problems(rig: Rig) -> list[str]:
    return [effect.code for effect in rig.told_of(Problem) if isinstance(effect, Problem)]


def offline_with_edits(server: FakeServer) -> Rig:
    """The server has <a>, and of another device <b>; the device alone has <c> and <d>."""
    rig = Rig(server).start().type("<a>").settle()
    Rig(server, "laptop", seed=2).start().type("<b>").settle()
    rig.settle()
    rig.feed(events.Stopped())
    return rig.type("<c>").type("<d>")


def on(server: FakeServer) -> str:
    return str(server.room("main").replica.values().get("body", ""))


@pytest.mark.parametrize("lose", [nothing, CACHE, OUTBOX, LATER_CACHE], ids=["nothing", "cache", "outbox", "part"])
def test_what_is_readable_in_either_place_arrives(lose: Lose) -> None:
    server = FakeServer()
    rig = offline_with_edits(server)
    rig.store.damage(lose)
    rig.kill().start()
    assert on(server) == rig.text
    assert sorted(rig.text.split("<")) == ["", "a>", "b>", "c>", "d>"]
    assert rig.status.state is State.CURRENT
    assert rig.document.pending == 0
    assert (problems(rig), rig.device.name) == (["store_rebuilt"], "phone")


def test_what_is_lost_in_both_places_is_told_and_the_rest_goes_on() -> None:
    server = FakeServer()
    rig = offline_with_edits(server)
    rig.store.damage(everything)
    rig.kill().start()
    assert on(server) == rig.text == "<a><b>"
    assert rig.status.state is State.CURRENT
    told = rig.told_of(Problem)[0]
    assert isinstance(told, Problem)
    assert "all of it" in told.message
    rig.type("<e>").settle()
    assert on(server) == "<a><b><e>"


def test_an_edit_that_builds_on_what_is_lost_is_put_aside_and_later_ones_go_on() -> None:
    server = FakeServer()
    rig = offline_with_edits(server)

    def lose(remains: Remains) -> Remains:
        stored = remains.documents["main"]
        kept = replace(stored, state=None, updates=(), outbox=stored.outbox[1:])
        return replace(remains, documents={"main": kept}, lost=("1 records of outbox",))

    rig.store.damage(lose)
    rig.kill()
    rig.type("<e>").start()
    assert sorted(rig.text.split("<")) == ["", "a>", "b>", "e>"]
    assert on(server) == rig.text
    assert len(rig.document.aside) == 1
    assert rig.status.state is State.CURRENT


def test_what_the_server_has_already_is_not_sent_again() -> None:
    """The edits were committed; their acknowledgement never came."""
    server = FakeServer()
    rig = Rig(server).start().type("<a>")
    while rig.deliver_up():
        pass
    rig.lose()
    head = server.room("main").head
    rig.store.damage(nothing)
    rig.kill().start()
    assert (rig.document.pending, rig.status.state) == (0, State.CURRENT)
    assert (on(server), server.room("main").head) == ("<a>", head)
    assert rig.type("<b>").settle().text == on(server) == "<a><b>"


def test_deletes_that_are_only_in_the_cache_are_given_back() -> None:
    server = FakeServer()
    rig = Rig(server).start().type("<a><b>").settle()
    rig.feed(events.Stopped())
    rig.edit(lambda roots: roots.text("body").delete(0, 3))
    rig.store.damage(OUTBOX)
    rig.kill().start()
    assert on(server) == rig.text == "<b>"


def test_edits_made_after_the_damage_go_with_those_of_before() -> None:
    server = FakeServer()
    rig = offline_with_edits(server)
    rig.store.damage(CACHE)
    rig.kill()
    assert rig.text == ""
    rig.type("<e>").kill().type("<f>").start()
    assert sorted(rig.text.split("<")) == ["", "a>", "b>", "c>", "d>", "e>", "f>"]
    assert on(server) == rig.text


def test_damage_that_shows_at_work_is_mended_and_nothing_else_is_needed() -> None:
    server = FakeServer()
    rig = Rig(server).start().type("<a>").settle()
    rig.store.damage(nothing)
    with pytest.raises(StoreError, match="damaged"):
        rig.type("<never>")
    rig.type("<b>").wait().settle()
    assert on(server) == rig.text == "<a><b>"
    assert problems(rig) == ["store_rebuilt"]
    assert rig.device.counters.rebuilds == 1


def test_damage_that_an_edit_meets_while_others_write_on_is_mended() -> None:
    server = FakeServer()
    rig = Rig(server).start().type("<a>").settle()
    laptop = Rig(server, "laptop", seed=2).start()
    rig.store.damage(nothing)
    with pytest.raises(StoreError, match="damaged"):
        rig.type("<never>")
    assert problems(rig) == ["store_rebuilt"]
    assert rig.session is None
    laptop.type("<b>").settle()
    rig.wait().settle()
    assert rig.text == on(server) == "<a><b>"


class Failing(MemoryStore):
    """Fails where the freshness of what is kept is noted, which follows an edit."""

    failure: Exception | None = None

    def holdings(self) -> list[Holding]:
        if self.failure is not None:
            failure, self.failure = self.failure, None
            raise failure
        return super().holdings()


@pytest.mark.parametrize(
    ("failure", "code"), [(StoreError("full"), "store_failed"), (StoreDamaged("torn"), "store_rebuilt")]
)
def test_a_store_that_fails_after_the_edit_was_made_is_a_problem_and_the_edit_goes(
    failure: Exception, code: str
) -> None:
    store = Failing()
    rig = Rig(FakeServer(), store=store).start().type("<a>").settle()
    rig.device.documents.cache.bytes_max = 1
    rig.device.documents.cache.look()
    store.failure = failure
    rig.type("<b>")
    assert problems(rig) == [code]
    rig.wait().settle()
    assert rig.text == on(rig.server) == "<a><b>"


def test_damage_that_shows_when_something_comes_is_mended() -> None:
    server = FakeServer()
    rig = Rig(server).start().type("<a>").settle()
    rig.store.damage(CACHE)
    Rig(server, "laptop", seed=2).start().type("<b>").settle()
    rig.settle()
    assert problems(rig) == ["store_rebuilt"]
    rig.wait().settle()
    assert rig.text == on(server) == "<a><b>"


def test_damage_that_shows_when_a_document_is_opened_is_mended() -> None:
    server = FakeServer()
    rig = Rig(server).start().type("<a>").settle()
    rig.store.damage(nothing)
    rig.feed(events.OpenRequested("other"))
    rig.wait().settle()
    rig.type("x", "other").settle()
    assert server.room("other").replica.values() == {"body": "x"}
    assert problems(rig) == ["store_rebuilt"]


def test_content_that_is_whole_but_wrong_is_damage_too() -> None:
    rig = Rig(FakeServer()).start().type("<a>").settle().type("<b>")
    rig.session = None
    entry = rig.store.load("main").outbox[0]
    with rig.store.transaction():
        assert entry.number is not None
        rig.store.save_outbox("main", [replace(entry, update=entry.update + b"\x00")])
        rig.store.append_updates("main", [b"\x01\x00\x01\x00\x00"])
    rig.kill()
    assert problems(rig) == ["store_rebuilt"]
    rig.start()
    assert rig.text == on(rig.server) == "<a><b>"


class FullDisk(MemoryStore):
    is_full = False

    def rebuild(self, damage: str):  # type: ignore[no-untyped-def]
        if self.is_full:
            raise StoreError("the disk is full")
        return super().rebuild(damage)


def test_where_the_store_can_not_be_rebuilt_the_device_says_so_and_tries_again() -> None:
    store = FullDisk()
    rig = Rig(FakeServer(), store=store).start().type("<a>").settle()
    store.damage(nothing)
    store.is_full = True
    rig.feed(events.TimePassed())
    Rig(rig.server, "laptop", seed=2).start().type("<b>").settle()
    rig.settle()
    assert problems(rig) == ["store_failed"]
    assert rig.status == Status(State.BLOCKED, "store_failed")
    with pytest.raises(StoreError):
        rig.type("<never>")
    store.is_full = False
    rig.wait().wait().settle()
    assert rig.status == Status(State.CURRENT)
    assert rig.text == on(rig.server) == "<a><b>"


def test_edits_of_nobody_known_wait_for_the_apps_word() -> None:
    server = FakeServer()
    rig = offline_with_edits(server)

    def lose(remains: Remains) -> Remains:
        return replace(remains, identity=None, lost=("1 records of identity",))

    rig.store.damage(lose)
    rig.kill().start()
    assert rig.status == Status(State.BLOCKED, "owner_unknown")
    assert on(server) == "<a><b>"
    assert rig.document.pending == 2
    rig.feed(events.Unblocked("main"))
    rig.settle()
    assert sorted(on(server).split("<")) == ["", "a>", "b>", "c>", "d>"]
    assert rig.store.identity() == Identity("phone", "alice")


def test_a_clone_is_still_found_afterwards() -> None:
    server = FakeServer()
    rig = Rig(server).start().type("<a>").settle()
    clone = Rig(server, seed=9, store=rig.store.restarted())
    rig.lose()
    clone.start().type("<b>").settle()
    clone.lose()
    rig.type("<c>")
    rig.store.damage(nothing)
    rig.kill().start().type("<d>").settle().lose()
    clone.type("<e>").start()
    clone.wait().settle()
    rig.wait().settle()
    for each in (rig, clone):
        each.settle()
    assert sorted(on(server).split("<")) == ["", "a>", "b>", "c>", "d>", "e>"]
