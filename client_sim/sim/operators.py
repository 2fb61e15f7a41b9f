"""What operators do by hand with one document: release it from quarantine, take out what one device did, add a word."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from client_sim.core.roots import Roots
from client_sim.sim.truth import hold
from crdt.excise import Step, undo
from crdt.ids import DeviceId
from crdt.replica import Replica
from crdt.update import EMPTY_UPDATE, read_update
from crdt.update.ranges import Ranges
from server.core.imports import IMPORTER
from server.core.records import History


def culprits(history: History) -> list[DeviceId]:
    """Devices of whom the log still has something, in order."""
    return sorted({entry.device for entry in history.entries if not entry.heal} - {IMPORTER})


def excision(history: History, culprit: DeviceId, rng: Random) -> bytes | None:
    """An update that takes back what the log has of a device; None if nothing of it is left to take.

    It fits the document that it was made for, and takes all that it says. Raises Broken.
    """
    steps = [
        Step(update, read_update(update), taken=entry.device == culprit and not entry.heal, is_copy=entry.heal)
        for entry in history.entries
        for update in entry.updates
    ]
    base = history.base.state if history.base else EMPTY_UPDATE
    undone = undo(base, steps, Ranges(), _fresh(base, steps, rng))
    if undone.update is not None:
        replica = Replica.load([base, *(step.update for step in steps)])
        missing = read_update(undone.update).missing(replica.state_vector())
        hold(missing is None, "excision takes all", f"what takes {culprit} back builds on {missing}")
        replica.apply((undone.update,))
        left = undone.goes - Ranges.deleted_by(read_update(replica.state()))
        hold(not left, "excision takes all", f"of {culprit} there is still {left}")
        by_culprit = Ranges(part for step in steps if step.taken for part in Ranges.inserted_by(step.read))
        by_others = Ranges(part for step in steps if not step.taken for part in Ranges.inserted_by(step.read))
        own = by_culprit - by_others - Ranges.inserted_by(read_update(base))
        left = own - Ranges.deleted_by(read_update(replica.state()))
        hold(not left, "excision takes all", f"{culprit} wrote {left}, which is still there")
    return undone.update


def note(history: History, rng: Random) -> bytes:
    """An update that adds a word of an operator's."""
    base = history.base.state if history.base else EMPTY_UPDATE
    steps = [Step(update, read_update(update)) for entry in history.entries for update in entry.updates]
    replica = Replica.load([base, *(step.update for step in steps)], _fresh(base, steps, rng))
    update = replica.edit(lambda doc: Roots(doc).text("body").append("noted "))
    assert update is not None
    return update


def _fresh(base: bytes, steps: Sequence[Step], rng: Random) -> int:
    """A client id that the document does not know."""
    known = {client for read in (read_update(base), *(step.read for step in steps)) for client in read.sections}
    while (client_id := 1 + rng.getrandbits(31)) in known:
        pass
    return client_id
