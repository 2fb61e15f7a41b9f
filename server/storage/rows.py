"""Rows and the values they hold. Every row carries a checksum over all that it says and whose it is.

A checksum has the document's name in, not its number: a row that turns up under another document is found out.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from typing import Any, TypeAlias

import msgpack

from crdt.chain import OpState
from crdt.ids import DeviceId, DocumentId
from server.core.ports import CorruptDocument
from server.core.records import LogEntry, Snapshot

CHECKSUM_BYTES = 16

Row: TypeAlias = Any
"""A row of a result: its columns are attributes."""

Values: TypeAlias = dict[str, Any]
"""Parameters of a statement, by column name."""


def document_values(document: DocumentId, epoch: bytes, epoch_seq: int, created_ms: int) -> Values:
    """A row of `documents`, less its id."""
    return {
        "owner": document.owner,
        "name": document.name,
        "epoch": epoch,
        "epoch_seq": epoch_seq,
        "created_ms": created_ms,
        "checksum": checksum(b"document", document, epoch, epoch_seq, created_ms),
    }


def check_document(document: DocumentId, row: Row) -> None:
    """Raises CorruptDocument."""
    check_row(row, "its head row", b"document", document, row.epoch, row.epoch_seq, row.created_ms)


def entry_values(document: DocumentId, entry: LogEntry) -> Values:
    """A row of `log`, less its document_id."""
    return dict(zip(_ENTRY_COLUMNS, entry_row(document, entry), strict=True))


def entry_row(document: DocumentId, entry: LogEntry) -> tuple[Any, ...]:
    """The same, in the order of the table's columns."""
    user, device = entry.device
    updates = pack_updates(entry.updates)
    fields = (entry.seq, user, device, entry.first_op, entry.last_op, entry.chain, updates, entry.time_ms)
    return (*fields, checksum(b"log", document, *fields, *_later(entry.heal)), entry.heal)


_ENTRY_COLUMNS = ("seq", "user", "device", "first_op", "last_op", "chain", "updates", "time_ms", "checksum", "heal")


def read_entry(document: DocumentId, row: Row) -> LogEntry:
    """Raises CorruptDocument."""
    fields = (row.seq, row.user, row.device, row.first_op, row.last_op, row.chain, row.updates, row.time_ms)
    heal = bool(row.heal)  # a number where SQLite's own driver has read it
    check_row(row, f"log entry {row.seq}", b"log", document, *fields, *_later(heal))
    return LogEntry(
        seq=row.seq,
        device=DeviceId(row.user, row.device),
        first_op=row.first_op,
        last_op=row.last_op,
        chain=row.chain,
        updates=tuple(msgpack.unpackb(row.updates)),
        time_ms=row.time_ms,
        heal=heal,
    )


def snapshot_values(document: DocumentId, snapshot: Snapshot) -> Values:
    """A row of `snapshots`, less its document_id."""
    ops = msgpack.packb([[*device, *state] for device, state in sorted(snapshot.ops.items())])
    fields = (snapshot.seq, snapshot.epoch, snapshot.state, ops, snapshot.time_ms)
    return {
        "seq": snapshot.seq,
        "epoch": snapshot.epoch,
        "state": snapshot.state,
        "ops": ops,
        "time_ms": snapshot.time_ms,
        "checksum": checksum(b"snapshot", document, *fields, *_later(snapshot.check)),
        "check": snapshot.check,
    }


def read_snapshot(document: DocumentId, row: Row) -> Snapshot:
    """Raises CorruptDocument."""
    fields = (row.seq, row.epoch, row.state, row.ops, row.time_ms)
    check_row(row, f"snapshot {row.seq}", b"snapshot", document, *fields, *_later(row.check))
    ops = {DeviceId(user, device): OpState(op, chain) for user, device, op, chain in msgpack.unpackb(row.ops)}
    return Snapshot(row.seq, row.epoch, row.state, ops, row.time_ms, row.check)


def _later(value: Any) -> tuple[Any, ...]:
    """A column that older stores did not have: without a value its row has the checksum that it had then."""
    return (value,) if value else ()


def pack_updates(updates: Iterable[bytes]) -> bytes:
    """A list of updates as the log holds it."""
    packed: bytes = msgpack.packb(list(updates))
    return packed


def checksum(table: bytes, document: DocumentId, *fields: Any) -> bytes:
    """Of a row of `table` that belongs to a document.

    `surrogateescape`: a damaged text is read as it is (`engines`), and has to be told from the right one.
    """
    content = msgpack.packb([*document, *fields], unicode_errors="surrogateescape")
    return blake2b(content, digest_size=CHECKSUM_BYTES, person=table).digest()


def check_row(row: Row, what: str, table: bytes, document: DocumentId, *fields: Any) -> None:
    """Raises CorruptDocument."""
    if checksum(table, document, *fields) != row.checksum:
        raise CorruptDocument(f"{document}: {what} is damaged")
