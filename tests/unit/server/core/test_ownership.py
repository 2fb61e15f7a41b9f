"""Whose client ids: nobody writes under another user's, for as long as the epoch lasts."""

from __future__ import annotations

import pytest
from pycrdt import Text

from crdt.ids import DocumentId
from crdt.protocol.frames import Cursor, Error, Open, Push
from crdt.replica import Replica
from crdt.update import EMPTY_STATE_VECTOR
from server.core import effects, events
from server.core.intake import HEALS_MAX
from tests.unit.server.core.lab import Lab, Writer

SHARED = DocumentId("alice", "shared")
GRANT = {str(SHARED): "rw"}


def joined(lab: Lab, user: str, device: str = "phone") -> tuple[int, int]:
    return lab.join(user, device, str(SHARED), docs=GRANT)


def refusals(lab: Lab, session: int) -> list[tuple[str, str | None]]:
    errors = [frame for frame in lab.received(session) if isinstance(frame, Error)]
    return [(error.code, (error.detail or {}).get("reason")) for error in errors]


def theirs(lab: Lab) -> Writer:
    """Alice has written under a client id, and everybody has it."""
    alice, handle = joined(lab, "alice")
    writer = Writer(7)
    lab.push(alice, handle, 1, writer.type("hers"))
    lab.settle()
    return writer


def pushes_as(lab: Lab, user: str, writer: Writer, *, device: str = "other") -> list[tuple[str, str | None]]:
    session, handle = joined(lab, user, device)
    lab.push(session, handle, 1, writer.type("x"))
    lab.settle()
    return refusals(lab, session)


NOT_OWNER = [("bad_update", "not_owner")]


def test_nobody_writes_under_another_users_client_id() -> None:
    lab = Lab()
    writer = theirs(lab)
    assert pushes_as(lab, "bob", writer) == NOT_OWNER
    assert len(lab.durable(SHARED)) == 1


def test_devices_of_one_user_share_client_ids() -> None:
    lab = Lab()
    assert pushes_as(lab, "alice", theirs(lab)) == []


def test_what_others_wrote_may_be_sent_again_by_anybody() -> None:
    """A diff carries what its maker did not write; what the server has of it is skipped."""
    lab = Lab()
    writer = theirs(lab)
    bob, handle = joined(lab, "bob")
    lab.push(bob, handle, 1, writer.replica.diff(EMPTY_STATE_VECTOR))
    lab.settle()
    assert refusals(lab, bob) == []


def test_ownership_outlives_compaction() -> None:
    lab = Lab()
    writer = theirs(lab)
    lab.start()
    lab.held.append(effects.Compact(SHARED))
    lab.settle()
    lab.start()
    assert pushes_as(lab, "bob", writer) == NOT_OWNER


def test_ownership_outlives_a_restart() -> None:
    lab = Lab()
    writer = theirs(lab)
    lab.start()
    assert pushes_as(lab, "bob", writer) == NOT_OWNER


def test_a_refused_client_id_is_not_taken() -> None:
    """Bob's update fails for another reason; the client id in it is not his for that."""
    lab = Lab()
    bob, handle = joined(lab, "bob")
    writer = Writer(7)
    lab.push(bob, handle, 1, writer.type("x") + b"junk")
    lab.settle()
    lab.received(bob)
    assert pushes_as(lab, "alice", Writer(7)) == []


def in_a_new_epoch(lab: Lab) -> Writer:
    """The store was set back: nobody owns anything, and Alice's edit is gone."""
    alice, _ = joined(lab, "alice")
    ahead = Cursor(lab.epoch(SHARED), 99)
    lab.send(alice, Open(2, str(SHARED), ahead, EMPTY_STATE_VECTOR))
    lab.settle()
    return Writer(7)


def test_in_a_new_epoch_whoever_comes_first_owns() -> None:
    lab = Lab()
    theirs(lab)
    in_a_new_epoch(lab)
    assert pushes_as(lab, "bob", Writer(8)) == []
    bobs = Writer(8)
    bobs.type("x")
    assert pushes_as(lab, "carol", bobs) == NOT_OWNER


def test_a_healing_push_binds_nothing() -> None:
    lab = Lab()
    lost = in_a_new_epoch(lab)
    bob, handle = joined(lab, "bob")
    lab.send(bob, Push(handle, 1, (lost.type("hers"),), heal=True))
    lab.settle()
    assert refusals(lab, bob) == []
    lab.start()
    assert pushes_as(lab, "alice", lost) == []
    assert pushes_as(lab, "carol", lost) == NOT_OWNER


def appended(writer: Writer, text: str) -> bytes:
    """Types behind all that is there: nothing but the end of the last op has to be known to take it."""
    end = len(writer.replica.values().get("t", ""))
    update = writer.replica.edit(lambda doc: doc.get("t", type=Text).insert(end, text))
    assert update is not None
    return update


def test_who_types_on_in_a_new_epoch_owns() -> None:
    lab = Lab()
    daves = Writer(8)
    dave, handle = joined(lab, "dave")
    lab.push(dave, handle, 1, daves.type("x"))
    lab.settle()
    in_a_new_epoch(lab)
    dave, handle = joined(lab, "dave")
    lab.push(dave, handle, 1, appended(daves, "y"))
    lab.settle()
    assert refusals(lab, dave) == []
    assert pushes_as(lab, "carol", daves) == NOT_OWNER


def test_who_gives_back_what_another_wrote_may_not_type_on_there() -> None:
    lab = Lab()
    theirs(lab)
    in_a_new_epoch(lab)
    bobs = Writer(8)
    bob, handle = joined(lab, "bob")
    lab.push(bob, handle, 1, bobs.type("first"))
    lab.settle()
    alice, handle = joined(lab, "alice")
    lab.send(alice, Push(handle, 1, (appended(bobs, "last"),), heal=True))
    lab.push(alice, handle, 2, appended(bobs, "forged"))
    lab.settle()
    assert refusals(lab, alice) == NOT_OWNER


def test_healing_means_nothing_where_nothing_was_lost() -> None:
    """Else whoever says so would write without being the one who wrote it."""
    lab = Lab()
    bob, handle = joined(lab, "bob")
    writer = Writer(7)
    lab.push(bob, handle, 1, Writer(6).type("x"))
    lab.send(bob, Push(handle, 2, (writer.type("x"),), heal=True))
    lab.settle()
    assert not any(entry.heal for entry in lab.durable(SHARED))
    assert pushes_as(lab, "alice", writer) == NOT_OWNER


@pytest.mark.parametrize("restarts", [False, True])
def test_a_device_heals_by_its_first_ops_and_by_none_behind_another(restarts: bool) -> None:
    lab = Lab()
    theirs(lab)
    in_a_new_epoch(lab)
    bob, handle = joined(lab, "bob")
    for number, heal in enumerate((True, True, False, True), 1):
        if restarts:
            lab.settle()
            lab.start()
            bob, handle = joined(lab, "bob")
        lab.send(bob, Push(handle, number, (Writer(10 + number).type("x"),), heal=heal))
    lab.settle()
    healing = [(op, entry.heal) for entry in lab.durable(SHARED)[1:] for op in range(entry.first_op, entry.last_op + 1)]
    assert healing == [(1, True), (2, True), (3, False), (4, False)]


def test_a_device_heals_by_so_many_ops_and_no_more() -> None:
    lab = Lab()
    theirs(lab)
    in_a_new_epoch(lab)
    bob, handle = joined(lab, "bob")
    writer = Writer(8)
    lab.send(bob, Push(handle, 1, tuple(writer.type("x") for _ in range(HEALS_MAX + 1)), heal=True))
    lab.settle()
    assert [(entry.last_op, entry.heal) for entry in lab.durable(SHARED)][1:] == [
        (HEALS_MAX, True), (HEALS_MAX + 1, False),
    ]  # fmt: skip


def heals(lab: Lab, user: str, *writers: Writer) -> list[tuple[str, str | None]]:
    """One push gives back what these had written."""
    session, handle = joined(lab, user)
    merged = Replica.load([writer.replica.state() for writer in writers]).state()
    lab.send(session, Push(handle, 1, (merged,), heal=True))
    lab.settle()
    return refusals(lab, session)


@pytest.mark.parametrize("restarts", [False, True])
@pytest.mark.parametrize("imports", [False, True])
def test_a_document_that_no_backup_had_is_healed_by_all(restarts: bool, imports: bool) -> None:
    """It begins in a first epoch. What Bob gives back of Alice's binds none of it to him."""
    lab = Lab()
    if imports:
        lab.feed(events.ImportRequested(1, SHARED, Writer(5).type("from an operator")))
        lab.settle()
    alices, bobs, carols = Writer(6), Writer(7), Writer(8)
    for writer in (alices, bobs, carols):
        writer.type("lost")
    assert heals(lab, "bob", bobs) == []
    if restarts:
        lab.start()
    assert heals(lab, "carol", carols, alices) == []
    last = alices.type("and only Alice has this")
    alice, handle = joined(lab, "alice")
    lab.send(alice, Push(handle, 1, (last,), heal=True))
    lab.settle()
    assert refusals(lab, alice) == []
    assert [entry.heal for entry in lab.durable(SHARED)][-3:] == [True, True, True]


def test_in_a_restored_store_a_document_is_healed_whoever_begins_it() -> None:
    """The backup had it not, and Alice writes to it before those who did have it come back."""
    lab = Lab()
    lab.storage.is_restored = True
    theirs(lab)
    bobs = Writer(8)
    bobs.type("x")
    carols = Writer(9)
    carols.type("the last of it is with Bob")
    assert heals(lab, "bob", bobs, carols) == []
    assert pushes_as(lab, "carol", carols) == []
    assert [entry.heal for entry in lab.durable(SHARED)] == [False, True, False]


def test_the_owner_of_a_document_gives_back_what_a_guest_has_begun_anew() -> None:
    """Bob's phone was put back as well, and sent what it had first; Alice alone has what he wrote after that."""
    lab = Lab()
    theirs(lab)
    in_a_new_epoch(lab)
    bobs = Writer(8)
    bob, handle = joined(lab, "bob")
    lab.push(bob, handle, 1, bobs.type("first"))
    lab.settle()
    bobs.type("last")
    assert heals(lab, "carol", bobs) == NOT_OWNER
    assert heals(lab, "alice", bobs) == []


def test_nobody_heals_a_document_that_somebody_began() -> None:
    lab = Lab()
    theirs(lab)
    assert heals(lab, "bob", Writer(8)) == []
    bobs = Writer(9)
    bobs.type("x")
    assert heals(lab, "carol", bobs) == []
    assert not any(entry.heal for entry in lab.durable(SHARED))
