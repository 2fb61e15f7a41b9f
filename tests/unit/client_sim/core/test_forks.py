"""Another device has this one's identity: a restored backup, a copied store. Nobody loses an edit."""

from __future__ import annotations

import pytest

from client_sim.core import events
from client_sim.core.device import Device
from client_sim.core.effects import Problem
from client_sim.core.ports import DeviceStore, Identity, StoreError, StoreRefused
from client_sim.core.status import Link, Phase, State, Status
from crdt.chain import OPS_START
from crdt.ids import is_name
from crdt.protocol.codec import encode
from crdt.protocol.codes import Code
from crdt.protocol.frames import CHAIN_START, Access, Ack, DeviceFrame, Error, Hello, Push
from crdt.update import read_update
from tests.unit.client_sim.fake_server import FakeServer, Session
from tests.unit.client_sim.rig import Rig

LONG = " ".join(map(str, range(100)))
"""Of which an answer has many chunks, even deflated."""
SEEDS = iter(range(100, 10_000))


def clone(rig: Rig) -> Rig:
    """Another device with a copy of the store, as it is now."""
    return Rig(rig.server, rig.name, seed=next(SEEDS), store=rig.store.restarted(), documents=rig.names)


def back(rig: Rig) -> Rig:
    """Online again, however often that takes; not where the device does not try by itself."""
    rig.settle()
    while rig.device.link is Link.WAITING:
        rig.wait().settle()
    return rig


def number_pending(rig: Rig) -> None:
    """As if all had been framed, and the connection lost before a byte was sent."""
    with rig.store.transaction():
        rig.document.copy.number_up_to(rig.document.pending)


def assert_has_all(server: FakeServer, rigs: list[Rig], *words: str) -> None:
    """Whoever is offline comes back, in this order, twice: then each word is there once, and with everyone."""
    for rig in [*rigs, *rigs]:
        back(back(rig).begin())
    text = str(server.room("main").replica.values().get("body", ""))
    assert sorted(text.replace(">", "> ").split()) == sorted(words)
    for rig in rigs:
        assert (rig.settle().text, rig.document.pending) == (text, 0)


# --- how it is noticed


def test_an_ack_with_another_hash_drops_nothing() -> None:
    rig = Rig(FakeServer()).start().type("a")
    rig.up.clear()
    assert rig.session is not None
    rig.session.send(Ack(1, 1, 1, b"another!"))
    rig.settle()
    assert (rig.device.counters.forks, rig.document.pending) == (1, 1)
    assert rig.device.link is Link.WAITING


def test_an_ack_of_the_last_acknowledged_op_is_compared_too() -> None:
    rig = Rig(FakeServer()).start().type("a").settle()
    assert rig.session is not None
    rig.session.send(Ack(1, 1, 0, b"another!"))
    assert rig.settle().device.counters.forks == 1


def test_an_ack_of_an_older_op_means_nothing() -> None:
    rig = Rig(FakeServer()).start().type("a").settle().type("b").settle()
    before = rig.document.copy.progress
    assert rig.session is not None
    rig.session.send(Ack(1, 1, 0, b"whatever"))
    rig.settle()
    assert (rig.document.copy.progress, rig.status.state) == (before, State.CURRENT)


def test_an_ack_of_an_op_never_made_is_a_fork() -> None:
    rig = Rig(FakeServer()).start().type("a")
    assert rig.session is not None
    rig.session.send(Ack(1, 5, 1, CHAIN_START))
    rig.deliver_down()
    assert rig.device.counters.forks == 1


@pytest.mark.parametrize("about", ["push", "open", "connection"])
def test_the_server_may_see_it_first(about: str) -> None:
    server = FakeServer()
    rig = Rig(server).start().type("<a>")
    rig.up.clear()
    assert rig.session is not None
    ref, handle, detail = {"push": (None, 1, {"op": 1}), "open": (1, None, None), "connection": (None, None, None)}[
        about
    ]
    rig.session.send(Error(ref, handle, Code.DEVICE_FORKED, "", "never", None, detail))
    assert_has_all(server, [rig], "<a>")
    assert rig.device.counters.forks == 1
    assert rig.device.name != "phone"


def test_what_shows_a_fork_is_not_applied_and_moves_no_cursor() -> None:
    """Its tail leaves out what the other one wrote, and this one lacks."""
    server = FakeServer()
    rig = Rig(server).start().type("<a>").settle()
    other = clone(rig)
    rig.lose()
    before = rig.document.copy.progress
    other.start().type("<b>").settle()
    Rig(server, "laptop", seed=3).start().type("<c>").settle()
    rig.wait().settle()
    assert rig.device.counters.forks == 1
    assert (rig.document.copy.cursor, rig.text) == ((before.epoch, before.seq), "<a>")
    assert_has_all(server, [rig], "<a>", "<b>", "<c>")
    assert rig.text == other.settle().text


@pytest.mark.parametrize("chunk_bytes", [30, 1 << 20])
@pytest.mark.parametrize("pending", ["none", "unnumbered", "numbered"])
def test_a_clone_that_wrote_first_is_noticed_at_the_open(pending: str, chunk_bytes: int) -> None:
    server = FakeServer()
    rig = Rig(server).start().type("<a>").settle()
    other = clone(rig)
    rig.lose()
    other.start().type("<theirs>").settle()
    server.chunk_bytes = chunk_bytes
    if pending != "none":
        rig.type("<mine>")
    if pending == "numbered":
        number_pending(rig)
    assert_has_all(server, [rig, other], "<a>", "<theirs>", *["<mine>"] * (pending != "none"))
    assert (rig.device.counters.forks, other.device.counters.forks) == (1, 0)
    assert rig.text == other.text


def test_it_shows_before_the_chunks_of_a_long_answer_come() -> None:
    server = FakeServer()
    rig = Rig(server).start().type("<a>").settle()
    other = clone(rig)
    rig.lose()
    other.start().type("<b>").settle()
    Rig(server, "laptop", seed=3).start().type(LONG).settle()
    server.chunk_bytes = 30
    rig.wait().deliver_up()
    rig.deliver_down()  # WELCOME
    rig.deliver_down()  # OPENED
    assert rig.device.counters.forks == 1


def test_a_download_is_not_gone_on_with_under_another_name() -> None:
    server = FakeServer()
    Rig(server, "laptop", seed=3).start().type(LONG).settle()
    server.chunk_bytes = 30
    rig = Rig(server).begin()
    rig.deliver_up()
    for _ in range(3):  # WELCOME, OPENED, one CHUNK
        rig.deliver_down()
    assert rig.document.phase is Phase.RECEIVING
    rig.feed(events.MessageReceived(encode(Error(None, None, Code.DEVICE_FORKED, "", "never"))))
    rig.wait()
    hello = rig.frames(Hello)[-1]
    assert isinstance(hello, Hello)
    assert hello.opens[0].resume is None
    assert rig.settle().text == LONG


# --- what it does about it


def test_it_takes_a_new_name_for_all_documents_and_goes_on() -> None:
    server = FakeServer()
    names = ("main", "notes")
    rig = Rig(server, documents=names).start().type("<a>").type("<n>", "notes").settle()
    other = clone(rig)
    rig.lose()
    other.start().type("<b>").settle()
    rig.type("<c>").type("<d>", "notes")
    cursors = [rig.device.document(name).copy.cursor for name in names]
    pending = [[entry.update for entry in rig.device.document(name).copy.outbox] for name in names]
    rig.wait()
    assert rig.deliver_up()
    while rig.device.link is not Link.WAITING:
        rig.deliver_down()
    assert rig.store.identity() == Identity(rig.device.name, "alice")
    assert is_name(rig.device.name)
    assert rig.device.name != "phone"
    for name, cursor, updates in zip(names, cursors, pending, strict=True):
        copy = rig.device.document(name).copy
        assert (copy.cursor, copy.progress.acked) == (cursor, OPS_START)
        assert [entry.update for entry in copy.outbox] == updates
    back(rig)
    hello = rig.frames(Hello)[-1]
    assert isinstance(hello, Hello)
    assert hello.device == rig.device.name
    assert server.room("main").ops[f"alice/{rig.device.name}"][0] == 1
    assert server.room("notes").ops[f"alice/{rig.device.name}"][0] == 1
    assert server.room("notes").replica.values() == {"body": "<n><d>"}
    assert rig.device.status == Status(State.CURRENT)


def test_documents_that_are_not_open_are_numbered_anew_too() -> None:
    server = FakeServer()
    rig = Rig(server, documents=("main", "notes")).start().type("<a>").type("<n>", "notes").settle()
    rig.feed(events.CloseRequested("notes"))
    other = clone(rig)
    rig.lose()
    other.start().type("<b>").settle()
    back(rig)
    assert rig.store.load("notes").progress.acked == OPS_START
    rig.feed(events.OpenRequested("notes"))
    rig.settle().type("<m>", "notes").settle()
    assert rig.device.counters.forks == 1
    assert server.room("notes").replica.values() == {"body": "<n><m>"}


def test_the_app_is_told_the_new_name() -> None:
    rig = Rig(FakeServer()).start()
    assert rig.session is not None
    rig.session.send(Ack(1, 5, 1, CHAIN_START))
    rig.settle()
    (problem,) = rig.told_of(Problem)
    assert isinstance(problem, Problem)
    assert problem.code == Code.DEVICE_FORKED
    assert f"phone is {rig.device.name} from now on" in problem.message


def forked(rig: Rig) -> Rig:
    """The device has taken another name, and waits to connect."""
    assert rig.session is not None
    rig.session.send(Ack(1, 99, 1, CHAIN_START))
    while rig.device.link is not Link.WAITING:
        rig.deliver_down()
    return rig


def test_without_a_token_for_the_new_name_it_is_blocked_and_keeps_its_data() -> None:
    rig = forked(Rig(FakeServer()).start().type("<a>"))
    rig.token = None
    rig.wait()
    rig.feed(events.TokenFailed(rig.device.name, "only phones", refused=True))
    assert rig.device.status == Status(State.BLOCKED, Code.DEVICE_FORKED, "only phones")
    assert rig.device.next_deadline() is None
    assert (rig.text, rig.document.pending) == ("<a>", 1)
    rig.kill().begin()
    rig.feed(events.TokenFailed(rig.device.name, "only phones", refused=True))
    assert rig.device.status == Status(State.BLOCKED, Code.DEVICE_FORKED, "only phones")
    assert (rig.text, rig.document.pending) == ("<a>", 1)
    rig.token = "for the new name"
    assert_has_all(rig.server, [rig], "<a>")


def test_a_token_of_the_old_name_is_not_used_however_late_it_comes() -> None:
    rig = forked(Rig(FakeServer()).start())
    rig.token = None
    rig.feed(events.TokenFetched("phone", "of the old name"))
    rig.wait()
    assert rig.device.link is Link.FETCHING
    rig.feed(events.TokenFetched("phone", "of the old name"))
    rig.feed(events.TokenFailed("phone", "of the old name", refused=True))
    assert rig.device.link is Link.FETCHING


def test_a_store_that_fails_then_leaves_all_as_it_was_and_the_next_try_does_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = FakeServer()
    rig = Rig(server).start().type("<a>").settle()
    other = clone(rig)
    rig.lose()
    other.start().type("<b>").settle()
    rig.type("<c>")
    change_identity = rig.store.change_identity

    def fail_after_it(identity: Identity) -> None:
        change_identity(identity)
        raise StoreError("the disk is full")

    monkeypatch.setattr(rig.store, "change_identity", fail_after_it)
    rig.wait().settle()
    monkeypatch.undo()
    assert [effect.code for effect in rig.told_of(Problem) if isinstance(effect, Problem)] == ["store_failed"]
    assert (rig.device.name, rig.store.load("main").progress.acked.op) == ("phone", 1)
    assert_has_all(server, [rig, other], "<a>", "<b>", "<c>")
    assert rig.device.counters.forks == 1


def test_a_server_that_always_says_so_is_asked_less_and_less_often() -> None:
    server = FakeServer()

    def script(session: Session, frame: DeviceFrame) -> bool:
        session.send(Error(None, None, Code.DEVICE_FORKED, "", "never"))
        return True

    server.script = script
    rig = Rig(server).start()
    for _ in range(20):
        rig.wait().settle()
    assert rig.now > 60


def test_a_rename_in_the_middle_of_a_rebuild_puts_aside_what_was_refused() -> None:
    """The refused edit is found again, though its number is gone."""
    server = FakeServer()
    rig = Rig(server).start().type("<a>").settle().kill().start()  # places count from 1 again, ops do not

    def script(session: Session, frame: DeviceFrame) -> bool:
        if isinstance(frame, Push) and frame.first_op == 3:
            session.refuse(frame, Code.BAD_UPDATE, "never")
        return isinstance(frame, Push)

    server.script = script
    rig.type("<good>").type("<bad>")
    while not rig.document.copy.progress.held:
        rig.deliver_up() or rig.deliver_down()
    server.script = None
    other = clone(rig)
    server.write(server.room("main"), "alice/phone", (other.type("<x>").document.copy.outbox[-1].update,))
    back(rig.lose())
    assert rig.device.counters.forks == 1
    assert len(rig.document.aside) == 1
    assert "<bad>" not in rig.text
    assert rig.text.count("<good>") == 1
    rig.feed(events.Unblocked("main"))
    rig.settle()
    assert rig.document.pending == 0
    assert server.room("main").replica.values() == {"body": rig.text}


# --- who it is afterwards


def test_the_app_may_go_on_using_either_name() -> None:
    rig = forked(Rig(FakeServer()).start())
    name = rig.device.name
    for given in ("phone", name):
        assert Device(given, rig.store, rig.rng).name == name
    with pytest.raises(StoreRefused):
        Device("laptop", rig.store, rig.rng)


def test_after_a_restart_it_is_still_the_new_one() -> None:
    rig = forked(Rig(FakeServer()).start())
    name = rig.device.name
    rig.kill().start()
    hello = rig.frames(Hello)[-1]
    assert isinstance(hello, Hello)
    assert (hello.device, rig.device.counters.forks) == (name, 0)


# --- two clones


def pair_of_clones(server: FakeServer, *pending: str) -> tuple[Rig, Rig]:
    """Two devices with one identity and equal stores, of which neither is online. `pending` is with both."""
    one = Rig(server).start().type("<both>").settle().lose()
    for word in pending:
        one.type(word)
    if pending:
        number_pending(one)
    one.kill()
    return one, clone(one)


@pytest.mark.parametrize("numbered", [True, False])
def test_same_numbers_and_other_bytes(numbered: bool) -> None:
    server = FakeServer()
    one, two = pair_of_clones(server)
    one.type("<1>").type("<2>")
    two.type("<I>").type("<II>").type("<III>")
    if numbered:
        number_pending(one)
        number_pending(two)
    assert_has_all(server, [one, two], "<both>", "<1>", "<2>", "<I>", "<II>", "<III>")
    assert one.settle().text == two.text
    assert (one.device.counters.forks, two.device.counters.forks) == (0, 1)


def test_a_clone_with_nothing_of_its_own_takes_in_all_of_the_other() -> None:
    server = FakeServer()
    one, two = pair_of_clones(server)
    one.type("<1>").type("<2>")
    assert_has_all(server, [one, two], "<both>", "<1>", "<2>")
    assert two.text == one.text == "<both><1><2>"


def test_what_was_pending_before_the_copy_is_sent_twice_and_there_once() -> None:
    server = FakeServer()
    one, two = pair_of_clones(server, "<p>", "<q>")
    one.type("<1>")
    two.type("<2>")
    assert_has_all(server, [one, two], "<both>", "<p>", "<q>", "<1>", "<2>")
    assert one.settle().text == two.text


def test_what_both_had_pending_and_nothing_else_is_no_fork() -> None:
    """Equal numbers and bytes: the acknowledgement of one is good for the other."""
    server = FakeServer()
    one, two = pair_of_clones(server, "<p>")
    assert_has_all(server, [one, two], "<both>", "<p>")
    assert one.device.counters.forks == two.device.counters.forks == 0


def test_an_edit_under_way_when_the_clone_connects() -> None:
    """The clone gets an ACK for what it never wrote."""
    server = FakeServer()
    one, two = pair_of_clones(server)
    one.begin().settle().type("<1>")
    held = one.up.pop()
    two.begin().settle().type("<2>")
    two.up.clear()
    assert two.session is not None
    two.session.receive(held)  # committed after two took over: it is told
    assert_has_all(server, [two, one], "<both>", "<1>", "<2>")
    assert (one.device.counters.forks, two.device.counters.forks) == (0, 1)


def test_clones_do_not_chase_each_other() -> None:
    server = FakeServer()
    one, two = pair_of_clones(server)
    one.start()
    two.start()
    one.settle()
    assert one.device.status == Status(State.BLOCKED, "superseded")
    assert one.device.next_deadline() is None
    one.feed(events.NetworkBack())
    assert one.device.link is Link.STOPPED
    assert two.device.status.state is State.CURRENT
    one.start()
    two.settle()
    assert (one.device.status.state, str(two.device.status)) == (State.CURRENT, "blocked (superseded)")


def test_a_read_only_clone_is_noticed_as_well() -> None:
    server = FakeServer()
    one, two = pair_of_clones(server)
    one.start().type("<1>").settle()
    server.access = Access.READ
    two.start()
    assert back(two).device.counters.forks == 1
    assert two.text == one.text


# --- client ids


def clients_of(store: DeviceStore) -> set[int]:
    return {client for entry in store.load("main").outbox for client in read_update(entry.update).sections}


def test_clones_never_write_under_one_client_id() -> None:
    server = FakeServer()
    one, two = pair_of_clones(server)
    again = clone(one)
    for rig, word in ((one, "1"), (two, "2"), (again, "3")):
        rig.type(word)
    written = [clients_of(rig.store) for rig in (one, two, again)]
    assert all(len(clients) == 1 for clients in written)
    assert len(set.union(*written)) == 3


def test_each_start_of_a_replica_writes_under_another_client_id() -> None:
    rig = Rig(FakeServer()).type("a").kill().type("b").kill().type("c")
    assert len(clients_of(rig.store)) == 3
