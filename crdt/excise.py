"""Taking back what one device did, as an edit like any other: what it inserted goes, what it deleted comes back.

The library's undo does it, on a scratch document that keeps deleted content. It finds each place among the neighbours
of the time, and leaves a map's key alone that somebody has set since.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pycrdt import Array, Doc, Map, Text, TransactionEvent, UndoManager, XmlFragment, merge_updates

from crdt.library import guarded
from crdt.update import RootKind, StateVector, Update, read_update, root_kinds
from crdt.update.ranges import Ranges


@dataclass(frozen=True, slots=True)
class Step:
    """One update of a document's history. `taken`: it is to be taken back.

    `is_copy`: its deletes are all that its sender knew of, and do not tell what its sender deleted.
    """

    update: bytes
    read: Update
    taken: bool = False
    is_copy: bool = False


@dataclass(frozen=True, slots=True)
class Undone:
    """What taking back comes to. `update` fits the document that the steps make; None if nothing is left to do.

    The counts are units of content: UTF-16 code units, list elements, map values, marks of formats.
    """

    update: bytes | None
    goes: Ranges
    """What is visible until `update` is in."""
    comes_back: int
    """What `update` inserts again."""
    stays_deleted: int
    """What others deleted as well."""
    stays_away: int
    """What can not come back: the key has another value by now, or what it was in is gone."""


def undo(base: bytes, steps: Sequence[Step], also: Ranges, client_id: int) -> Undone:
    """Take back the taken steps, and delete `also`, in a document that has `base` and then `steps`.

    `client_id` must be new to the document. What others deleted too stays deleted; as the update itself deletes (again)
    all that it brings back, a later call with the update among the steps finds nothing left to do.
    Raises ReplicaBroken, BadUpdate.
    """
    with guarded():
        scratch = _Scratch(base, steps, client_id)
        scratch.replay()
        return scratch.undo(also)


class _Scratch:
    """A document in which nothing that was deleted is forgotten."""

    def __init__(self, base: bytes, steps: Sequence[Step], client_id: int) -> None:
        self._steps = steps
        self._others = Ranges(part for step in steps if not (step.taken or step.is_copy) for part in step.read.deletes)
        self._known: StateVector = {}
        self._seen: list[bytes] = []
        """What the library says of each change: an update with all that it deleted, overwritten values included."""
        self._taken: list[Update] = []
        read = read_update(base)
        self._doc: Doc[Any] = Doc(client_id=client_id, skip_gc=True)
        self._doc.observe(self._see)
        roots = [self._doc.get(name, type=_TYPES[kind]) for name, kind in _roots(read, steps).items()]
        self._manager = UndoManager(scopes=roots, capture_timeout_millis=_NEVER_MS, timestamp=_now_ms)
        self._manager.include_origin(_TAKEN)
        self._apply(base, read, _OTHERS)

    def _see(self, event: TransactionEvent) -> None:
        self._seen.append(event.update)

    def replay(self) -> None:
        """Apply the steps, the taken ones as late as may be: what does not build on them comes before.

        So what others did at the same time is not undone by what is taken, but overwritten by it, which can be undone.
        """
        waiting: list[Step] = []
        for step in self._steps:
            if step.taken:
                waiting.append(step)
                continue
            if waiting and (step.is_copy or step.read.missing(self._known) is not None):
                self._take(waiting)
                waiting = []
            self._apply(step.update, step.read, _OTHERS)
        self._take(waiting)

    def _take(self, steps: Sequence[Step]) -> None:
        """Apply what is to be undone; what others delete is deleted before, so that undoing does not bring it back."""
        existing = Ranges((client, 0, end) for client, end in self._known.items())
        if steps and (stays := self._others & existing):
            self._transact(stays.as_deletion(), _OTHERS)
        for step in steps:
            self._apply(step.update, step.read, _TAKEN)
            self._taken.extend(map(read_update, self._seen[-1:]))

    def _apply(self, update: bytes, read: Update, origin: str) -> None:
        self._transact(update, origin)
        read.advance(self._known)

    def _transact(self, update: bytes, origin: str) -> None:
        self._seen.clear()
        with self._doc.transaction(origin=origin):
            self._doc.apply_update(update)

    def undo(self, also: Ranges) -> Undone:
        """Undo what was taken, once all is replayed."""
        inserted = Ranges(part for read in self._taken for part in Ranges.inserted_by(read))
        asked = Ranges(part for step in self._steps if step.taken for part in step.read.deletes)
        deleted = Ranges(part for read in self._taken for part in read.deletes) - inserted
        goes = (inserted | also) - Ranges(read_update(self._doc.get_update()).deletes)
        self._seen.clear()
        self._manager.undo()
        comes_back = sum(len(Ranges.inserted_by(read_update(update))) for update in self._seen)
        again = deleted if comes_back else Ranges()
        update = merge_updates(*self._seen, (goes | again).as_deletion())
        return Undone(
            update=update if goes or comes_back else None,
            goes=goes,
            comes_back=comes_back,
            stays_deleted=len(asked - deleted - inserted),
            stays_away=max(0, len(deleted) - comes_back),
        )


_TAKEN: Final = "taken"
_OTHERS: Final = "others"
_NEVER_MS: Final = 1 << 40


def _now_ms() -> int:
    """All that is taken happens at once, so it is undone in one go. (At 0 the library begins anew with each change.)"""
    return 1


_TYPES: Final[Mapping[RootKind, type[Any]]] = {
    RootKind.TEXT: Text,
    RootKind.MAP: Map,
    RootKind.ARRAY: Array,
    RootKind.XML: XmlFragment,
}


def _roots(base: Update, steps: Sequence[Step]) -> dict[str, RootKind]:
    """The roots that the document has or ever had, by the content that they had."""
    structs = sorted(
        (*base.structs, *(struct for step in steps for struct in step.read.structs)),
        key=lambda struct: (struct.client, struct.clock),
    )
    return root_kinds(Update({}, structs, [], []))
