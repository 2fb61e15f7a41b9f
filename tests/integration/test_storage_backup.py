"""A backup of a store in use is whole, and a restored one begins a history of its own."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from crdt.ids import DeviceId, DocumentId
from server.core.ports import StorageError
from server.core.records import DocumentAppend
from server.storage import open_storage
from server.storage.backup import backup, restore
from server.storage.lock import DatabaseInUse
from server.storage.schema import SchemaTooNew
from tests.contract.storage_support import ALICE, BOB, create_database, entries, entry, opened, put, snapshot, url_of

DOCUMENTS = [DocumentId(f"user{number}", "main") for number in range(5)]


@pytest.fixture
def database(tmp_path: Path) -> Path:
    file = tmp_path / "store.db"
    create_database(file)
    return file


def damage(file: Path, start: int, content: bytes) -> None:
    with file.open("r+b") as opened_file:
        opened_file.seek(start)
        opened_file.write(content)


def content_of(file: Path) -> bytes:
    return file.read_bytes()


def names(directory: Path) -> list[str]:
    return sorted(file.name for file in directory.iterdir())


async def test_a_backup_under_writes_is_one_moment_of_the_store(database: Path, tmp_path: Path) -> None:
    target = tmp_path / "backup"
    async with opened(database) as storage:
        epochs = {document: (await storage.load(document)).epoch for document in DOCUMENTS}
        stop = asyncio.Event()

        async def write() -> int:
            seq = 0
            while not (stop.is_set() and seq > 5):
                seq += 1
                added = (entry(seq, bytes(3000)),)
                await storage.append([DocumentAppend(document, epoch, added) for document, epoch in epochs.items()])
                started.set()
            return seq

        started = asyncio.Event()
        writing = asyncio.create_task(write())
        await started.wait()
        await backup(database, target)
        stop.set()
        written = await writing
        assert [(await storage.load(document)).head_seq for document in DOCUMENTS] == [written] * 5
    restore(target, tmp_path / "restored")
    async with opened(tmp_path / "restored") as storage:
        heads = [(await storage.load(document)).head_seq for document in DOCUMENTS]
    assert 1 <= heads[0] <= written
    assert heads == heads[:1] * 5


async def test_a_backup_never_overwrites_and_leaves_nothing_half_done(database: Path, tmp_path: Path) -> None:
    (tmp_path / "precious").write_bytes(b"precious")
    with pytest.raises(StorageError, match="exists"):
        await backup(database, tmp_path / "precious")
    assert (tmp_path / "precious").read_bytes() == b"precious"
    with pytest.raises(StorageError):
        await backup(tmp_path / "no such store", tmp_path / "backup")
    with pytest.raises(StorageError):
        await backup(database, tmp_path / "no such directory" / "backup")
    await asyncio.to_thread((tmp_path / "junk").write_bytes, b"not a database at all, by any measure" * 200)
    with pytest.raises(StorageError):
        await backup(tmp_path / "junk", tmp_path / "backup")
    assert names(tmp_path) == ["junk", "precious", "store.db"]


async def test_a_restored_store_has_new_epochs_and_a_new_id(database: Path, tmp_path: Path) -> None:
    async with opened(database) as storage:
        await put(storage, ALICE, *entries(1, 4))
        await storage.begin_epoch(BOB, b"epoch--2")
        epoch = (await storage.load(ALICE)).epoch
        await storage.save_snapshot(ALICE, snapshot(3, epoch))
        store_id = storage.store_id
    await backup(database, tmp_path / "backup")
    async with opened(database) as storage:
        await put(storage, ALICE, *entries(5, 6))
    restore(tmp_path / "backup", database)
    async with open_storage(url_of(database)) as storage:
        alice, bob = await storage.load(ALICE), await storage.load(BOB)
        assert (alice.entries, alice.snapshot) == (entries(1, 4), snapshot(3, epoch))
        assert (alice.epoch_seq, alice.ops()) == (4, {})
        assert (bob.epoch_seq, bob.entries) == (0, ())
        assert len({epoch, alice.epoch, bob.epoch, b"epoch--2"}) == 4
        assert storage.store_id != store_id
        await put(storage, ALICE, entry(5, b"after"))


async def test_a_restored_store_may_have_lost_what_the_backup_never_had(database: Path, tmp_path: Path) -> None:
    async with opened(database) as storage:
        assert not (await storage.load(ALICE)).was_lost
    await backup(database, tmp_path / "backup")
    restore(tmp_path / "backup", database)
    async with open_storage(url_of(database)) as storage:
        assert (await storage.load(ALICE)).was_lost
        await put(storage, ALICE, entry(1))
        assert (await storage.load(ALICE)).was_lost
    async with open_storage(url_of(database)) as storage:
        assert (await storage.load(ALICE)).was_lost


async def test_a_restore_takes_the_write_ahead_log_out_of_the_way(database: Path, tmp_path: Path) -> None:
    """One that were left would be replayed into the file that comes in its place."""
    await backup(database, tmp_path / "backup")
    async with opened(database) as storage:
        await put(storage, ALICE, *entries(1, 4))
        (tmp_path / "store.db-wal.kept").write_bytes((tmp_path / "store.db-wal").read_bytes())
    (tmp_path / "store.db-wal.kept").replace(tmp_path / "store.db-wal")
    restore(tmp_path / "backup", database)
    assert names(tmp_path) == ["backup", "store.db", "store.db.lock"]
    async with opened(database) as storage:
        assert (await storage.load(ALICE)).entries == ()


async def test_a_restore_over_a_damaged_store_works(database: Path, tmp_path: Path) -> None:
    async with opened(database) as storage:
        await put(storage, ALICE, *entries(1, 4))
    await backup(database, tmp_path / "backup")
    damage(database, 0, b"overwritten by something else" * 1000)
    restore(tmp_path / "backup", database)
    async with opened(database) as storage:
        assert (await storage.load(ALICE)).entries == entries(1, 4)


async def test_a_store_in_use_is_not_replaced(tmp_path: Path) -> None:
    database = tmp_path / "store.db"
    async with open_storage(url_of(database)) as storage:
        await put(storage, ALICE, entry(1))
        await backup(database, tmp_path / "backup")
        with pytest.raises(DatabaseInUse):
            restore(tmp_path / "backup", database)
        await put(storage, ALICE, entry(2))
        assert (await storage.load(ALICE)).entries == entries(1, 2)


async def test_what_is_no_sound_backup_replaces_nothing(database: Path, tmp_path: Path) -> None:
    async with opened(database) as storage:
        await put(storage, ALICE, *entries(1, 3, bytes(100_000)))
    await backup(database, tmp_path / "damaged")
    damage(tmp_path / "damaged", 4096 * 20, bytes(4096))
    await backup(database, tmp_path / "newer")
    with closing(sqlite3.connect(tmp_path / "newer")) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.commit()
    before = content_of(database)
    with pytest.raises(StorageError):
        restore(tmp_path / "damaged", database)
    with pytest.raises(SchemaTooNew):
        restore(tmp_path / "newer", database)
    with pytest.raises(StorageError):
        restore(tmp_path / "no such backup", database)
    assert content_of(database) == before
    assert names(tmp_path) == ["damaged", "newer", "store.db", "store.db.lock"]


@pytest.mark.parametrize("kind", ["empty", "another program's"])
async def test_a_file_that_is_no_store_replaces_nothing(kind: str, database: Path, tmp_path: Path) -> None:
    async with opened(database) as store:
        await put(store, ALICE, *entries(1, 3))
    other = tmp_path / "other.db"
    with closing(sqlite3.connect(other)) as connection:
        if kind != "empty":
            connection.execute("CREATE TABLE notes (text)")
            connection.commit()
    before = content_of(database)
    with pytest.raises(StorageError, match="no backup"):
        restore(other, database)
    assert content_of(database) == before


async def test_a_link_to_a_store_in_use_is_that_store(tmp_path: Path) -> None:
    link = tmp_path / "link.db"
    link.symlink_to(tmp_path / "store.db")
    async with open_storage(url_of(tmp_path / "store.db")):
        with pytest.raises(DatabaseInUse):
            async with open_storage(url_of(link)):
                pass


STOLEN, FOUND = DeviceId("alice", "stolen"), DeviceId("alice", "found")


async def test_who_is_shut_out_stays_so_whatever_the_backup_says(database: Path, tmp_path: Path) -> None:
    async with opened(database) as storage:
        await storage.revoke_devices([FOUND], 1)
        await backup(database, tmp_path / "backup")
        await storage.restore_devices([FOUND])
        await storage.revoke_devices([STOLEN], 2)
    assert restore(tmp_path / "backup", database)
    async with opened(database) as storage:
        assert await storage.revoked_devices() == {STOLEN}


async def test_where_the_replaced_store_can_not_be_read_the_backup_says_who_is_shut_out(
    database: Path, tmp_path: Path
) -> None:
    async with opened(database) as storage:
        await storage.revoke_devices([STOLEN], 1)
        await backup(database, tmp_path / "backup")
    damage(database, 0, bytes(200))
    assert not restore(tmp_path / "backup", database)
    async with opened(database) as storage:
        assert await storage.revoked_devices() == {STOLEN}
