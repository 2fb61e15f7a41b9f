"""Reading what can be read of a damaged file.

Every record is taken by itself, and none whose seal is broken. Only the file's key may open it: where a record or the
name of the key shows that it has another one, it is no wreck but locked.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from client_sim.core.ports import Identity, Keeping, OutboxEntry, Progress, StoreDamaged, StoredDocument, StoreLocked
from client_sim.core.salvage import Remains
from client_sim.store import records
from client_sim.store.migration import V1_COLUMNS, translated
from client_sim.store.schema import Table, check_key, place
from client_sim.store.sealing import CheckedSeal, Seal

PROBES_MAX = 100_000
"""Rows that are looked for one by one between those that can be read from either end of a table."""

_Record = tuple[bytes, int, bytes]
"""The document's name in the file, the position, the bytes."""


def read_remains(path: Path, seal: Seal) -> Remains:
    """All that is left. Raises StoreLocked."""
    with closing(sqlite3.connect(path, isolation_level=None, timeout=0.0)) as connection:
        wreck = _Wreck(connection, seal)
        try:
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            connection.execute("PRAGMA query_only = ON")
            connection.execute("PRAGMA cell_size_check = ON")
            connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        except sqlite3.Error as exc:
            return Remains(lost=(f"all of it: {exc}",))
        return wreck.remains()


class _Wreck:
    def __init__(self, connection: sqlite3.Connection, seal: Seal) -> None:
        self._connection = connection
        self._seal = seal
        self._lost: dict[str, int] = defaultdict(int)
        """Records whose seal is broken, by table."""
        self._torn: list[str] = []
        """Tables of which not all could be read."""

    def remains(self) -> Remains:
        found = self._version_1() if self._is_version_1() else self._present()
        read = _Reader(found, self._seal)
        lost = [*(f"{count} records of {table}" for table, count in self._lost.items()), *self._torn]
        return Remains(read.identity(), read.documents(), read.aside(), read.keepings(), tuple(lost))

    def _present(self) -> dict[Table, list[_Record]]:
        key_is_ours = self._key_is_ours()
        found = {table: list(self._records(table)) for table in Table}
        if not key_is_ours and self._lost and not any(found.values()):
            raise StoreLocked(
                "the store is damaged, and nothing in it can be read with this key: it may be the wrong one"
            )
        return found

    def _key_is_ours(self) -> bool:
        """False if that can not be told. Raises StoreLocked."""
        try:
            check_key(self._connection, self._seal)
        except (sqlite3.Error, StoreDamaged):
            return False
        return True

    def _records(self, table: Table) -> Iterator[_Record]:
        for row in self._rows(table, "id, document, position, record"):
            match row:
                case (int(), bytes(name), int(position), bytes(sealed)):
                    try:
                        yield name, position, self._seal.open(place(table, name, position), sealed)
                    except StoreDamaged:
                        self._lost[table] += 1
                case _:
                    self._lost[table] += 1

    def _rows(self, table: str, columns: str) -> Iterator[tuple[Any, ...]]:
        """Those that can be read, the first column being their key: from both ends, then one by one between."""
        query = f"SELECT {columns} FROM {table}"
        last = 0
        try:
            for row in self._connection.execute(f"{query} ORDER BY id"):
                last = row[0]
                yield row
            return
        except sqlite3.Error as exc:
            self._torn.append(f"part of {table}: {exc}")
        first = last + PROBES_MAX
        try:
            for row in self._connection.execute(f"{query} WHERE id > ? ORDER BY id DESC", (last,)):
                first = row[0]
                yield row
        except sqlite3.Error:
            pass  # between the two there is what follows
        for key in range(last + 1, min(first, last + PROBES_MAX)):
            try:
                yield from self._connection.execute(f"{query} WHERE id = ?", (key,)).fetchall()
            except sqlite3.Error:
                continue

    # --- version 1

    def _is_version_1(self) -> bool:
        """True where a table is as it was in version 1 alone."""
        try:
            self._connection.execute("SELECT bytes FROM outbox LIMIT 0")
        except sqlite3.Error:
            return False
        return True

    def _version_1(self) -> dict[Table, list[_Record]]:
        """Raises StoreLocked: version 1 knew no keys."""
        if not isinstance(self._seal, CheckedSeal):
            raise StoreLocked("the store is of a version that was never encrypted")
        found: dict[Table, list[_Record]] = {table: [] for table in Table}
        for old, columns in V1_COLUMNS.items():
            try:
                for row in self._connection.execute(f"SELECT {columns} FROM {old}"):
                    table, document, position, record = translated(old, row)
                    found[table].append((self._seal.name(document), position, record))
            except (sqlite3.Error, TypeError, ValueError, AttributeError) as exc:
                self._torn.append(f"part of {old}: {exc}")
        return found


class _Reader:
    """What records say. Those of the cache do not say of which document they are: others have to."""

    def __init__(self, found: dict[Table, list[_Record]], seal: Seal) -> None:
        self._found = found
        self._outbox: dict[str, list[OutboxEntry]] = defaultdict(list)
        for _, position, record in found[Table.OUTBOX]:
            document, entry = records.entry(position, record)
            self._outbox[document].append(entry)
        self._progresses = dict(records.progress(record) for _, _, record in found[Table.DOCUMENTS])
        self._names = {seal.name(name): name for name in (*self._progresses, *self._outbox, *self.aside())}

    def identity(self) -> Identity | None:
        return next((records.identity(record) for _, _, record in self._found[Table.IDENTITY]), None)

    def documents(self) -> dict[str, StoredDocument]:
        states = {self._names.get(name): record for name, _, record in self._found[Table.STATES]}
        updates: dict[str | None, list[tuple[int, bytes]]] = defaultdict(list)
        for name, position, record in self._found[Table.UPDATES]:
            updates[self._names.get(name)].append((position, record))
        return {
            document: StoredDocument(
                self._progresses.get(document, Progress()),
                states.get(document),
                tuple(update for _, update in sorted(updates[document])),
                tuple(sorted(self._outbox[document], key=lambda entry: entry.position)),
            )
            for document in sorted({*self._progresses, *self._outbox})
        }

    def aside(self) -> dict[str, tuple[bytes, ...]]:
        aside: dict[str, tuple[bytes, ...]] = {}
        for _, _, record in sorted(self._found[Table.ASIDE], key=lambda found: found[1]):
            document, update = records.aside(record)
            aside[document] = (*aside.get(document, ()), update)
        return aside

    def keepings(self) -> dict[str, Keeping]:
        return dict(records.keeping(record) for _, _, record in self._found[Table.KEEPINGS])
