"""The device's store in one SQLite file: every transaction is synced before it ends."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

from client_sim.core.ports import (
    Holding,
    Identity,
    Keeping,
    OutboxEntry,
    Progress,
    Salvage,
    StoreDamaged,
    StoredDocument,
    StoreError,
    StoreLocked,
)
from client_sim.core.salvage import restore
from client_sim.store import files, log, records
from client_sim.store.migration import migrate
from client_sim.store.schema import Found, Rows, Table, check_key, connect, create, look
from client_sim.store.sealing import Seal, seal_of
from client_sim.store.wreck import read_remains
from crdt.chain import OPS_START

_NOW_UNREADABLE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_CACHE = (Table.STATES, Table.UPDATES, Table.CHUNKS)


class SqliteStore:
    """One device's store. The file is this process's alone while it is open; a second opener gets StoreError.

    `key`, of 32 bytes, encrypts it at rest: `client_sim.store.sealing` says what that hides. A store is encrypted from
    its beginning or never; with another key than its own, or none, it raises StoreLocked and is not touched.

    A damaged file is set aside under another name, and another is begun with what can be read of it: see `salvage`.
    """

    def __init__(self, path: Path, key: bytes | None = None) -> None:
        """Open `path`, or begin it. Raises StoreError, StoreRefused and StoreLocked, and ValueError for a bad key."""
        self._path = path
        self._key = key
        self._seal: Seal = seal_of(key)
        self._wiping = False
        self._damage: str | None = None
        self._salvage: Salvage | None = None
        with self._reported():
            files.finish_replacing(path)
        try:
            self._open()
        except StoreDamaged as exc:
            self._damage = str(exc)
            self.rebuild(self._damage)

    def _open(self) -> None:
        with self._reported():
            self._connection = connect(self._path)
            try:
                self._prepare()
            except sqlite3.OperationalError:  # another has it, or the disk does not work
                self._connection.close()
                raise
            except BaseException:
                self._close_unread()
                raise
            files.drop_unfinished(self._path)

    def _close_unread(self) -> None:
        """SQLite has perhaps not taken all of the log: it stays."""
        try:
            with files.log_kept(self._path):
                self._connection.close()
        finally:
            self._connection.close()  # also where the log can not be put away

    def _prepare(self) -> None:
        """Nothing is written before it is known that this is a device's store, and has this key."""
        self._connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        found = look(self._connection)
        if found is Found.PRESENT:
            check_key(self._connection, self._seal)
        elif found is Found.VERSION_1 and self._key is not None:
            raise StoreLocked("the store is of a version that was never encrypted")
        self._check_log()
        if found is Found.NEW:
            self._connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        if (problem := self._connection.execute("PRAGMA integrity_check").fetchone()[0]) != "ok":
            raise StoreDamaged(problem)
        with self.transaction():
            if found is Found.NEW:
                create(self._connection, self._seal)
            elif found is Found.VERSION_1:
                migrate(self._connection, self._seal)
        self._rows = Rows(self._connection, self._seal)
        for table in Table:
            if table not in _CACHE:  # what no server could give back is known to be whole; the rest when it is read
                self._rows.check(table)

    def _check_log(self) -> None:
        """Raises StoreDamaged if the log has more than SQLite takes of it, sqlite3.Error and OSError."""
        written = len(log.frames(files.log_of(self._path)))
        if not written:
            return
        _, taken, _ = self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        if taken < written:
            raise StoreDamaged(f"its log is damaged: SQLite reads {max(0, taken)} of {written} pages")

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

    # --- whose it is, and documents

    def identity(self) -> Identity | None:
        with self._reported():
            record = self._rows.one(Table.IDENTITY)
        return records.identity(record) if record is not None else None

    def save_identity(self, identity: Identity) -> None:
        with self._writing():
            self._rows.put(Table.IDENTITY, "", [(0, records.of_identity(identity))])

    def change_identity(self, identity: Identity) -> None:
        self.save_identity(identity)
        for document in self.documents():
            stored = self.load(document)
            self.save_progress(document, replace(stored.progress, acked=OPS_START))
            self.save_outbox(document, [replace(entry, number=None) for entry in stored.outbox])
            self.drop_chunks(document)

    def documents(self) -> list[str]:
        return sorted(self._progresses())

    def _progresses(self) -> dict[str, Progress]:
        with self._reported():
            return dict(records.progress(record) for _, record in self._rows.all(Table.DOCUMENTS))

    def load(self, document: str) -> StoredDocument:
        with self._reported():
            record = self._rows.one(Table.DOCUMENTS, document)
            if record is None:
                return StoredDocument()
            return StoredDocument(
                records.progress(record)[1],
                self._rows.one(Table.STATES, document),
                tuple(update for _, update in self._rows.of(Table.UPDATES, document)),
                tuple(records.entry(at, record)[1] for at, record in self._rows.of(Table.OUTBOX, document)),
                records.partial(self._rows.of(Table.CHUNKS, document)),
            )

    def save_progress(self, document: str, progress: Progress) -> None:
        with self._writing():
            self._rows.put(Table.DOCUMENTS, document, [(0, records.of_progress(document, progress))])

    def append_updates(self, document: str, updates: Sequence[bytes]) -> None:
        with self._writing():
            self._begin(document)
            self._rows.append(Table.UPDATES, document, updates)

    def replace_state(self, document: str, state: bytes) -> None:
        with self._writing():
            self._begin(document)
            self._rows.put(Table.STATES, document, [(0, state)])
            self._rows.drop(Table.UPDATES, document)

    def save_outbox(self, document: str, entries: Sequence[OutboxEntry]) -> None:
        with self._writing():
            self._begin(document)
            self._rows.put(Table.OUTBOX, document, [(e.position, records.of_entry(document, e)) for e in entries])

    def drop_outbox(self, document: str, first: int, last: int) -> None:
        with self._writing():
            self._rows.drop(Table.OUTBOX, document, first, last)

    def append_chunk(self, document: str, payload_id: bytes, offset: int, data: bytes) -> None:
        with self._writing():
            self._begin(document)
            self._rows.put(Table.CHUNKS, document, [(offset, records.of_chunk(payload_id, data))])

    def drop_chunks(self, document: str) -> None:
        with self._writing():
            self._rows.drop(Table.CHUNKS, document)

    def put_aside(self, document: str, updates: Sequence[bytes]) -> None:
        with self._writing():
            self._rows.append(Table.ASIDE, document, [records.of_aside(document, update) for update in updates])

    def aside(self, document: str) -> list[bytes]:
        with self._reported():
            return [records.aside(record)[1] for _, record in self._rows.of(Table.ASIDE, document)]

    def drop_aside(self, document: str) -> None:
        with self._writing():
            self._rows.drop(Table.ASIDE, document)

    # --- the cache

    def holdings(self) -> list[Holding]:
        progresses = self._progresses()
        with self._reported():
            keepings = dict(records.keeping(record) for _, record in self._rows.all(Table.KEEPINGS))
            sizes = [self._rows.bytes_by_name(table) for table in _CACHE]
            only = [self._rows.bytes_by_name(table) for table in (Table.OUTBOX, Table.ASIDE)]
        holdings = []
        for document in sorted({**progresses, **keepings}):
            name = self._seal.name(document)
            waits = progresses.get(document, Progress()).held is not None
            is_only_copy = waits or any(name in names for names in only)
            cache_bytes = sum(by_name.get(name, 0) for by_name in sizes)
            holdings.append(Holding(document, keepings.get(document, Keeping()), cache_bytes, is_only_copy))
        return holdings

    def save_keeping(self, document: str, keeping: Keeping) -> None:
        with self._writing():
            self._rows.put(Table.KEEPINGS, document, [(0, records.of_keeping(document, keeping))])

    def evict(self, document: str) -> None:
        """The file gets shorter by it, if it was begun by this version."""
        with self._writing():
            for table in (Table.DOCUMENTS, Table.KEEPINGS, *_CACHE):
                self._rows.drop(table, document)
            self._connection.execute("PRAGMA incremental_vacuum").fetchall()

    # --- the end

    def wipe(self) -> None:
        """Forget every document, and who the user was. Freed pages are overwritten, and the log is emptied."""
        identity = self.identity()
        with self._writing():
            self._wiping = True
            self._connection.execute("PRAGMA secure_delete = ON")
            for table in Table:
                self._connection.execute(f"DELETE FROM {table}")
        if identity is not None:
            self.save_identity(identity._replace(user=None))

    def _empty_log(self) -> None:
        """The write-ahead log has the pages as they were before."""
        self._wiping = False
        self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def salvage(self) -> Salvage | None:
        return self._salvage

    def rebuild(self, damage: str) -> Salvage:
        """The damaged file stays beside the new one, as `<name>.damaged-<n>`. Raises StoreError and StoreLocked.

        Nothing has changed before all that is left is in the new file: then the two change names.
        """
        self._damage = damage
        self._connection.close()
        with self._reported():
            fresh, kept_as = files.begin_successor(self._path), files.free_name(self._path)
            remains = read_remains(self._path, self._seal)
            try:
                with closing(SqliteStore(fresh, self._key)) as successor:
                    salvage = restore(remains, successor, damage, kept_as.name)
            except StoreError:
                files.drop_unfinished(self._path)
                raise
            files.replace(self._path)
        self._open()
        self._damage, self._salvage = None, salvage
        return salvage

    def close(self) -> None:
        self._connection.close()

    # --- plumbing

    def _begin(self, document: str) -> None:
        if self._rows.one(Table.DOCUMENTS, document) is None:
            self._rows.put(Table.DOCUMENTS, document, [(0, records.of_progress(document, Progress()))])

    @contextmanager
    def _writing(self) -> Iterator[None]:
        assert self._connection.in_transaction, "writes belong in a transaction"
        with self._reported():
            yield

    @contextmanager
    def _reported(self) -> Iterator[None]:
        """Say what the errors of SQLite, and of the file system, mean to a device."""
        try:
            yield
        except sqlite3.Error as exc:
            if self._damage is not None:  # its connection was closed, and there is no other one yet
                raise StoreDamaged(self._damage) from exc
            code = getattr(exc, "sqlite_errorcode", None)
            if code is not None and code & 0xFF in _NOW_UNREADABLE:
                raise StoreDamaged(f"{self._path}: {exc}") from exc
            raise StoreError(f"{self._path}: {exc}") from exc
        except UnicodeDecodeError as exc:  # what is damaged is named in the error
            raise StoreDamaged(f"{self._path}: {exc}") from exc
        except OSError as exc:
            raise StoreError(f"{self._path}: {exc}") from exc
