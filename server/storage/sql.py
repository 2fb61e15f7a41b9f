"""Storage in an SQL database: SQLite, or PostgreSQL shared by several processes."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from crdt.ids import DeviceId, DocumentId
from server.core.ports import CorruptDocument, StorageError
from server.core.records import (
    AppendResult,
    DeviceInfo,
    DocumentAppend,
    DocumentInfo,
    History,
    LogEntry,
    Sighting,
    Snapshot,
    StoredDocument,
    unwritten,
)
from server.storage import devices as device_sql
from server.storage import statements as sql
from server.storage.authors import AUTHORS, LOG_UP_TO, Trimmed, summarise, trim_log
from server.storage.checks import check_batch
from server.storage.engines import KeptConnection, OpenConnection, here, in_one_go, operational
from server.storage.loading import Loader
from server.storage.reading import check_gapless, newest_sound, read_document, read_history
from server.storage.rows import (
    Row,
    Values,
    document_values,
    entry_row,
    entry_values,
    read_entry,
    snapshot_values,
)

KNOWN_MAX = 100_000
"""Documents whose place is remembered, at about 300 bytes each."""
VACUUM_PAGES = 4096
"""So much of what compaction freed is given back to the file system at once: at most so long do appends wait for it."""


class SqlStorage:
    """The storage port on an engine of `engines.create_engine`, which the caller disposes of after `close()`.

    An append is one transaction, however many documents are in it.

    `exclusive` says that nobody else writes to the database as long as this is open (the SQLite file is locked). Then
    what this wrote last of a document is what the log ends with, and its next entries need no looking up.
    """

    def __init__(self, engine: AsyncEngine, store: Row, *, exclusive: bool = False) -> None:
        self.store_id: bytes = store.id
        self.is_restored = store.restored_ms is not None
        self._engine = engine
        self._writer = KeptConnection(engine)
        self._inserts = sql.SharedInserts.of(engine.dialect.name)
        self._is_sqlite = engine.dialect.name == "sqlite"
        self._loader = Loader(engine, self.store_id, is_restored=self.is_restored) if self._is_sqlite else None
        self._exclusive = exclusive and self._is_sqlite
        self._known: dict[DocumentId, _Known] = {}
        self._revoked = device_sql.Revoked()

    @classmethod
    async def open(cls, engine: AsyncEngine, *, exclusive: bool = False) -> SqlStorage:
        """On a database with the current schema (`schema`). Raises StorageError."""
        with operational("reading which store it is"):
            async with engine.connect() as connection:
                store = (await connection.execute(sql.STORE)).one()
            storage = cls(engine, store, exclusive=exclusive)
            await storage._writer.open()
            if storage._loader is not None:
                await storage._loader.open()
            return storage

    async def close(self) -> None:
        """Raises StorageError; nothing that was confirmed is lost by it."""
        with operational("closing"):
            if self._loader is not None:
                await self._loader.close()
            await self._writer.close()

    # --- the port

    async def load(self, document: DocumentId) -> StoredDocument:
        with operational(f"loading {document}"):
            await self._writer.settled()
            if self._loader is not None:
                return await self._loader.load(document)
            async with self._reading() as connection:
                head_row = (await connection.execute(sql.DOCUMENT, _named(document))).one_or_none()
                if head_row is None:
                    return unwritten(self.store_id, document, restored=self.is_restored)
                by_id = {"id": head_row.id}
                snapshot_rows = (await connection.execute(sql.SNAPSHOTS, by_id)).all()
                log_rows = (await connection.execute(sql.LOG, by_id)).all()
        return read_document(document, head_row, snapshot_rows, log_rows, is_restored=self.is_restored)

    async def append(self, batch: Sequence[DocumentAppend]) -> list[AppendResult]:
        check_batch(batch)
        in_order = sorted(batch, key=lambda append: append.document)
        with operational("appending"):
            async with self._writer.turn() as writer:
                known, self._known = self._known, {}  # for good, if anything is raised below
                if await self._append_alone(writer, in_order, known):
                    return [AppendResult(append.document, committed=True) for append in batch]
                results = await self._append_shared(writer.core, in_order)
        return [results[append.document] for append in batch]

    def append_at_once(self, batch: Sequence[DocumentAppend]) -> list[AppendResult] | None:
        check_batch(batch)
        if not _are_next(self._known, batch):
            return None
        with operational("appending"), self._writer.at_once() as writer:
            if writer is None:
                return None
            known, self._known = self._known, {}  # for good, if anything is raised below
            here(writer.driver, _insert_and_commit, _known_rows(batch, known))
            for append in batch:
                known[append.document] = _Known(known[append.document].id, append.epoch, append.entries[-1].seq)
            self._known = known
        return [AppendResult(append.document, committed=True) for append in batch]

    async def _append_alone(
        self, writer: OpenConnection, batch: Sequence[DocumentAppend], known: dict[DocumentId, _Known]
    ) -> bool:
        """Append where nobody else is in the way; False if somebody was, and nothing is in."""
        if not self._is_sqlite:
            return False
        if _are_next(known, batch):
            await in_one_go(writer.driver, _insert_and_commit, _known_rows(batch, known))
        elif not await _append_checked(writer.driver, batch):
            return False
        if self._exclusive:
            await self._learn(writer.core, batch, known)
            self._known = known
        return True

    async def _learn(
        self, connection: AsyncConnection, batch: Sequence[DocumentAppend], known: dict[DocumentId, _Known]
    ) -> None:
        """Remember where the documents of a committed batch are now."""
        strangers = [tuple(append.document) for append in batch if append.document not in known]
        ids = {append.document: known[append.document].id for append in batch if append.document in known}
        if strangers:
            rows = (await connection.execute(sql.HEADS, {"documents": strangers})).all()
            await connection.commit()
            ids |= {DocumentId(row.owner, row.name): row.id for row in rows}
        if len(known) > KNOWN_MAX:
            known.clear()
        for append in batch:
            known[append.document] = _Known(ids[append.document], append.epoch, append.entries[-1].seq)

    async def save_snapshot(self, document: DocumentId, snapshot: Snapshot) -> None:
        with operational(f"saving a snapshot of {document}"):
            trimmed = await self._to_trim(document, snapshot)
            async with self._writer.turn() as writer:
                await self._begin(writer.core)
                await _replace_snapshots(writer.core, document, snapshot, trimmed)
                await writer.core.commit()
                if self._is_sqlite:
                    await _shrink(writer.driver)

    async def _to_trim(self, document: DocumentId, snapshot: Snapshot) -> Trimmed:
        """What the log of a document will lose to a snapshot. It is read through before appends have to wait for it."""
        async with self._reading() as connection:
            head_row = (await connection.execute(sql.DOCUMENT, _named(document))).one_or_none()
            by_id = {"id": head_row.id if head_row else None}
            present = (await connection.execute(sql.SNAPSHOTS, by_id)).all()
            kept_seq = _seq_before(document, snapshot, present)
            log_rows = (await connection.execute(LOG_UP_TO, by_id | {"covered_seq": kept_seq})).all()
        return await asyncio.to_thread(summarise, document, kept_seq, log_rows)

    async def history(self, document: DocumentId) -> History:
        with operational(f"reading the history of {document}"):
            await self._writer.settled()
            async with self._reading() as connection:
                head_row = (await connection.execute(sql.DOCUMENT, _named(document))).one_or_none()
                if head_row is None:
                    return History((), None, ())
                by_id = {"id": head_row.id}
                snapshot_rows = (await connection.execute(sql.SNAPSHOTS, by_id)).all()
                log_rows = (await connection.execute(sql.LOG, by_id)).all()
                author_rows = (await connection.execute(AUTHORS, by_id)).all()
        return read_history(document, head_row, snapshot_rows, log_rows, author_rows)

    async def begin_epoch(self, document: DocumentId, epoch: bytes) -> int:
        with operational(f"beginning an epoch of {document}"):
            async with self._writer.turn() as writer:
                self._known.pop(document, None)
                await self._begin(writer.core)
                new = document_values(document, epoch, 0, time.time_ns() // 1_000_000)
                await writer.core.execute(self._inserts.create_document, new)
                row = (await writer.core.execute(sql.DOCUMENT_TO_CHANGE, _named(document))).one()
                head_seq: int = (await writer.core.execute(sql.HEAD, {"id": row.id})).scalar_one()
                values = document_values(document, epoch, head_seq, row.created_ms)
                changes = {f"new_{name}": values[name] for name in ("epoch", "epoch_seq", "checksum")}
                await writer.core.execute(sql.SET_EPOCH, _named(document) | changes)
                await writer.core.commit()
        return head_seq

    async def quarantine(self, document: DocumentId, reason: str) -> None:
        await self._mark(document, time.time_ns() // 1_000_000, reason)

    async def release(self, document: DocumentId) -> bool:
        return await self._mark(document, None, None)

    async def _mark(self, document: DocumentId, quarantined_ms: int | None, reason: str | None) -> bool:
        """True if that changed anything."""
        values = _named(document) | {"new_quarantined_ms": quarantined_ms, "new_quarantine_reason": reason}
        with operational(f"marking {document}"):
            async with self._writer.turn() as writer:
                await self._begin(writer.core)
                changed = (await writer.core.execute(sql.SET_QUARANTINE, values)).rowcount
                await writer.core.commit()
        return bool(changed)

    async def documents(self) -> list[DocumentInfo]:
        with operational("listing documents"):
            async with self._reading() as connection:
                rows = (await connection.execute(sql.document_infos())).all()
        return sorted((_info(row) for row in rows), key=lambda info: info.document)

    async def note_devices(self, sightings: Sequence[Sighting]) -> None:
        async with self._changing("noting devices") as connection:
            await device_sql.note(connection, sightings)

    async def revoke_devices(self, devices: Sequence[DeviceId], time_ms: int) -> list[DeviceId]:
        async with self._changing("revoking devices") as connection:
            return await device_sql.revoke(connection, devices, time_ms)

    async def restore_devices(self, devices: Sequence[DeviceId]) -> list[DeviceId]:
        async with self._changing("restoring devices") as connection:
            return await device_sql.restore(connection, devices)

    async def revoked_devices(self) -> frozenset[DeviceId]:
        with operational("reading revoked devices"):
            async with self._reading() as connection:
                return await self._revoked.read(connection)

    async def devices(self, user: str | None = None) -> list[DeviceInfo]:
        with operational("listing devices"):
            async with self._reading() as connection:
                return await device_sql.read(connection, user)

    # --- transactions

    @asynccontextmanager
    async def _changing(self, doing: str) -> AsyncIterator[AsyncConnection]:
        """A transaction that is committed at the end. Raises StorageError."""
        with operational(doing):
            async with self._writer.turn() as writer:
                await self._begin(writer.core)
                yield writer.core
                await writer.core.commit()

    @asynccontextmanager
    async def _reading(self) -> AsyncIterator[AsyncConnection]:
        """A transaction in which every statement sees the same commits."""
        async with self._engine.connect() as connection:
            if self._is_sqlite:
                await connection.exec_driver_sql("BEGIN")
            else:
                await connection.execution_options(isolation_level="REPEATABLE READ")
            yield connection

    async def _begin(self, connection: AsyncConnection) -> None:
        """Begin a transaction that writes: SQLite has to be told before the first read, lest another come between."""
        if self._is_sqlite:
            await connection.exec_driver_sql("BEGIN IMMEDIATE")

    async def _append_shared(
        self, connection: AsyncConnection, batch: Sequence[DocumentAppend]
    ) -> dict[DocumentId, AppendResult]:
        """Append where others write too: what was overtaken stays out. `batch` is in document order."""
        await self._begin(connection)
        if fresh := _fresh_documents(batch):
            await connection.execute(self._inserts.create_document, fresh)
        names = [tuple(append.document) for append in batch]
        rows = (await connection.execute(sql.HEADS, {"documents": names})).all()
        heads = {DocumentId(row.owner, row.name): row for row in rows}
        fitting = [append for append in batch if _continues(heads.get(append.document), append)]
        committed = await self._insert_whole(connection, fitting, heads)
        results = {}
        for append in batch:
            document = append.document
            if document in committed:
                results[document] = AppendResult(document, committed=True)
            else:
                foreign = await _foreign(connection, heads.get(document), append)
                results[document] = AppendResult(document, committed=False, foreign=foreign)
        await connection.commit()
        return results

    async def _insert_whole(
        self, connection: AsyncConnection, batch: Sequence[DocumentAppend], heads: Mapping[DocumentId, Row]
    ) -> dict[DocumentId, int]:
        """Insert each document's entries, all or none; the documents, with their ids, whose entries are in."""
        if not batch:
            return {}
        ids = {append.document: int(heads[append.document].id) for append in batch}
        rows = [
            {"document_id": ids[append.document], **entry_values(append.document, entry)}
            for append in batch
            for entry in append.entries
        ]
        inserted = (await connection.execute(self._inserts.add_entries, rows)).all()
        landed = Counter(row.document_id for row in inserted)
        whole = {
            append.document: ids[append.document]
            for append in batch
            if landed[ids[append.document]] == len(append.entries)
        }
        kept = frozenset(whole.values())
        undone = [{"id": row.document_id, "at_seq": row.seq} for row in inserted if row.document_id not in kept]
        if undone:
            await connection.execute(sql.DELETE_ENTRY, undone)
        return whole


class _Known(NamedTuple):
    """Where a document is, for sure."""

    id: int
    epoch: bytes
    head_seq: int


def _are_next(known: Mapping[DocumentId, _Known], batch: Sequence[DocumentAppend]) -> bool:
    """True if everything is known of these documents, and the entries follow it."""
    for append in batch:
        document = known.get(append.document)
        if document is None or (document.epoch, document.head_seq + 1) != (append.epoch, append.entries[0].seq):
            return False
    return True


def _known_rows(batch: Sequence[DocumentAppend], known: Mapping[DocumentId, _Known]) -> list[tuple[Any, ...]]:
    return [
        (known[append.document].id, *entry_row(append.document, entry)) for append in batch for entry in append.entries
    ]


def _insert_and_commit(connection: sqlite3.Connection, rows: Sequence[tuple[Any, ...]]) -> None:
    connection.executemany(sql.ADD_KNOWN_ENTRY_SQLITE, rows)
    connection.commit()


async def _append_checked(driver: Any, batch: Sequence[DocumentAppend]) -> bool:
    """Append, with the look-ups and checks in the insert itself, in one call of SQLite's own driver.

    False if they failed, and nothing is in: a document was in another epoch, or its log at another seq.
    """
    if fresh := _fresh_documents(batch):
        await driver.executemany(sql.CREATE_DOCUMENT_SQLITE, fresh)
    rows: list[Values] = []
    for append in batch:
        owner, name = append.document
        of_document = {"owner": owner, "name": name, "epoch": append.epoch}
        rows.extend(of_document | entry_values(append.document, entry) for entry in append.entries)
    cursor = await driver.executemany(sql.ADD_ENTRY_SQLITE, rows)
    if cursor.rowcount != len(rows):
        await driver.rollback()
        return False
    await driver.commit()
    return True


async def _replace_snapshots(
    connection: AsyncConnection, document: DocumentId, snapshot: Snapshot, trimmed: Trimmed
) -> None:
    """Keep `snapshot`, the newest sound one before it, and the log after that. If a later one is there, keep all."""
    head_row = (await connection.execute(sql.DOCUMENT_TO_CHANGE, _named(document))).one_or_none()
    by_id: Values = {"id": head_row.id if head_row else None}
    if (await connection.execute(sql.HEAD, by_id)).scalar_one() < snapshot.seq:
        raise StorageError(f"{document} is not what the snapshot was made of: its log ends before {snapshot.seq}")
    present = (await connection.execute(sql.SNAPSHOTS, by_id)).all()
    if present and present[0].seq > snapshot.seq:
        return
    kept_seq = _seq_before(document, snapshot, present)
    if kept_seq != trimmed.seq:
        raise StorageError(f"{document}: another process saved a snapshot meanwhile")
    await connection.execute(sql.DROP_SNAPSHOTS, by_id | {"kept_seq": kept_seq})
    await connection.execute(sql.PUT_SNAPSHOT, {"document_id": by_id["id"], **snapshot_values(document, snapshot)})
    await trim_log(connection, document, by_id["id"], trimmed)


def _seq_before(document: DocumentId, snapshot: Snapshot, present: Sequence[Row]) -> int:
    """The seq of the newest sound snapshot before this one; 0 if there is none."""
    previous = newest_sound(document, [row for row in present if row.seq < snapshot.seq])
    return previous.seq if previous else 0


async def _shrink(driver: Any) -> None:
    """Give freed pages back. A passive checkpoint waits for no reader, and cuts the file where it reaches the end.

    Of the driver's calls only `executescript` runs the vacuum to its end: the others stop after its first page.
    """
    await driver.executescript(f"PRAGMA incremental_vacuum({VACUUM_PAGES})")
    await driver.execute_fetchall("PRAGMA wal_checkpoint(PASSIVE)")


async def _foreign(connection: AsyncConnection, head_row: Row | None, append: DocumentAppend) -> tuple[LogEntry, ...]:
    """The entries after the head that `append` knew; none where that does not tell the story: another epoch, a log
    that was compacted since, or one that ends before.
    """
    if head_row is None or head_row.epoch != append.epoch:
        return ()
    after_seq = append.entries[0].seq - 1
    rows = (await connection.execute(sql.LOG_AFTER, {"id": head_row.id, "after_seq": after_seq})).all()
    try:
        entries = tuple(read_entry(append.document, row) for row in rows)
        check_gapless(append.document, entries)
    except CorruptDocument as exc:
        raise StorageError(f"reading what overtook an append: {exc}") from exc
    return entries if entries and entries[0].seq == after_seq + 1 else ()


def _fresh_documents(batch: Sequence[DocumentAppend]) -> list[Values]:
    """Rows for the documents whose first entries these are."""
    return [
        document_values(append.document, append.epoch, 0, append.entries[0].time_ms)
        for append in batch
        if append.entries[0].seq == 1
    ]


def _continues(head_row: Row | None, append: DocumentAppend) -> bool:
    """True if the document is where `append` takes it to be."""
    if head_row is None:
        return False
    return (head_row.epoch, head_row.head_seq + 1) == (append.epoch, append.entries[0].seq)


def _info(row: Row) -> DocumentInfo:
    return DocumentInfo(
        document=DocumentId(row.owner, row.name),
        head_seq=row.head_seq,
        log_entries=row.log_entries,
        log_bytes=int(row.log_bytes),
        snapshot_seq=row.snapshot_seq,
        snapshot_bytes=row.snapshot_bytes,
        quarantine=row.quarantine_reason,
    )


def _named(document: DocumentId) -> Values:
    return {"of_owner": document.owner, "of_name": document.name}
