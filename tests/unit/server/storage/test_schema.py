from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import create_engine

from server.core.ports import StorageError
from server.storage import open_storage
from server.storage.rows import document_values, entry_values, snapshot_values
from server.storage.schema import SchemaTooNew, SchemaTooOld, check_schema, upgrade, upgrade_on
from server.storage.tables import metadata
from tests.contract.storage_support import ALICE, create_database, entry, put, snapshot, url_of


def described(file: Path) -> dict[str, str]:
    with closing(sqlite3.connect(file)) as connection:
        rows = connection.execute("SELECT name, sql FROM sqlite_master WHERE name NOT LIKE 'alembic%'").fetchall()
    return {name: " ".join((sql or "").split()) for name, sql in rows if "alembic" not in name}


def test_the_migrations_make_the_tables(tmp_path: Path) -> None:
    create_database(tmp_path / "migrated")
    engine = create_engine(f"sqlite:///{tmp_path / 'direct'}")
    metadata.create_all(engine)
    engine.dispose()
    migrated = create_engine(f"sqlite:///{tmp_path / 'migrated'}")
    with migrated.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    migrated.dispose()
    assert described(tmp_path / "migrated") == described(tmp_path / "direct")


async def test_an_upgrade_of_what_is_current_changes_nothing(tmp_path: Path) -> None:
    url = url_of(tmp_path / "db")
    async with open_storage(url) as storage:
        await put(storage, ALICE, entry(1))
        store_id = storage.store_id
    await upgrade(url)
    await check_schema(url)
    async with open_storage(url) as storage:
        assert storage.store_id == store_id
        assert (await storage.load(ALICE)).entries == (entry(1),)


async def test_each_store_has_an_id_of_its_own(tmp_path: Path) -> None:
    ids = []
    for name in ("one", "two"):
        async with open_storage(url_of(tmp_path / name)) as storage:
            ids.append(storage.store_id)
    assert ids[0] != ids[1]
    assert [len(store_id) for store_id in ids] == [16, 16]


async def test_a_newer_schema_is_refused_and_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "db"
    await upgrade(url_of(file))
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.commit()
    with pytest.raises(SchemaTooNew, match=r"9999.*0003"):
        await check_schema(url_of(file))
    before = described(file)
    with pytest.raises(SchemaTooNew):
        async with open_storage(url_of(file)):
            pytest.fail("opened")
    assert described(file) == before


async def test_a_database_that_was_never_set_up_needs_an_upgrade(tmp_path: Path) -> None:
    with pytest.raises(SchemaTooOld, match="none and needs 0003"):
        await check_schema(url_of(tmp_path / "db"))


async def test_an_upgrade_that_fails_leaves_nothing(tmp_path: Path) -> None:
    """The table `log` is in the way, after two others were made."""
    file = tmp_path / "db"
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("CREATE TABLE log (other)")
    with pytest.raises(StorageError):
        await upgrade(url_of(file))
    assert list(described(file)) == ["log"]


async def test_a_file_that_is_no_database_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "db").write_bytes(b"not a database, but long enough to be taken for one" * 100)
    with pytest.raises(StorageError):
        async with open_storage(url_of(tmp_path / "db")):
            pytest.fail("opened")


async def test_a_store_in_memory_is_refused() -> None:
    with pytest.raises(StorageError, match="needs a file"):
        await upgrade("sqlite+aiosqlite:///:memory:")


async def test_what_an_older_program_wrote_is_read_after_an_upgrade(tmp_path: Path) -> None:
    """Its rows have no columns that came later, and the checksums that they had then."""
    file = tmp_path / "db"
    with closing(create_engine(f"sqlite:///{file}").connect()) as connection:
        upgrade_on(connection, "0001")
    with closing(sqlite3.connect(file)) as raw:
        epoch = b"epoch..8"
        _insert(raw, "documents", {"id": 1, **document_values(ALICE, epoch, 0, 0)})
        for seq in (1, 2):
            _insert(raw, "log", {"document_id": 1, **entry_values(ALICE, entry(seq))}, later=("heal",))
        _insert(raw, "snapshots", {"document_id": 1, **snapshot_values(ALICE, snapshot(1, epoch))}, later=("check",))
        raw.commit()
    await upgrade(url_of(file))
    async with open_storage(url_of(file)) as storage:
        stored = await storage.load(ALICE)
    assert stored.entries == (entry(1), entry(2))
    assert stored.snapshot == snapshot(1, epoch)


def _insert(raw: sqlite3.Connection, table: str, values: dict[str, Any], later: tuple[str, ...] = ()) -> None:
    """A row without the columns that came `later`."""
    kept = {name: value for name, value in values.items() if name not in later}
    columns, marks = ", ".join(kept), ", ".join("?" * len(kept))
    raw.execute(f"INSERT INTO {table} ({columns}) VALUES ({marks})", list(kept.values()))
