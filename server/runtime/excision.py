"""A stolen device: who wrote what, and what it takes to take a device's edits out again.

Functions of what is stored, which a worker process can import. What they give is made of what JSON can hold, but for
the update. They raise ReplicaBroken and BadUpdate.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from crdt.excise import Step, Undone, undo
from crdt.ids import DeviceId
from crdt.replica import Replica
from crdt.update import EMPTY_UPDATE, DeleteRange, read_update
from crdt.update.model import TYPES
from crdt.update.ranges import Ranges
from crdt.values import Values, values_of
from server.core.records import Authorship, History, LogEntry
from server.runtime.changes import changes
from server.storage.authors import authorship, folded

Report: TypeAlias = dict[str, Any]


# --- who wrote what


def attribution(history: History, device: DeviceId | None, since_ms: int, *, text: bool) -> Report:
    """Who wrote what since then: of one device, or of all. With `text`, what of it is still to be seen."""
    rows = folded(
        [
            *(row for row in history.authors if row.last_ms >= since_ms),
            *(authorship(entry) for entry in history.entries if entry.time_ms >= since_ms),
        ]
    )
    rows = [row for row in rows if device in (None, row.device)]
    report: Report = {"rows": list(map(_row_values, rows)), "unknown_seqs": _unknown_seqs(history)}
    if text:
        report["visible"] = _visible(history, rows)
    return report


def _visible(history: History, rows: Sequence[Authorship]) -> list[Report]:
    """For each device what these rows of it inserted and is there still, as the values of a document without the rest.

    What a healing push brought may be anybody's.
    """
    state = _state_of(history)
    claims = _claims(history)
    devices = dict.fromkeys(row.device for row in rows)
    parts = {
        device: Ranges(part for row in rows if row.device == device and not row.heal for part in row.inserted)
        for device in devices
    }
    return [
        {"device": str(device), "values": visible_of(state, parts[device] & claims.get(device, Ranges()))}
        for device in sorted(devices)
    ]


def visible_of(state: bytes, keep: Ranges) -> Values:
    """The values of a document in which nothing but `keep` is left, and what it is in."""
    read = read_update(state)
    others = Ranges(
        (struct.client, struct.clock, struct.clock + struct.length)
        for struct in read.structs
        if struct.content not in TYPES
    )
    alone = Replica.load([state, (others - keep).as_deletion()]).state()
    return {name: kept for name, value in values_of(alone).items() if (kept := _pruned(value)) is not None}


def _pruned(value: Any) -> Any:
    """Without what is empty; None if nothing else is there."""
    match value:
        case dict():
            kept = {
                key: item for key, item in ((key, _pruned(item)) for key, item in value.items()) if item is not None
            }
            return kept or None
        case list():
            return [item for item in map(_pruned, value) if item is not None] or None
        case "":
            return None
        case _:
            return value


def _claims(history: History) -> dict[DeviceId, Ranges]:
    """Which content each device was the first to bring."""
    claims: dict[DeviceId, Ranges] = {}
    claimed = Ranges()
    for row in folded([*history.authors, *map(authorship, history.entries)]):
        claims[row.device] = claims.get(row.device, Ranges()) | (row.inserted - claimed)
        claimed |= row.inserted
    return claims


def _unknown_seqs(history: History) -> int:
    """Of entries up to this seq nothing tells who wrote them; 0 if there are none."""
    first_seqs = [row.first_seq for row in history.authors] + [entry.seq for entry in history.entries[:1]]
    return min(first_seqs, default=1) - 1


def _row_values(row: Authorship) -> Report:
    return {
        "device": str(row.device),
        "first_ms": row.first_ms,
        "last_ms": row.last_ms,
        "first_seq": row.first_seq,
        "last_seq": row.last_seq,
        "ops": row.last_op - row.first_op + 1,
        "inserted": len(row.inserted),
        "deleted": len(row.deleted),
        "heal": row.heal,
        "complete": row.is_whole,
    }


# --- taking it out


@dataclass(frozen=True, slots=True)
class Culprit:
    """The edits that are to be taken out: those of a device from one time up to another, which is not part of it."""

    device: DeviceId
    since_ms: int
    until_ms: int

    def wrote(self, entry: LogEntry) -> bool:
        """True if the entry is to be taken out. What a device gave back after a loss, it may not have written."""
        return entry.device.is_or_acts_for(self.device) and self._is_in(entry.time_ms, entry.time_ms) and not entry.heal

    def wrote_all(self, row: Authorship) -> bool:
        return row.device == self.device and self._is_in(row.first_ms, row.last_ms) and not row.heal

    def may_have_written(self, row: Authorship) -> bool:
        """True if some of the row, but nobody can tell what, may have to be taken out."""
        overlaps = row.first_ms < self.until_ms and row.last_ms >= self.since_ms
        return row.device == self.device and overlaps and not (self.wrote_all(row) and row.is_whole)

    def _is_in(self, first_ms: int, last_ms: int) -> bool:
        return self.since_ms <= first_ms and last_ms < self.until_ms


def excision(history: History, culprit: Culprit, client_id: int) -> Report:
    """What taking the culprit's edits out comes to: `update` does it, nil if there is nothing to do.

    `client_id` is where to begin looking for one that the document does not know.
    """
    folded_away = [row for row in history.authors if culprit.wrote_all(row)]
    compacted = Ranges(part for row in folded_away for part in row.inserted)
    compacted &= _claims(history).get(culprit.device, Ranges())
    steps = _steps(history, culprit)
    base = history.base.state if history.base else EMPTY_UPDATE
    undone = undo(base, steps, compacted, _fresh(client_id, base, steps))
    taken = [authorship(entry) for entry in history.entries if culprit.wrote(entry)] + folded_away
    return {
        "update": undone.update,
        "entries": sum(map(culprit.wrote, history.entries)),
        "ops": sum(row.last_op - row.first_op + 1 for row in taken),
        "inserted": sum(len(row.inserted) for row in taken),
        "deleted": sum(len(row.deleted) for row in taken),
        "goes": len(undone.goes),
        "comes_back": undone.comes_back,
        "stays_deleted": undone.stays_deleted,
        "stays_away": undone.stays_away,
        "lost": _lost(history, folded_away, compacted),
        "unclear": [_row_values(row) for row in _unclear(history, culprit)],
        "unknown_seqs": _unknown_seqs(history),
        **_effect(history, undone),
    }


def _steps(history: History, culprit: Culprit) -> list[Step]:
    """The log, and which of its updates are to be taken back.

    A device that sends what it has and we lack (a diff) sends all deletes that it knows of with it. Such an update is
    told by having all deletes that there were when the culprit began.
    """
    steps: list[Step] = []
    earlier: list[DeleteRange] = read_update(history.base.state).deletes if history.base else []
    before: Ranges | None = None
    for entry in history.entries:
        taken = culprit.wrote(entry)
        if taken and before is None:
            before = Ranges(earlier)
        for update in entry.updates:
            read = read_update(update)
            is_diff = before is not None and bool(before) and not before - Ranges.deleted_by(read)
            steps.append(Step(update, read, taken, is_copy=not taken and (entry.heal or is_diff)))
            earlier.extend(read.deletes)
    return steps


def _fresh(client_id: int, base: bytes, steps: Iterable[Step]) -> int:
    used = dict.fromkeys(read_update(base).sections)
    for step in steps:
        used.update(dict.fromkeys(step.read.sections))
    while client_id in used:
        client_id += 1
    return client_id


def _lost(history: History, folded_away: Iterable[Authorship], inserted: Ranges) -> list[Report]:
    """What the culprit deleted and compaction has forgotten: its ranges, by when that was.

    What an operator deleted, too, is what was brought back before it was compacted.
    """
    rows = [*history.authors, *map(authorship, history.entries)]
    known = inserted | Ranges(part for row in rows if not row.device.user for part in row.deleted)
    return [
        _row_values(row) | {"lost": len(gone), "ranges": [list(part) for part in gone]}
        for row in folded_away
        if (gone := row.deleted - known)
    ]


def _unclear(history: History, culprit: Culprit) -> list[Authorship]:
    entries = folded(authorship(entry) for entry in history.entries if not culprit.wrote(entry))
    healed = [row for row in entries if row.heal and culprit.may_have_written(row)]
    return [row for row in history.authors if culprit.may_have_written(row)] + healed


def _effect(history: History, undone: Undone) -> Report:
    """The document before and after, and what of others' goes because it is within what the culprit made."""
    if undone.update is None:
        return {"changes": [], "goes_too": []}
    replica = Replica.load(_updates_of(history))
    values, deleted = replica.values(), Ranges.deleted_by(read_update(replica.state()))
    replica.apply([undone.update])
    others = Ranges.deleted_by(read_update(replica.state())) - deleted - undone.goes
    return {
        "changes": changes(values, replica.values()),
        "goes_too": [
            {"device": str(device), "units": len(part)}
            for device, ranges in sorted(_claims(history).items())
            if (part := ranges & others)
        ],
    }


def _state_of(history: History) -> bytes:
    return Replica.load(_updates_of(history)).state()


def _updates_of(history: History) -> list[bytes]:
    updates = [history.base.state] if history.base else []
    return updates + [update for entry in history.entries for update in entry.updates]
