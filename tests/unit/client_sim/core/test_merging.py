"""Edits that wait are one op when they are sent, and it is as good as they were."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from pycrdt import Map, Text

from client_sim.core import sending
from client_sim.core.merging import merged
from client_sim.core.roots import Roots
from crdt.chain import extend
from crdt.protocol.frames import CHAIN_START, Push
from crdt.replica import Replica
from tests.unit.client_sim.fake_server import FakeServer
from tests.unit.client_sim.rig import Rig


def pushed(rig: Rig) -> list[bytes]:
    return [update for frame in rig.sent if isinstance(frame, Push) for update in frame.updates]


def made(document: Replica, change: Callable[[Roots], object]) -> bytes:
    update = document.edit(lambda doc: change(Roots(doc)))
    assert update is not None
    return update


def test_what_was_typed_offline_is_one_op() -> None:
    server = FakeServer()
    rig = Rig(server)
    for letter in "letter by letter":
        rig.type(letter)
    separate = sum(len(entry.update) for entry in rig.document.copy.outbox)
    rig.start()
    (update,) = pushed(rig)
    assert len(update) < separate / 8
    assert server.room("main").replica.values() == {"body": "letter by letter"}
    assert (rig.document.pending, rig.device.counters.edits_merged) == (0, 15)
    assert server.room("main").ops["alice/phone"] == (1, extend(CHAIN_START, (update,)))


def test_the_store_has_the_merged_edit_before_it_is_sent() -> None:
    rig = Rig(FakeServer()).type("a").type("b").begin()
    while not pushed(rig):
        assert rig.deliver_up() or rig.deliver_down()
    (entry,) = rig.store.load("main").outbox
    assert (entry.update, entry.number is None) == (pushed(rig)[0], False)


def test_edits_that_were_merged_are_pending_each() -> None:
    rig = Rig(FakeServer()).type("a").type("b").type("c").begin()
    while not pushed(rig):
        assert rig.deliver_up() or rig.deliver_down()
    assert (rig.document.pending, rig.device.pending(rig.now).count) == (1, 3)
    rig.type("d")
    assert rig.device.pending(rig.now).count == 4
    assert not rig.settle().device.pending(rig.now)


def test_what_has_a_number_is_merged_with_nothing() -> None:
    rig = Rig(FakeServer()).start().type("a").lose().type("b").type("c").wait().settle()
    assert len(pushed(rig)) == 3  # "a" twice, and "bc"
    assert pushed(rig)[0] == pushed(rig)[1]
    assert rig.pending_is_none_and_text_has("abc")


def test_what_was_typed_and_deleted_again_costs_no_letters() -> None:
    server = FakeServer()
    rig = Rig(server).type("keep")
    rig.type("a secret that was taken back").edit(lambda roots: roots.text("body").delete(4, 32)).start()
    (update,) = pushed(rig)
    assert b"secret" not in update
    assert server.room("main").replica.values() == {"body": "keep"}


def test_edits_of_two_lives_of_a_device_are_merged_too() -> None:
    server = FakeServer()
    rig = Rig(server).type("a").type("b").kill().type("c").type("d").start()
    assert len(pushed(rig)) == 1
    assert server.room("main").replica.values() == {"body": "abcd"}


def test_a_merged_op_is_no_longer_than_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "MERGED_BYTES_MAX", 100)
    rig = Rig(FakeServer())
    for _ in range(9):
        rig.type("x" * 30)
    rig.start()
    assert len(pushed(rig)) > 1
    assert rig.pending_is_none_and_text_has("x" * 270)


def test_a_merge_has_only_the_deletes_of_its_own_edits() -> None:
    document = Replica(1)
    first = made(document, lambda roots: roots.text("body").append("0123456789"))
    made(document, lambda roots: roots.text("body").delete(0, 5))
    waiting = [made(document, lambda roots: roots.text("body").delete(0, 1)) for _ in range(3)]
    update = merged(document, waiting)
    assert update
    reader = Replica.load((first,))
    reader.apply((update,))
    assert reader.values() == {"body": "0123489"}


def test_nothing_is_merged_that_is_not_its_writers_last() -> None:
    document = Replica(1)
    updates = [made(document, lambda roots: roots.text("body").append("a")) for _ in range(3)]
    assert merged(document, updates[:2]) is None
    assert merged(document, updates[1:])
    assert merged(document, updates)


def test_what_stood_in_something_that_another_deleted_is_merged_all_the_same() -> None:
    server = FakeServer()
    one, two = Rig(server).start(), Rig(server, "laptop", seed=2).start()

    def begin(roots: Roots) -> None:
        roots.map("notes")["page"] = Map({"text": Text("old")})

    one.edit(begin).settle()
    two.settle()
    one.lose()

    def write(roots: Roots) -> None:
        roots.map("notes")["page"]["text"] += " and new"

    one.edit(write).edit(write)
    two.edit(lambda roots: roots.map("notes").pop("page")).settle()
    one.wait().settle()
    two.settle()
    assert one.document.values() == two.document.values() == server.room("main").replica.values()
    assert one.document.copy.replica.digest() == server.room("main").replica.digest()
