"""Local edits: durable first, numbered once, sent until acknowledged."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from client_sim.core import pushing
from client_sim.core.copy import EditTooBig
from client_sim.core.effects import Acknowledged
from client_sim.core.events import Edited
from client_sim.core.ports import StoreError
from client_sim.core.roots import Roots
from client_sim.core.status import State
from client_sim.store import MemoryStore
from crdt.chain import extend
from crdt.protocol.frames import CHAIN_START, Ack, Push
from crdt.update import STRUCTS_MAX
from tests.unit.client_sim.fake_server import FakeServer
from tests.unit.client_sim.rig import Rig


def pushes(rig: Rig) -> list[Push]:
    return [frame for frame in rig.frames(Push) if isinstance(frame, Push)]


def number_pending(rig: Rig) -> None:
    """As if all had been framed: what has a number is merged with nothing."""
    with rig.store.transaction():
        rig.document.copy.number_up_to(rig.document.pending)


def test_an_edit_is_stored_before_it_is_sent() -> None:
    rig = Rig(FakeServer()).start().type("a")
    assert len(pushes(rig)) == 1
    stored = rig.store.load("main").outbox[0]
    assert stored.update == pushes(rig)[0].updates[0]
    assert stored.number == (1, extend(CHAIN_START, pushes(rig)[0].updates))


def test_an_offline_edit_survives_a_kill_and_arrives() -> None:
    server = FakeServer()
    rig = Rig(server).type("a").type("b")
    assert all(entry.number is None for entry in rig.store.load("main").outbox)
    rig.kill()
    assert rig.text == "ab"
    rig.start()
    assert rig.document.pending == 0
    assert server.room("main").replica.values() == {"body": "ab"}


def test_a_device_killed_after_every_message_loses_and_doubles_nothing() -> None:
    for messages in range(12):
        server = FakeServer()
        rig = Rig(server).start().type("a").type("b").type("c")
        for _ in range(messages):
            rig.deliver_up() or rig.deliver_down()
        rig.kill().start()
        rig.type("d").settle()
        assert rig.text == "abcd", messages
        assert server.room("main").replica.values() == {"body": "abcd"}
        assert server.room("main").ops["alice/phone"][0] == 4
        assert rig.document.pending == 0


def test_bytes_and_numbers_of_an_op_never_change() -> None:
    server = FakeServer()
    rig = Rig(server).start().type("a").type("b")
    first = pushes(rig)
    rig.lose().type("c").kill().start()
    again = pushes(rig)[len(first)]
    assert again.first_op == 1
    assert again.updates[:2] == (*first[0].updates, *first[1].updates)


def test_a_lost_ack_costs_a_resend_and_nothing_else() -> None:
    server = FakeServer()
    rig = Rig(server).start().type("a")
    rig.deliver_up()  # committed; the ACK is lost
    rig.lose().wait().settle()
    assert (rig.document.pending, rig.text) == (0, "a")
    assert len(server.room("main").log) == 1
    assert rig.device.counters.ops_acked == 1
    assert rig.told_of(Acknowledged) == [Acknowledged("main", 1)]


def test_what_was_not_committed_is_sent_again() -> None:
    server = FakeServer()
    rig = Rig(server).start().type("a").lose().wait().settle()
    assert server.room("main").replica.values() == {"body": "a"}
    assert rig.device.counters.ops_resent == 1
    assert rig.device.counters.ops_made == rig.device.counters.ops_acked == 1


def test_pushes_do_not_wait_for_acks_within_the_window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pushing, "WINDOW_OPS", 3)
    rig = Rig(FakeServer()).start()
    for letter in "abcde":
        rig.type(letter)
    assert [push.first_op for push in pushes(rig)] == [1, 2, 3]
    assert [entry.number is None for entry in rig.document.copy.outbox] == [False, False, False, True, True]
    rig.settle()
    assert rig.document.pending == 0
    assert rig.text == "abcde"


def test_the_window_is_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pushing, "WINDOW_BYTES", 300)
    rig = Rig(FakeServer()).start()
    for _ in range(5):
        rig.type("x" * 100)
    assert len(pushes(rig)) < 5
    rig.settle()
    assert rig.document.pending == 0


def test_offline_edits_go_in_batches_that_the_limits_allow() -> None:
    server = FakeServer()
    server.limits = {"updates_per_push": 4}
    rig = Rig(server)
    for index in range(10):
        rig.type(str(index))
    number_pending(rig)
    rig.start()
    assert [len(push.updates) for push in pushes(rig)] == [4, 4, 2]
    assert server.room("main").replica.values() == {"body": "0123456789"}


def test_batches_fit_a_message() -> None:
    server = FakeServer()
    server.limits = {"message_bytes": 500}
    rig = Rig(server)
    for _ in range(6):
        rig.type("x" * 150)
    rig.start()
    assert len(pushes(rig)) == 3, "merged they would not fit"
    assert all(sum(map(len, push.updates)) < 500 for push in pushes(rig))
    assert rig.document.pending == 0


def test_a_larger_edit_than_the_server_takes_is_not_made() -> None:
    server = FakeServer()
    server.limits = {"update_bytes": 200}
    rig = Rig(server).start().type("a").settle()
    with pytest.raises(EditTooBig):
        rig.type("x" * 500)
    rig.settle()
    assert (rig.text, rig.status.state) == ("a", State.CURRENT)
    assert rig.type("b").settle().text == "ab"


def nested(depth: int) -> object:
    value: object = 1
    for _ in range(depth):
        value = [value]
    return value


def write_nested(roots: Roots) -> None:
    roots.map("map")["tree"] = nested(40)


def write_many(roots: Roots) -> None:
    for number in range(STRUCTS_MAX + 1):
        roots.map("map")[str(number)] = number


@pytest.mark.parametrize("change", [write_nested, write_many])
def test_an_edit_that_no_server_takes_is_not_made_even_offline(change: Callable[[Roots], None]) -> None:
    """It would hold all that is typed after it, and what is nested too deep could not be read from the store."""
    rig = Rig(FakeServer()).type("a")
    with pytest.raises(EditTooBig, match="no server takes"):
        rig.feed(Edited("main", change))
    rig.type("b").start()
    assert (rig.text, rig.status.state, rig.document.pending) == ("ab", State.CURRENT, 0)


def test_an_offline_edit_over_a_limit_learnt_later_holds_the_document() -> None:
    server = FakeServer()
    server.limits = {"update_bytes": 200}
    rig = Rig(server, documents=("main", "other")).type("x" * 500).start()
    assert str(rig.status) == "blocked (too_big)"
    assert rig.document.pending == 1
    assert not pushes(rig)
    assert rig.device.document("other").status().state is State.CURRENT


def test_an_edit_that_raises_leaves_the_document_as_it_was() -> None:
    rig = Rig(FakeServer()).start().type("a").settle()

    def half_done(roots: Roots) -> None:
        roots.text("body").append("half")
        raise KeyError("app")

    with pytest.raises(KeyError):
        rig.edit(half_done)
    assert rig.text == "a"
    assert rig.document.pending == 0
    assert rig.type("b").settle().text == "ab"
    assert rig.status.state is State.CURRENT


def test_an_edit_that_changes_nothing_makes_no_op() -> None:
    rig = Rig(FakeServer()).start().edit(lambda roots: roots.text("body"))
    assert rig.document.pending == 0
    assert not pushes(rig)


class FullDisk(MemoryStore):
    full = False

    def append_updates(self, document: str, updates: object) -> None:
        if self.full:
            raise StoreError("no space left")
        super().append_updates(document, updates)  # type: ignore[arg-type]


def test_an_edit_on_a_full_disk_is_refused_to_the_app() -> None:
    store = FullDisk()
    rig = Rig(FakeServer(), store=store).start().type("a").settle()
    store.full = True
    with pytest.raises(StoreError):
        rig.type("b")
    assert (rig.text, rig.document.pending) == ("a", 0)
    store.full = False
    assert rig.type("c").settle().text == "ac"


def test_what_arrives_on_a_full_disk_is_not_in_and_comes_again() -> None:
    server = FakeServer()
    store = FullDisk()
    rig = Rig(server, store=store).start().type("a").settle()
    store.full = True
    Rig(server, "laptop", seed=2).start().type("b").settle()
    rig.settle()
    assert (rig.text, rig.device.status.state) == ("a", State.OFFLINE)
    store.full = False
    rig.wait().settle()
    assert (rig.text, rig.device.status.state) == ("ab", State.CURRENT)


def test_an_ack_of_before_a_reconnect_may_run_ahead_of_the_resend(monkeypatch: pytest.MonkeyPatch) -> None:
    server = FakeServer()
    rig = Rig(server).start().type("a").type("b")
    both = tuple(update for push in pushes(rig) for update in push.updates)
    monkeypatch.setattr(pushing, "WINDOW_OPS", 1)
    rig.lose().wait()
    rig.deliver_up()
    while len(pushes(rig)) < 3:
        rig.deliver_down()
    rig.up.clear()  # op 1 was framed again, op 2 was not
    room = server.room("main")
    seq = server.write(room, "alice/phone", both)  # the commit of what the first connection sent ends now
    assert rig.session is not None
    rig.session.send(Ack(room.handle, 2, seq, room.ops["alice/phone"][1]))
    rig.settle()
    assert (rig.document.pending, rig.status.state) == (0, State.CURRENT)
    rig.type("c").settle()
    assert pushes(rig)[-1].first_op == 3
    assert room.replica.values() == {"body": "abc"}


class CountingStore(MemoryStore):
    transactions = 0

    @contextmanager
    def transaction(self) -> Iterator[None]:
        self.transactions += 1
        with super().transaction():
            yield


def test_an_edit_that_goes_out_at_once_is_one_transaction() -> None:
    store = CountingStore()
    rig = Rig(FakeServer(), store=store).start()
    before = store.transactions
    rig.type("a")
    assert len(pushes(rig)) == 1
    assert store.transactions == before + 1


def test_a_replica_writes_under_a_fresh_client_id_each_time_it_starts() -> None:
    rig = Rig(FakeServer()).type("a").kill().type("b").kill().type("c")
    assert len(rig.document.copy.replica.state_vector()) == 3


def test_the_cache_log_is_compacted() -> None:
    rig = Rig(FakeServer()).start()
    for _ in range(520):
        rig.type("x").settle()
    stored = rig.store.load("main")
    assert stored.state is not None
    assert len(stored.updates) < 100
    assert rig.kill().text == "x" * 520
