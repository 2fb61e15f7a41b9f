"""The liveness phase: nothing fails any more, and within a budget of virtual time all must be as promised."""

from __future__ import annotations

from client_sim.core import events
from client_sim.core.pacing import Policy
from client_sim.sim.handset import Handset
from client_sim.sim.truth import Chronicle, hold
from client_sim.sim.world import OWNER, World, at_once
from crdt.replica import RESIDENT_FACTOR, Replica
from crdt.update import read_update
from crdt.update.ranges import Ranges

LOOK_S = 20.0
BUDGET_S = 2_400.0
"""From the end of all faults until every device is current: half-open links, backoffs and resends are over by then."""
AUDIT_S = 10.0


def settle(world: World) -> None:
    """Heal everything, wait, and compare. Raises Broken."""
    _heal(world)
    end_s = world.timetable.now + BUDGET_S + 2 * world.processes[0].options.heartbeat_s
    _sign_off(world)
    _wait_until_current(world, end_s)
    _audit(world)
    _wait_until_current(world, end_s)
    for chronicle in world.truth.chronicles.values():
        _compare(world, chronicle)
    _check_memory(world)


def _wait_until_current(world: World, end_s: float) -> None:
    while troubles := _troubles(world):
        hold(world.timetable.now < end_s, "all end current", "; ".join(troubles))
        world.timetable.run_until(world.timetable.now + LOOK_S)
        _encourage(world)


def _present(world: World) -> list[Handset]:
    """Those who have to end current: who was shut out does not."""
    return [handset for handset in world.handsets if not handset.is_revoked]


def _heal(world: World) -> None:
    world.history.note("world", "calms down")
    world.weather = world.database.weather = world.weather.calm
    world.database.is_full = False
    world.database.unreadable.clear()
    for guest, access in world.place.grants.items():
        world.issuer.grants[guest] = {f"{OWNER}/main": access}
    for link in world.links:
        link.calm(world.weather)
    first, *others = world.processes
    for process in others:
        process.is_retired = True
        process.drain()
    first.effects_left = None
    first.start_if_dead()
    first.set_clock(0.0)
    first.set_load(is_heavy=False)
    for intruder in world.intruders:
        if intruder.link is not None:
            intruder.link.cut()
    for handset in world.handsets:
        handset.has_network = True
        if handset.device is None or handset.user != OWNER:
            handset.boot()  # with a fresh token: a guest's grants may have changed
        handset.tell_one(events.PolicyChosen(Policy.INTERACTIVE))


def _encourage(world: World) -> None:
    """What people and operators do when something does not go on by itself."""
    world.processes[0].start_if_dead()
    for document in world.truth.chronicles:
        at_once(world.database.disk.release(document))
    for handset in _present(world):
        handset.start()
        handset.unblock()


def _troubles(world: World) -> list[str]:
    return [
        f"{handset.label} in {document}: {trouble}"
        for handset in _present(world)
        for document in handset.documents
        if (trouble := handset.trouble(document)) is not None
    ]


def _sign_off(world: World) -> None:
    """An edit of everybody in each document: two that go by one name find out about each other at the latest now.

    And a process learns at its next append what another has written: where nobody is left to cause one, an operator is.
    """
    signed = set()
    for handset in _present(world):
        if handset.may_write:
            for document in handset.documents:
                handset.sign(document)
                signed.add(document)
    for document in world.truth.chronicles:
        if document not in signed:
            world.import_note(document)


def _audit(world: World) -> None:
    for handset in _present(world):
        for document in handset.documents:
            handset.about(document, events.AuditRequested)
    world.timetable.run_until(world.timetable.now + AUDIT_S)


def _compare(world: World, chronicle: Chronicle) -> None:
    """The log alone, the snapshot and the tail, and every device."""
    document = chronicle.document
    stored = at_once(world.database.disk.load(document))
    hold(stored.head_seq == len(chronicle.entries), "the log is whole", f"{document} ends at {stored.head_seq}")
    tail = tuple(chronicle.entries[len(chronicle.entries) - len(stored.entries) :])
    hold(stored.entries == tail, "the log is whole", f"{document} has other entries than were written")
    truth = chronicle.replay()
    values, clocks = truth.values(), truth.state_vector()
    folded = Replica.load(stored.state_updates())
    hold(folded.values() == values, "compaction keeps the document", f"{document} reads otherwise from its snapshot")
    hold(folded.state_vector() == clocks, "compaction keeps the document", f"{document} has other clocks")
    for handset in _present(world):
        replica = handset.replica(document) if document in handset.documents else None
        may_have_more = not handset.may_write and world.is_restored
        if replica is not None and handset.is_clean(document) and not may_have_more:
            differs = f"{handset.label} reads {replica.values()} in {document}, the log {values}"
            hold(replica.values() == values, "equal values", differs)
            hold(replica.state_vector() == clocks, "equal values", f"{handset.label} has other clocks in {document}")
    for client, clock in chronicle.owed.items():
        lost = f"{client} wrote up to {clock} in {document}, of which {clocks.get(client, 0)} is left"
        hold(clock <= clocks.get(client, 0), "nothing is lost", lost)
    state = read_update(truth.state())
    gone = chronicle.deleted() - Ranges(state.deletes)
    hold(not gone, "nothing is lost", f"deleted in the log, and there again in {document}: {gone}")


def _check_memory(world: World) -> None:
    """Over its budget the server has what it needs just now: all documents, at the most."""
    server, logs = world.processes[0], world.truth.chronicles.values()
    written = sum(entry.update_bytes for chronicle in logs for entry in chronicle.entries)
    room = 3 * RESIDENT_FACTOR * written + 50_000
    most = server.options.resident_bytes_max + room
    hold(server.resident_bytes <= most, "queues are bounded", f"{server.resident_bytes} bytes are resident")
