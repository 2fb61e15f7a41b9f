"""The device's store in one SQLite file: every transaction is synced before it ends."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from client_sim.core.ports import Identity, OutboxEntry, Progress, StoreDamaged, StoredDocument, StoreError
from crdt.chain import OPS_START, OpState

APPLICATION_ID = 0x53594E43
SCHEMA_VERSION = 1

_SCHEMA = f"""
CREATE TABLE identity (device TEXT NOT NULL, user TEXT);
CREATE TABLE documents (
  document TEXT PRIMARY KEY,
  epoch BLOB, seq INTEGER,
  acked_op INTEGER NOT NULL DEFAULT 0, acked_chain BLOB NOT NULL DEFAULT (zeroblob(8)),
  held TEXT,
  state BLOB
) WITHOUT ROWID;
CREATE TABLE updates (position INTEGER PRIMARY KEY, document TEXT NOT NULL, bytes BLOB NOT NULL);
CREATE INDEX updates_of ON updates (document, position);
CREATE TABLE outbox (
  document TEXT, position INTEGER, bytes BLOB NOT NULL, op INTEGER, chain BLOB, heal INTEGER NOT NULL,
  PRIMARY KEY (document, position)
) WITHOUT ROWID;
CREATE TABLE aside (position INTEGER PRIMARY KEY, document TEXT NOT NULL, bytes BLOB NOT NULL);
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {SCHEMA_VERSION};
"""

_NOW_UNREADABLE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


class SqliteStore:
    """One device's store. The file is this process's alone while it is open; a second opener gets StoreError."""

    def __init__(self, path: Path) -> None:
        """Open `path`, or begin it. Raises StoreError and StoreDamaged."""
        self._path = path
        self._wiping = False
        with self._reported():
            self._connection = sqlite3.connect(path, isolation_level=None, timeout=0.0)
        try:
            with self._reported():
                self._prepare()
        except BaseException:
            self._connection.close()
            raise

    def _prepare(self) -> None:
        self._connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.execute("BEGIN IMMEDIATE")
        version, application = self._scalar("PRAGMA user_version"), self._scalar("PRAGMA application_id")
        if not self._scalar("SELECT count(*) FROM sqlite_schema") and not application:
            for statement in _SCHEMA.split(";"):
                self._connection.execute(statement)
        elif (application, version) != (APPLICATION_ID, SCHEMA_VERSION):
            raise StoreDamaged(f"{self._path} is not a device's store of version {SCHEMA_VERSION}")
        self._connection.execute("COMMIT")
        if (found := self._scalar("PRAGMA quick_check")) != "ok":
            raise StoreDamaged(f"{self._path}: {found}")

    @contextmanager
    def transaction(self) -> Iterator[None]:
        with self._reported():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                self._wiping = False
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
            if self._wiping:
                self._empty_log()

    def identity(self) -> Identity | None:
        row = self._row("SELECT device, user FROM identity")
        return Identity(*row) if row else None

    def save_identity(self, identity: Identity) -> None:
        self._execute("DELETE FROM identity")
        self._execute("INSERT INTO identity VALUES (?, ?)", identity)

    def change_identity(self, identity: Identity) -> None:
        self.save_identity(identity)
        self._execute("UPDATE documents SET acked_op = ?, acked_chain = ?", OPS_START)
        self._execute("UPDATE outbox SET op = NULL, chain = NULL")

    def documents(self) -> list[str]:
        return [name for (name,) in self._rows("SELECT document FROM documents ORDER BY document")]

    def load(self, document: str) -> StoredDocument:
        row = self._row(
            "SELECT epoch, seq, acked_op, acked_chain, held, state FROM documents WHERE document = ?", document
        )
        if row is None:
            return StoredDocument()
        epoch, seq, op, chain, held, state = row
        entries = self._rows(
            "SELECT position, bytes, op, chain, heal FROM outbox WHERE document = ? ORDER BY position", document
        )
        return StoredDocument(
            Progress(epoch, seq, OpState(op, chain), held), state, tuple(self._bytes_of("updates", document)),
            tuple(
                OutboxEntry(position, update, None if op is None else OpState(op, chain), bool(heal))
                for position, update, op, chain, heal in entries
            ),
        )  # fmt: skip

    def save_progress(self, document: str, progress: Progress) -> None:
        self._begin_document(document)
        self._execute(
            "UPDATE documents SET epoch = ?, seq = ?, acked_op = ?, acked_chain = ?, held = ? WHERE document = ?",
            (progress.epoch, progress.seq, *progress.acked, progress.held, document),
        )

    def append_updates(self, document: str, updates: Sequence[bytes]) -> None:
        self._begin_document(document)
        self._execute_many("INSERT INTO updates (document, bytes) VALUES (?, ?)", [(document, u) for u in updates])

    def replace_state(self, document: str, state: bytes) -> None:
        self._begin_document(document)
        self._execute("UPDATE documents SET state = ? WHERE document = ?", (state, document))
        self._execute("DELETE FROM updates WHERE document = ?", (document,))

    def save_outbox(self, document: str, entries: Sequence[OutboxEntry]) -> None:
        self._begin_document(document)
        self._execute_many(
            "INSERT OR REPLACE INTO outbox (document, position, bytes, op, chain, heal) VALUES (?, ?, ?, ?, ?, ?)",
            [(document, e.position, e.update, *(e.number or (None, None)), e.heal) for e in entries],
        )

    def drop_outbox(self, document: str, first: int, last: int) -> None:
        self._execute("DELETE FROM outbox WHERE document = ? AND position BETWEEN ? AND ?", (document, first, last))

    def put_aside(self, document: str, updates: Sequence[bytes]) -> None:
        self._execute_many("INSERT INTO aside (document, bytes) VALUES (?, ?)", [(document, u) for u in updates])

    def aside(self, document: str) -> list[bytes]:
        return self._bytes_of("aside", document)

    def drop_aside(self, document: str) -> None:
        self._execute("DELETE FROM aside WHERE document = ?", (document,))

    def wipe(self) -> None:
        """Forget every document, and who the user was. Freed pages are overwritten, and the log is emptied."""
        self._wiping = True
        self._execute("PRAGMA secure_delete = ON")
        for table in ("documents", "updates", "outbox", "aside"):
            self._execute(f"DELETE FROM {table}")
        self._execute("UPDATE identity SET user = NULL")

    def _empty_log(self) -> None:
        """The write-ahead log has the pages as they were before."""
        self._wiping = False
        self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        self._connection.close()

    # --- plumbing

    def _begin_document(self, document: str) -> None:
        self._execute("INSERT OR IGNORE INTO documents (document) VALUES (?)", (document,))

    def _bytes_of(self, table: str, document: str) -> list[bytes]:
        return [b for (b,) in self._rows(f"SELECT bytes FROM {table} WHERE document = ? ORDER BY position", document)]

    def _execute(self, statement: str, values: Sequence[Any] = ()) -> None:
        assert self._connection.in_transaction, "writes belong in a transaction"
        with self._reported():
            self._connection.execute(statement, values)

    def _execute_many(self, statement: str, rows: Sequence[Sequence[Any]]) -> None:
        assert self._connection.in_transaction, "writes belong in a transaction"
        with self._reported():
            self._connection.executemany(statement, rows)

    def _rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        with self._reported():
            return self._connection.execute(query, values).fetchall()

    def _row(self, query: str, *values: object) -> tuple[Any, ...] | None:
        rows = self._rows(query, *values)
        return rows[0] if rows else None

    def _scalar(self, query: str) -> Any:
        return self._connection.execute(query).fetchone()[0]

    @contextmanager
    def _reported(self) -> Iterator[None]:
        """Say what SQLite's errors mean to a device."""
        try:
            yield
        except sqlite3.Error as exc:
            code = getattr(exc, "sqlite_errorcode", None)
            if code is not None and code & 0xFF in _NOW_UNREADABLE:
                raise StoreDamaged(f"{self._path}: {exc}") from exc
            raise StoreError(f"{self._path}: {exc}") from exc
