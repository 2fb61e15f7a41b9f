"""What a store takes on disk, and whether the file is sound. Asked of SQLite, beside whoever has it open."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from benchmarks.workloads._measuring import expect


def stored_bytes(database: Path) -> int:
    """Bytes of the database as last committed, however much of it is still in the write-ahead log."""
    with closing(_opened(database)) as connection:
        [pages] = connection.execute("PRAGMA page_count").fetchone()
        [page_bytes] = connection.execute("PRAGMA page_size").fetchone()
    return int(pages * page_bytes)


def file_bytes(database: Path) -> int:
    """Bytes of the database and its write-ahead log, as files."""
    files = (database, database.with_name(f"{database.name}-wal"))
    return sum(file.stat().st_size for file in files if file.exists())


def expect_sound(database: Path) -> None:
    """Raises WorkloadFailed unless SQLite finds nothing wrong with the file."""
    with closing(_opened(database)) as connection:
        found = connection.execute("PRAGMA integrity_check").fetchall()
    expect(found == [("ok",)], f"the database is damaged: {found}")


def _opened(database: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{database}?mode=ro", uri=True)
