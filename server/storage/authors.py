"""Who wrote what: what is kept of log entries that compaction takes out.

A row tells of one device within at most an hour: which clocks its entries inserted and deleted. Rows of several devices
interleave. A few bytes an entry, mostly less: a device that types on adds nothing but a later end to its row.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

import msgpack
from sqlalchemy import Delete, Insert, bindparam, delete, select
from sqlalchemy.ext.asyncio import AsyncConnection

from crdt.errors import BadUpdate
from crdt.ids import DeviceId, DocumentId
from crdt.update import read_update
from crdt.update.ranges import Ranges
from server.core.ports import CorruptDocument, StorageError
from server.core.records import Authorship, LogEntry
from server.storage.rows import Row, Values, check_row, checksum, read_entry
from server.storage.statements import TRIM_LOG, AnySelect
from server.storage.tables import authors, log

SPAN_MS: Final = 3_600_000
"""From the first to the last entry of a row."""

UNKNOWN: Final = DeviceId("", "unknown")
"""Whoever wrote an entry that can not be read. No device is called so: a user's name is never empty."""


def authorship(entry: LogEntry) -> Authorship:
    """What one entry did; of an ephemeral device, what the device did that it acted for."""
    inserted: list[tuple[int, int, int]] = []
    deleted: list[tuple[int, int, int]] = []
    is_whole = True
    for update in entry.updates:
        try:
            read = read_update(update)
        except BadUpdate:
            is_whole = False
            continue
        inserted.extend((client, start, end) for client, (start, end) in read.sections.items())
        deleted.extend(read.deletes)
    return Authorship(
        first_seq=entry.seq,
        last_seq=entry.seq,
        device=entry.device.registered,
        first_op=entry.first_op,
        last_op=entry.last_op,
        inserted=Ranges(inserted),
        deleted=Ranges(deleted),
        first_ms=entry.time_ms,
        last_ms=entry.time_ms,
        heal=entry.heal,
        is_whole=is_whole,
    )


def folded(rows: Iterable[Authorship]) -> list[Authorship]:
    """As few rows as tell the same, in the order of their first seqs."""
    groups: list[_Group] = []
    latest: dict[_Key, _Group] = {}
    for row in sorted(rows, key=lambda row: row.first_seq):
        key = (row.device, row.heal, row.is_whole)
        group = latest.get(key)
        if group is None or not group.takes(row):
            latest[key] = _Group(row)
            groups.append(latest[key])
    return [group.row() for group in groups]


_Key: TypeAlias = tuple[DeviceId, bool, bool]


class _Group:
    """Rows that are to be one."""

    __slots__ = ("_first_ms", "_last_ms", "_next_op", "_rows")

    def __init__(self, row: Authorship) -> None:
        self._rows = [row]
        self._first_ms, self._last_ms = row.first_ms, row.last_ms
        self._next_op = row.last_op + 1

    def takes(self, row: Authorship) -> bool:
        """Take `row` in if it continues the device's ops, and all of it is within an hour."""
        first_ms, last_ms = min(self._first_ms, row.first_ms), max(self._last_ms, row.last_ms)
        if row.first_op != self._next_op or last_ms - first_ms > SPAN_MS:
            return False
        self._rows.append(row)
        self._first_ms, self._last_ms, self._next_op = first_ms, last_ms, row.last_op + 1
        return True

    def row(self) -> Authorship:
        return replace(
            self._rows[0],
            last_seq=self._rows[-1].last_seq,
            last_op=self._next_op - 1,
            inserted=Ranges(part for row in self._rows for part in row.inserted),
            deleted=Ranges(part for row in self._rows for part in row.deleted),
            first_ms=self._first_ms,
            last_ms=self._last_ms,
        )


@dataclass(frozen=True, slots=True)
class Trimmed:
    """What the log up to `seq` comes to, which is about to go."""

    seq: int = 0
    entries: int = 0
    rows: tuple[Authorship, ...] = ()


def summarise(document: DocumentId, seq: int, log_rows: Sequence[Row]) -> Trimmed:
    """Of the rows of the log up to `seq`; a damaged one tells nothing but that it was there."""
    return Trimmed(seq, len(log_rows), tuple(folded(_of_row(document, row) for row in log_rows)))


def _of_row(document: DocumentId, row: Row) -> Authorship:
    try:
        return authorship(read_entry(document, row))
    except CorruptDocument:
        nothing = Ranges()
        times = (row.time_ms, row.time_ms) if isinstance(row.time_ms, int) else (0, 0)
        return Authorship(row.seq, row.seq, UNKNOWN, 0, 0, nothing, nothing, *times, is_whole=False)


async def trim_log(connection: AsyncConnection, document: DocumentId, document_id: int, trimmed: Trimmed) -> None:
    """Within the caller's transaction: take out the log up to `trimmed.seq`, and keep who wrote it.

    Raises StorageError if that is not what `trimmed` was made of.
    """
    by_id = {"id": document_id}
    gone = await connection.execute(TRIM_LOG, by_id | {"covered_seq": trimmed.seq})
    if gone.rowcount != trimmed.entries:
        raise StorageError(f"{document}: the log was trimmed by another process meanwhile")
    if not trimmed.rows:
        return
    since_ms = min(row.first_ms for row in trimmed.rows) - SPAN_MS
    recent = _sound(document, (await connection.execute(RECENT_AUTHORS, by_id | {"since_ms": since_ms})).all())
    if recent:
        await connection.execute(DROP_AUTHOR, [by_id | {"at_seq": row.first_seq} for row in recent])
    rows = [{"document_id": document_id, **author_values(document, row)} for row in folded((*recent, *trimmed.rows))]
    await connection.execute(PUT_AUTHOR, rows)


# --- rows

LOG_UP_TO: AnySelect = (
    select(log)
    .where(log.c.document_id == bindparam("id"), log.c.seq <= bindparam("covered_seq"))
    .order_by(log.c.seq)
)  # fmt: skip
AUTHORS: AnySelect = (
    select(authors).where(authors.c.document_id == bindparam("id")).order_by(authors.c.first_seq)
)  # fmt: skip
RECENT_AUTHORS: AnySelect = AUTHORS.where(authors.c.last_ms >= bindparam("since_ms"))
DROP_AUTHOR: Delete = delete(authors).where(
    authors.c.document_id == bindparam("id"), authors.c.first_seq == bindparam("at_seq")
)
PUT_AUTHOR: Insert = authors.insert()


def author_values(document: DocumentId, row: Authorship) -> Values:
    """A row of `authors`, less its document_id."""
    values = {
        "first_seq": row.first_seq,
        "last_seq": row.last_seq,
        "user": row.device.user,
        "device": row.device.name,
        "first_op": row.first_op,
        "last_op": row.last_op,
        "ranges": msgpack.packb([row.heal, row.is_whole, row.inserted.pack(), row.deleted.pack()]),
        "first_ms": row.first_ms,
        "last_ms": row.last_ms,
    }
    return values | {"checksum": checksum(b"authors", document, *values.values())}


def read_authors(document: DocumentId, rows: Iterable[Row]) -> list[Authorship]:
    """Raises CorruptDocument."""
    return [_read(document, row) for row in rows]


def _sound(document: DocumentId, rows: Iterable[Row]) -> list[Authorship]:
    """Those that can be read: a damaged row must not stop compaction."""
    found = []
    for row in rows:
        with suppress(CorruptDocument):
            found.append(_read(document, row))
    return found


def _read(document: DocumentId, row: Row) -> Authorship:
    fields = (row.first_seq, row.last_seq, row.user, row.device, row.first_op, row.last_op)
    times = (row.first_ms, row.last_ms)
    check_row(row, f"who wrote entry {row.first_seq}", b"authors", document, *fields, row.ranges, *times)
    heal, is_whole, inserted, deleted = msgpack.unpackb(row.ranges)
    return Authorship(
        first_seq=row.first_seq,
        last_seq=row.last_seq,
        device=DeviceId(row.user, row.device),
        first_op=row.first_op,
        last_op=row.last_op,
        inserted=Ranges.unpack(inserted),
        deleted=Ranges.unpack(deleted),
        first_ms=row.first_ms,
        last_ms=row.last_ms,
        heal=heal,
        is_whole=is_whole,
    )
