"""The tables of a device's store, and whether a file has them.

All tables have one shape, so that writing, reading, and saving what is left of them are each written once. A document
goes by the name that the seal gives it; a record is sealed for its table, document and position.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from enum import Enum, StrEnum, auto
from pathlib import Path
from typing import Any

from client_sim.core.ports import StoreDamaged, StoreLocked, StoreRefused
from client_sim.store.sealing import Seal, is_recorded, recorded

APPLICATION_ID = 0x53594E43
SCHEMA_VERSION = 2


class Table(StrEnum):
    IDENTITY = "identity"
    DOCUMENTS = "documents"
    """Where each stands with its server."""
    STATES = "states"
    UPDATES = "updates"
    CHUNKS = "chunks"
    """The beginning of an answer that is on its way, by offset."""
    OUTBOX = "outbox"
    ASIDE = "aside"
    KEEPINGS = "keepings"


_TABLE = """
CREATE TABLE {name} (
  id INTEGER PRIMARY KEY, document BLOB NOT NULL, position INTEGER NOT NULL, record BLOB NOT NULL,
  UNIQUE (document, position)
)"""
_SCHEMA = (
    "CREATE TABLE store (version INTEGER NOT NULL, key BLOB NOT NULL)",
    *(_TABLE.format(name=table.value) for table in Table),
    f"PRAGMA application_id = {APPLICATION_ID}",
    f"PRAGMA user_version = {SCHEMA_VERSION}",
)
"""`store` has one row, which in every version to come begins with the version, as `user_version` has it: where the two
differ, one of them is damaged."""


class Found(Enum):
    """What a file is."""

    NEW = auto()
    VERSION_1 = auto()
    PRESENT = auto()


def look(connection: sqlite3.Connection) -> Found:
    """Changes nothing. Raises StoreRefused, StoreDamaged and sqlite3.Error."""
    tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
    application, version = scalar(connection, "PRAGMA application_id"), scalar(connection, "PRAGMA user_version")
    if not tables and not application:
        return Found.NEW
    if application != APPLICATION_ID and not {"documents", "outbox"} <= set(tables):
        raise StoreRefused("this is another program's database, not a device's store")
    recorded_version = scalar(connection, "SELECT version FROM store") if "store" in tables else 1
    if application != APPLICATION_ID or version != recorded_version:
        raise StoreDamaged("its version can not be read")
    if version > SCHEMA_VERSION:
        raise StoreRefused(f"a store of version {version}: this program knows versions up to {SCHEMA_VERSION}")
    return Found.VERSION_1 if version == 1 else Found.PRESENT


def create(connection: sqlite3.Connection, seal: Seal) -> None:
    for statement in _SCHEMA:
        connection.execute(statement)
    connection.execute("INSERT INTO store VALUES (?, ?)", (SCHEMA_VERSION, recorded(seal.key_id)))


def check_key(connection: sqlite3.Connection, seal: Seal) -> None:
    """Raises StoreLocked if the store is of another key, StoreDamaged if nobody can tell, and sqlite3.Error."""
    record = scalar(connection, "SELECT key FROM store")
    is_ours = is_recorded(record, seal.key_id) if isinstance(record, bytes) else None
    if is_ours is None:
        raise StoreDamaged("the name of its key can not be read")
    if not is_ours:
        raise StoreLocked(
            "the store is not encrypted with this key, or is encrypted and none was given, or the reverse"
        )


def scalar(connection: sqlite3.Connection, query: str) -> Any:
    row = connection.execute(query).fetchone()
    return row[0] if row else None


class Rows:
    """The tables as sealed records by document and position. Errors are SQLite's, and StoreDamaged."""

    def __init__(self, connection: sqlite3.Connection, seal: Seal) -> None:
        self._connection = connection
        self._seal = seal

    def all(self, table: Table) -> Iterator[tuple[int, bytes]]:
        for row in self._query(f"SELECT document, position, record FROM {table}"):
            _, position, record = opened(self._seal, table, row)
            yield position, record

    def check(self, table: Table) -> None:
        """Read it all."""
        for _ in self.all(table):
            pass

    def of(self, table: Table, document: str) -> list[tuple[int, bytes]]:
        name = self._seal.name(document)
        query = f"SELECT document, position, record FROM {table} WHERE document = ? ORDER BY position"
        return [opened(self._seal, table, row)[1:] for row in self._query(query, name)]

    def one(self, table: Table, document: str = "") -> bytes | None:
        """The record at position 0, of tables that have one for each document."""
        return next((record for _, record in self.of(table, document)), None)

    def put(self, table: Table, document: str, records: Iterable[tuple[int, bytes]]) -> None:
        """Add records, or replace those at the same positions."""
        name = self._seal.name(document)
        self._connection.executemany(
            f"INSERT INTO {table} (document, position, record) VALUES (?, ?, ?)"
            " ON CONFLICT DO UPDATE SET record = excluded.record",
            [(name, at, self._seal.close(place(table, name, at), record)) for at, record in records],
        )

    def append(self, table: Table, document: str, records: Iterable[bytes]) -> None:
        last = scalar_of(
            self._query(f"SELECT max(position) FROM {table} WHERE document = ?", self._seal.name(document))
        )
        self.put(table, document, enumerate(records, (last or 0) + 1))

    def drop(self, table: Table, document: str, first: int = 0, last: int = (1 << 63) - 1) -> None:
        self._connection.execute(
            f"DELETE FROM {table} WHERE document = ? AND position BETWEEN ? AND ?",
            (self._seal.name(document), first, last),
        )

    def bytes_by_name(self, table: Table) -> dict[bytes, int]:
        """How long the records of each document are, by its name in the file."""
        return dict(self._query(f"SELECT document, sum(length(record)) FROM {table} GROUP BY document"))

    def _query(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        return self._connection.execute(query, values).fetchall()


def place(table: Table, name: bytes, position: int) -> bytes:
    """Where a record belongs: it is sealed for that place alone."""
    return b"%s\0%s%s" % (table.encode(), name, position.to_bytes(8, "big", signed=True))


def opened(seal: Seal, table: Table, row: Sequence[object]) -> tuple[bytes, int, bytes]:
    """A row's document, position and record. Raises StoreDamaged: a damaged row may have values of any type."""
    match row:
        case (bytes(name), int(position), bytes(sealed)):
            return name, position, seal.open(place(table, name, position), sealed)
        case _:
            raise StoreDamaged("a row has values of other types than what was written there")


def connect(path: Path | str) -> sqlite3.Connection:
    """A connection that waits for nobody, and reads damaged texts as well as it can. Raises sqlite3.Error."""
    connection = sqlite3.connect(path, isolation_level=None, timeout=0.0)
    connection.text_factory = lambda text: text.decode(errors="replace")
    return connection


def scalar_of(rows: list[tuple[Any, ...]]) -> Any:
    return rows[0][0] if rows else None
