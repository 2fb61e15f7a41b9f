"""Loading documents from SQLite, several in one call of its thread.

The way to the thread and back costs more than reading a document of common size, and the loop waits for the interpreter
each time. So those that are asked for while others are read are read together, next.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections import namedtuple
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from sqlalchemy import Table
from sqlalchemy.dialects import sqlite
from sqlalchemy.ext.asyncio import AsyncEngine

from crdt.ids import DocumentId
from server.core.ports import CorruptDocument
from server.core.records import StoredDocument, unwritten
from server.storage import statements as sql
from server.storage.engines import KeptConnection, in_one_go
from server.storage.reading import read_document
from server.storage.rows import Row
from server.storage.tables import documents, log, snapshots

TOGETHER_MAX = 8
"""Documents that are read in one call: all of them wait for the largest."""

_Found: TypeAlias = StoredDocument | CorruptDocument


@dataclass(frozen=True, slots=True)
class _Group:
    """Documents that are read together. More may come until it is their turn."""

    documents: dict[DocumentId, None]
    reading: asyncio.Task[dict[DocumentId, _Found]]


class Loader:
    """Reads documents on a connection of its own. `close()` it before the engine is disposed of."""

    def __init__(self, engine: AsyncEngine, store_id: bytes, *, is_restored: bool) -> None:
        self._store_id = store_id
        self._is_restored = is_restored
        self._connection = KeptConnection(engine)
        self._gathering: _Group | None = None
        self._under_way: dict[asyncio.Task[dict[DocumentId, _Found]], None] = {}

    async def open(self) -> None:
        await self._connection.open()

    async def load(self, document: DocumentId) -> StoredDocument:
        """With all that was committed before. Raises CorruptDocument, and what the driver raises."""
        reading = self._join(document).reading
        await asyncio.wait([reading])  # whoever gives up does not give up for the others
        found = reading.result()[document]
        if isinstance(found, CorruptDocument):
            raise found
        return found

    async def close(self) -> None:
        if self._under_way:
            await asyncio.wait(self._under_way)
        await self._connection.close()

    def _join(self, document: DocumentId) -> _Group:
        group = self._gathering
        if group is None or len(group.documents) >= TOGETHER_MAX:
            together: dict[DocumentId, None] = {}
            group = self._gathering = _Group(together, asyncio.create_task(self._read(together)))
            self._under_way[group.reading] = None
            group.reading.add_done_callback(self._under_way.pop)
        group.documents[document] = None
        return group

    async def _read(self, together: dict[DocumentId, None]) -> dict[DocumentId, _Found]:
        async with self._connection.turn() as connection:
            if self._gathering is not None and self._gathering.documents is together:
                self._gathering = None
            return await in_one_go(connection.driver, _read_all, tuple(together), self._store_id, self._is_restored)


def _read_all(
    connection: sqlite3.Connection, together: Sequence[DocumentId], store_id: bytes, is_restored: bool
) -> dict[DocumentId, _Found]:
    """In one transaction, which sees the same commits throughout."""
    connection.execute("BEGIN")
    try:
        return {document: _read_one(connection, document, store_id, is_restored) for document in together}
    finally:
        connection.rollback()


def _read_one(connection: sqlite3.Connection, document: DocumentId, store_id: bytes, is_restored: bool) -> _Found:
    head_rows = _documents(connection.execute(_DOCUMENT, document))
    if not head_rows:
        return unwritten(store_id, document, restored=is_restored)
    (head_row,) = head_rows
    snapshot_rows = _snapshots(connection.execute(_SNAPSHOTS, (head_row.id,)))
    log_rows = _log(connection.execute(_LOG, (head_row.id,)))
    try:
        return read_document(document, head_row, snapshot_rows, log_rows, is_restored=is_restored)
    except CorruptDocument as exc:
        return exc


class _Rows:
    """Makes of a table's tuples what the rest of the storage takes for rows."""

    def __init__(self, table: Table) -> None:
        make: Any = namedtuple
        self._row = make(table.name, table.c.keys())

    def __call__(self, found: Iterable[tuple[Any, ...]]) -> list[Row]:
        return list(map(self._row._make, found))


_documents, _snapshots, _log = _Rows(documents), _Rows(snapshots), _Rows(log)


def _text(statement: sql.AnySelect) -> str:
    """As the driver takes it. A statement's parameters are in the order in which it names them."""
    return str(statement.compile(dialect=sqlite.dialect()))


_DOCUMENT, _SNAPSHOTS, _LOG = _text(sql.DOCUMENT), _text(sql.SNAPSHOTS), _text(sql.LOG)
