"""Copies of a SQLite store, taken while it is in use, and putting one back."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from sqlalchemy import URL, Connection, create_engine, func, select, update
from sqlalchemy.pool import NullPool

from crdt.ids import DocumentId
from crdt.protocol.frames import EPOCH_BYTES
from server.core.ports import StorageError
from server.storage.engines import operational
from server.storage.lock import database_lock
from server.storage.memory import STORE_ID_BYTES
from server.storage.rows import document_values
from server.storage.schema import is_set_up, upgrade_on
from server.storage.tables import documents, log, store


async def backup(database: Path, target: Path) -> None:
    """Write all that is committed now to `target`, which must not exist; writers go on meanwhile.

    The copy is on disk and was read through when this returns. Raises StorageError; then there is no `target`.
    """
    await asyncio.to_thread(_backup, database, target)


def restore(backup_file: Path, database: Path) -> bool:
    """Put a backup in the place of `database`, which nobody may have open.

    Every document gets a new epoch and the store a new id: devices know things that the backup does not, and must not
    take its cursors for theirs. The store remembers that it was put back, since some know documents that the backup has
    not at all. Who is shut out is taken over from the store that was there; False if that could not be read, and the
    backup's list holds. Raises StorageError; then `database` is as it was.
    """
    with operational(f"restoring {backup_file}"), database_lock(database), _partial(database) as partial:
        shutil.copyfile(backup_file, partial)
        _check_integrity(partial)
        _renew(partial)
        is_taken_over = _take_over_revocations(database, partial)
        _sync(partial)
        _take_out(database)
        partial.replace(database)
        _sync(database.parent)
    return is_taken_over


def _backup(database: Path, target: Path) -> None:
    with operational(f"backing up to {target}"):
        if target.exists():
            raise StorageError(f"{target} exists already")
        if not database.exists():
            raise StorageError(f"there is no {database}")
        with _partial(target) as partial:
            with closing(sqlite3.connect(database, isolation_level=None)) as source:
                source.execute("VACUUM INTO ?", (str(partial),))
            _check_integrity(partial)
            _sync(partial)
            partial.replace(target)
            _sync(target.parent)


@contextmanager
def _partial(target: Path) -> Iterator[Path]:
    """An empty file beside `target`, readable by its owner alone; what is left of it at the end is removed."""
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f"{target.name}.", suffix=".partial")
    os.close(descriptor)
    try:
        yield Path(name)
    finally:
        for suffix in ("", "-journal"):
            Path(name + suffix).unlink(missing_ok=True)


def _check_integrity(database: Path) -> None:
    with closing(sqlite3.connect(database)) as connection:
        found = [row[0] for row in connection.execute("PRAGMA integrity_check(3)")]
    if found != ["ok"]:
        raise StorageError(f"{database} is damaged: {'; '.join(map(str, found))}")


def _renew(database: Path) -> None:
    """Bring the schema up to date, and begin a history of this store's own."""
    engine = create_engine(URL.create("sqlite", database=str(database)), poolclass=NullPool)
    with engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA journal_mode = DELETE")
        if not is_set_up(connection):
            raise StorageError("it is no backup of a store")
        connection.rollback()
        upgrade_on(connection)
        now_ms = time.time_ns() // 1_000_000
        connection.execute(update(store).values(id=secrets.token_bytes(STORE_ID_BYTES), restored_ms=now_ms))
        _begin_epochs(connection)
        connection.commit()


def _begin_epochs(connection: Connection) -> None:
    heads = dict(connection.execute(select(log.c.document_id, func.max(log.c.seq)).group_by(log.c.document_id)).all())
    for row in connection.execute(select(documents)).all():
        document = DocumentId(row.owner, row.name)
        epoch = secrets.token_bytes(EPOCH_BYTES)
        values = document_values(document, epoch, heads.get(row.id, 0), row.created_ms)
        connection.execute(update(documents).where(documents.c.id == row.id).values(values))


def _take_over_revocations(database: Path, restored: Path) -> bool:
    """A device that was stolen after the backup does not come in again with it."""
    if not database.exists():
        return True
    with closing(sqlite3.connect(restored)) as connection:
        try:
            connection.execute("ATTACH ? AS replaced", (str(database),))
            connection.execute("UPDATE devices SET revoked_ms = NULL WHERE revoked_ms IS NOT NULL")
            connection.execute(_TAKE_OVER)
        except sqlite3.DatabaseError:  # it is damaged, or older than the list
            return False
        connection.commit()
    return True


_TAKE_OVER = """\
INSERT INTO devices (user, device, revoked_ms)
SELECT user, device, revoked_ms FROM replaced.devices WHERE revoked_ms IS NOT NULL
ON CONFLICT (user, device) DO UPDATE SET revoked_ms = excluded.revoked_ms"""


def _take_out(database: Path) -> None:
    """Leave nothing beside `database` that SQLite would take for part of the file that comes in its place.

    Closing it writes its log into it first, so that it is whole if we are stopped here; if it is too damaged for that,
    there is nothing to keep.
    """
    if database.exists():
        with suppress(sqlite3.DatabaseError), closing(sqlite3.connect(database)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for suffix in ("-wal", "-shm"):
        Path(f"{database}{suffix}").unlink(missing_ok=True)


def _sync(path: Path) -> None:
    """Have a file, or the names in a directory, on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
