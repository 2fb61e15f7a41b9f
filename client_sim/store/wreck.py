"""Reading what can be read of a damaged file.

Every record is taken by itself, and none whose seal is broken. A table that SQLite can not read to its end is looked
for page by page. Only the file's key may open it: where no record can be read with the key that was given, and nothing
else says that it is the right one, the file is not a wreck but locked.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

from client_sim.core.ports import (
    Identity,
    Keeping,
    OutboxEntry,
    Progress,
    StoreDamaged,
    StoredDocument,
    StoreLocked,
    StoreRefused,
)
from client_sim.core.salvage import Remains
from client_sim.store import records
from client_sim.store.files import log_of
from client_sim.store.log import replayed
from client_sim.store.migration import V1_COLUMNS, translated
from client_sim.store.pages import PAGE_BYTES, rows_on_pages
from client_sim.store.schema import Table, check_key, connect, opened
from client_sim.store.sealing import CheckedSeal, Seal

_UNREADABLE = (sqlite3.Error, UnicodeDecodeError)
"""The latter where an error's own words, or a text, are damaged too."""
_HEADER = b"SQLite format 3\0"

_Record = tuple[bytes, int, bytes]
"""The document's name in the file, the position, the bytes."""


def read_remains(path: Path, seal: Seal) -> Remains:
    """All that is left in the file and its log, which are only read. Raises StoreLocked, StoreRefused and OSError."""
    image = replayed(path.read_bytes(), log_of(path))
    if _was_never_ours(path, image):
        raise StoreRefused(f"{path.name} is no database: it is not a device's store, and was none")
    with closing(connect(":memory:")) as connection:
        if image:
            connection.deserialize(image)
        wreck = _Wreck(connection, image, seal)
        wreck.read()
    return wreck.remains()


def _was_never_ours(path: Path, image: bytes) -> bool:
    """True for what has nothing of a database: no header, no log, nothing like a row, and no whole number of pages.

    A store whose header is damaged has pages; one that was cut off within a page, its header.
    """
    may_be_database = _HEADER.startswith(image[: len(_HEADER)]) or len(image) % PAGE_BYTES == 0
    return not may_be_database and not log_of(path) and next(rows_on_pages(image), None) is None


class _Wreck:
    def __init__(self, connection: sqlite3.Connection, image: bytes, seal: Seal) -> None:
        self._connection = connection
        self._image = image
        self._seal = seal
        self._found: dict[Table, list[_Record]] = {table: [] for table in Table}
        self._broken: dict[str, int] = defaultdict(int)
        """Records whose seal is broken, by table."""
        self._torn: dict[str, str] = {}
        """What SQLite says of tables that it could not read to the end."""

    def read(self) -> None:
        """Raises StoreLocked."""
        if self._is_version_1():
            self._read_version_1()
            return
        is_ours = self._key_is_ours()
        for table in Table:
            self._read_table(table)
        if self._torn:
            self._read_pages()
        if not is_ours and self._broken and not any(self._found.values()):
            raise StoreLocked("nothing in the store can be read with this key: it is damaged, and may have another one")

    def remains(self) -> Remains:
        reader = _Reader(self._found, self._seal)
        lost = [f"{count} records of {table}" for table, count in self._broken.items()]
        torn = [f"perhaps part of {table} ({reason})" for table, reason in self._torn.items()]
        return Remains(reader.identity(), reader.documents(), reader.aside(), reader.keepings(), (*lost, *torn))

    def _key_is_ours(self) -> bool:
        """False if that can not be told. Raises StoreLocked."""
        try:
            check_key(self._connection, self._seal)
        except (*_UNREADABLE, StoreDamaged):
            return False
        return True

    def _read_table(self, table: Table) -> None:
        try:
            for row in self._connection.execute(f"SELECT document, position, record FROM {table}"):
                if (record := self._opened(table, row)) is not None:
                    self._found[table].append(record)
                else:
                    self._broken[table] += 1
        except _UNREADABLE as exc:
            self._torn[table] = str(exc)

    def _read_pages(self) -> None:
        """What is on the pages that can not be reached. Of each record there may be older versions: all are taken."""
        known = {(table, record) for table, found in self._found.items() for record in found}
        for row in self._rows_on_pages():
            ours = [(Table(table), record) for table in self._torn if (record := self._opened(Table(table), row))]
            for table, record in ours:
                if (table, record) not in known:
                    self._found[table].append(record)
            if not ours and self._opened_anywhere(row) is None:
                self._broken["tables that can not be told"] += 1

    def _rows_on_pages(self) -> Iterator[Sequence[object]]:
        for row in rows_on_pages(self._image):
            if len(row) == 4:
                yield row[1:]  # the first is the row's id

    def _opened_anywhere(self, row: Sequence[object]) -> _Record | None:
        return next((record for table in Table if (record := self._opened(table, row))), None)

    def _opened(self, table: Table, row: Sequence[object]) -> _Record | None:
        """The record, if its seal is whole."""
        try:
            return opened(self._seal, table, row)
        except StoreDamaged:
            return None

    # --- version 1

    def _is_version_1(self) -> bool:
        """True where a table is as it was in version 1 alone."""
        try:
            self._connection.execute("SELECT bytes FROM outbox LIMIT 0")
        except _UNREADABLE:
            return False
        return True

    def _read_version_1(self) -> None:
        """Raises StoreLocked: version 1 knew no keys."""
        if not isinstance(self._seal, CheckedSeal):
            raise StoreLocked("the store is of a version that was never encrypted")
        for old, columns in V1_COLUMNS.items():
            try:
                for row in self._connection.execute(f"SELECT {columns} FROM {old}"):
                    for table, document, position, record in translated(old, row):
                        self._found[table].append((self._seal.name(document), position, record))
            except (sqlite3.Error, TypeError, ValueError, AttributeError) as exc:  # without seals anything may be there
                self._torn[old] = str(exc)


class _Reader:
    """What records say. Those of the cache do not say of which document they are: others have to."""

    def __init__(self, found: dict[Table, list[_Record]], seal: Seal) -> None:
        self._found = {table: sorted(records, key=lambda record: record[1]) for table, records in found.items()}
        self._outbox: dict[str, list[OutboxEntry]] = defaultdict(list)
        for _, position, record in self._found[Table.OUTBOX]:
            document, entry = records.entry(position, record)
            self._outbox[document].append(entry)
        self._progresses = dict(records.progress(record) for _, _, record in self._found[Table.DOCUMENTS])
        self._names = {seal.name(name): name for name in (*self._progresses, *self._outbox, *self.aside())}

    def identity(self) -> Identity | None:
        """None, too, if there is more than one: the device was renamed, and nobody knows which is the older one."""
        identities = {records.identity(record) for _, _, record in self._found[Table.IDENTITY]}
        return identities.pop() if len(identities) == 1 else None

    def documents(self) -> dict[str, StoredDocument]:
        states = {self._names.get(name): record for name, _, record in self._found[Table.STATES]}
        updates: dict[str | None, list[bytes]] = defaultdict(list)
        for name, _, record in self._found[Table.UPDATES]:
            updates[self._names.get(name)].append(record)
        return {
            document: StoredDocument(
                self._progresses.get(document, Progress()),
                states.get(document),
                tuple(updates[document]),
                tuple(self._outbox[document]),
            )
            for document in sorted({*self._progresses, *self._outbox})
        }

    def aside(self) -> dict[str, tuple[bytes, ...]]:
        aside: dict[str, tuple[bytes, ...]] = {}
        for _, _, record in self._found[Table.ASIDE]:
            document, update = records.aside(record)
            aside[document] = (*aside.get(document, ()), update)
        return aside

    def keepings(self) -> dict[str, Keeping]:
        return dict(records.keeping(record) for _, _, record in self._found[Table.KEEPINGS])
