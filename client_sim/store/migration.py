"""Stores of older versions become stores of this one, in place and in one transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from typing import Any

from client_sim.core.ports import Identity, OutboxEntry, Progress
from client_sim.store import records
from client_sim.store.schema import Rows, Table, create
from client_sim.store.sealing import Seal
from crdt.chain import OpState

V1_COLUMNS: Mapping[str, str] = {
    "identity": "device, user",
    "documents": "document, epoch, seq, acked_op, acked_chain, held, state",
    "updates": "document, position, bytes",
    "outbox": "document, position, bytes, op, chain, heal",
    "aside": "document, position, bytes",
}
"""Version 1 had a table of its own shape for each thing, and neither seals nor keys."""


def migrate(connection: sqlite3.Connection, seal: Seal) -> None:
    """From version 1. Raises sqlite3.Error."""
    old = {
        table: connection.execute(f"SELECT {columns} FROM {table}").fetchall() for table, columns in V1_COLUMNS.items()
    }
    for table in old:
        connection.execute(f"DROP TABLE {table}")
    create(connection, seal)
    rows = Rows(connection, seal)
    for table, values in old.items():
        for row in values:
            for at, document, position, record in translated(table, row):
                rows.put(at, document, [(position, record)])


def translated(table: str, row: tuple[Any, ...]) -> Iterator[tuple[Table, str, int, bytes]]:
    """The records that a row of version 1 is now: their table, document, position and bytes."""
    match table:
        case "identity":
            yield Table.IDENTITY, "", 0, records.of_identity(Identity(*row))
        case "documents":
            document, epoch, seq, op, chain, held, state = row
            progress = Progress(epoch, seq, OpState(op, chain), held)
            yield Table.DOCUMENTS, document, 0, records.of_progress(document, progress)
            if state is not None:
                yield Table.STATES, document, 0, state
        case "updates":
            document, position, update = row
            yield Table.UPDATES, document, position, update
        case "outbox":
            document, position, update, op, chain, heal = row
            entry = OutboxEntry(position, update, None if op is None else OpState(op, chain), bool(heal))
            yield Table.OUTBOX, document, position, records.of_entry(document, entry)
        case "aside":
            document, position, update = row
            yield Table.ASIDE, document, position, records.of_aside(document, update)
        case _:
            raise AssertionError(table)
