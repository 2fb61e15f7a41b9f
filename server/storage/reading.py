"""What the rows of a document amount to: all of it, or CorruptDocument; never a part that looks whole."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import pairwise

from crdt.ids import DocumentId
from server.core.ports import CorruptDocument
from server.core.records import History, LogEntry, Snapshot, StoredDocument
from server.storage.authors import read_authors
from server.storage.rows import Row, check_document, read_entry, read_snapshot


def read_document(
    document: DocumentId,
    head_row: Row,
    snapshot_rows: Sequence[Row],
    log_rows: Sequence[Row],
    *,
    is_restored: bool = False,
) -> StoredDocument:
    """Put together what is stored: snapshots newest first, the log oldest first. Raises CorruptDocument.

    A damaged snapshot is passed over for the one before it, or for none, where the log still reaches back to there.
    """
    check_document(document, head_row)
    entries = tuple(read_entry(document, row) for row in log_rows)
    newest = newest_sound(document, snapshot_rows)
    stored = StoredDocument(
        head_row.epoch, head_row.epoch_seq, newest, entries, head_row.quarantine_reason, is_restored
    )
    _check_whole(document, stored)
    return stored


def read_history(
    document: DocumentId,
    head_row: Row,
    snapshot_rows: Sequence[Row],
    log_rows: Sequence[Row],
    author_rows: Sequence[Row],
) -> History:
    """As `read_document`, but from as far back as there is anything. Raises CorruptDocument."""
    entries = read_document(document, head_row, snapshot_rows, log_rows).entries
    base = base_of(list(sound(document, snapshot_rows)), entries)
    return History(tuple(read_authors(document, author_rows)), base, entries)


def newest_sound(document: DocumentId, snapshot_rows: Sequence[Row]) -> Snapshot | None:
    """The first of these snapshots whose checksum is right."""
    return next(sound(document, snapshot_rows), None)


def sound(document: DocumentId, snapshot_rows: Iterable[Row]) -> Iterator[Snapshot]:
    """Those of these snapshots whose checksum is right."""
    for row in snapshot_rows:
        with suppress(CorruptDocument):
            yield read_snapshot(document, row)


def base_of(snapshots: Sequence[Snapshot], entries: Sequence[LogEntry]) -> Snapshot | None:
    """The oldest of these snapshots, newest first, that the log joins on to; None if the log needs none."""
    first_seq = entries[0].seq if entries else 1
    return next((found for found in reversed(snapshots) if found.seq >= first_seq - 1), None) if first_seq > 1 else None


def check_gapless(document: DocumentId, entries: Sequence[LogEntry]) -> None:
    """Raises CorruptDocument where an entry does not follow the one before it."""
    for before, after in pairwise(entries):
        if after.seq != before.seq + 1:
            raise CorruptDocument(f"{document}: log entries {before.seq + 1} to {after.seq - 1} are missing")


def _check_whole(document: DocumentId, stored: StoredDocument) -> None:
    """The log has no gap, joins on to the snapshot, and goes as far as snapshot and epoch say that it went.

    Compaction never takes a document's last entry out of the log, so every written document has one there.
    """
    check_gapless(document, stored.entries)
    covered = stored.snapshot.seq if stored.snapshot else 0
    first_seq = stored.entries[0].seq if stored.entries else 1
    last_seq = stored.entries[-1].seq if stored.entries else 0
    if first_seq > covered + 1:
        raise CorruptDocument(f"{document}: entries {covered + 1} to {first_seq - 1} are in no log and no snapshot")
    if last_seq < max(covered, stored.epoch_seq):
        raise CorruptDocument(f"{document}: the log ends at {last_seq}, before {max(covered, stored.epoch_seq)}")
