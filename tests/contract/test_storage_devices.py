"""What every implementation of the storage port promises of devices."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from crdt.ids import DeviceId
from server.core.records import DeviceInfo, Sighting
from server.storage.memory import MemoryStorage
from tests.contract.storage_support import ALICE, PHONE, AnyStorage, create_database, entry, opened, put

LAPTOP = DeviceId("alice", "laptop")
BOBS = DeviceId("bob", "phone")


@pytest.fixture
def database(tmp_path: Path) -> Path:
    file = tmp_path / "store.db"
    create_database(file)
    return file


@pytest.fixture(params=["memory", "sqlite"])
async def storage(request: pytest.FixtureRequest, database: Path) -> AsyncIterator[AnyStorage]:
    if request.param == "memory":
        yield MemoryStorage()
    else:
        async with opened(database, exclusive=True) as store:
            yield store


async def test_nobody_was_seen_yet(storage: AnyStorage) -> None:
    assert await storage.devices() == []
    assert await storage.revoked_devices() == frozenset()


async def test_a_device_is_first_seen_once_and_last_seen_again_and_again(storage: AnyStorage) -> None:
    await storage.note_devices([Sighting(PHONE, "app/1", 10, 20)])
    await storage.note_devices([Sighting(PHONE, "app/2", 30, 40), Sighting(LAPTOP, "web/1", 35, 35)])
    assert await storage.devices() == [DeviceInfo(LAPTOP, "web/1", 35, 35), DeviceInfo(PHONE, "app/2", 10, 40)]


async def test_a_sighting_that_comes_late_changes_nothing(storage: AnyStorage) -> None:
    await storage.note_devices([Sighting(PHONE, "app/2", 30, 40)])
    await storage.note_devices([Sighting(PHONE, "app/1", 10, 20)])
    assert await storage.devices() == [DeviceInfo(PHONE, "app/2", 30, 40)]


async def test_devices_are_listed_by_user_and_name(storage: AnyStorage) -> None:
    await storage.note_devices([Sighting(device, "x", 1, 1) for device in (PHONE, BOBS, LAPTOP)])
    assert [info.device for info in await storage.devices()] == [LAPTOP, PHONE, BOBS]
    assert [info.device for info in await storage.devices("alice")] == [LAPTOP, PHONE]
    assert await storage.devices("carol") == []


async def test_a_revoked_device_is_so_until_it_is_restored(storage: AnyStorage) -> None:
    await storage.note_devices([Sighting(PHONE, "app/1", 10, 20)])
    assert await storage.revoke_devices([PHONE, BOBS], 50) == [PHONE, BOBS]
    assert await storage.revoked_devices() == {PHONE, BOBS}
    assert await storage.restore_devices([PHONE, LAPTOP]) == [PHONE]
    assert await storage.revoked_devices() == {BOBS}
    assert await storage.devices("alice") == [DeviceInfo(PHONE, "app/1", 10, 20)]


async def test_a_device_can_be_revoked_before_it_was_ever_seen(storage: AnyStorage) -> None:
    await storage.revoke_devices([PHONE], 50)
    assert await storage.devices() == [DeviceInfo(PHONE, None, None, None, 50)]
    await storage.note_devices([Sighting(PHONE, "app/1", 60, 70)])
    assert await storage.devices() == [DeviceInfo(PHONE, "app/1", 60, 70, 50)]


async def test_revoking_and_restoring_twice_is_doing_so_once(storage: AnyStorage) -> None:
    assert await storage.revoke_devices([PHONE, PHONE], 50) == [PHONE]
    assert await storage.revoke_devices([PHONE], 60) == []
    assert (await storage.devices())[0].revoked_ms == 50
    assert await storage.restore_devices([PHONE, PHONE]) == [PHONE]
    assert await storage.restore_devices([PHONE]) == []


async def test_a_sighting_restores_nobody(storage: AnyStorage) -> None:
    await storage.revoke_devices([PHONE], 50)
    await storage.note_devices([Sighting(PHONE, "app/1", 60, 70)])
    assert await storage.revoked_devices() == {PHONE}


async def test_many_at_once(storage: AnyStorage) -> None:
    crowd = [DeviceId("alice", f"d{number:04}") for number in range(3000)]
    await storage.note_devices([Sighting(device, "app/1", 1, 2) for device in crowd])
    assert await storage.revoke_devices(crowd[::3], 50) == crowd[::3]
    assert await storage.revoked_devices() == frozenset(crowd[::3])
    assert [info.device for info in await storage.devices()] == crowd


async def test_appends_go_on_meanwhile(storage: AnyStorage) -> None:
    async with asyncio.TaskGroup() as tasks:
        for seq in range(1, 11):
            await put(storage, ALICE, entry(seq))
            tasks.create_task(storage.note_devices([Sighting(PHONE, "app/1", 1, seq)]))
    assert (await storage.load(ALICE)).head_seq == 10
    assert (await storage.devices())[0].last_seen_ms == 10


async def test_who_is_revoked_survives_and_is_seen_by_other_processes(database: Path) -> None:
    async with opened(database) as one, opened(database) as other:
        await one.revoke_devices([PHONE], 50)
        assert await other.revoked_devices() == {PHONE}
    async with opened(database) as later:
        assert await later.revoked_devices() == {PHONE}
