"""The list of devices is kept in storage that may fail, and revocations are learnt in the order in which they were."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import count

import pytest

from crdt.ids import DeviceId
from server.core.ports import StorageError
from server.core.records import DeviceInfo, Sighting
from server.runtime import devices
from server.runtime.devices import DeviceBook
from server.storage.memory import MemoryStorage
from tests.support import wait_until

PHONE, LAPTOP = DeviceId("alice", "phone"), DeviceId("alice", "laptop")


class FailingStorage(MemoryStorage):
    """Says no as long as `fails`."""

    def __init__(self) -> None:
        super().__init__()
        self.fails = False
        self.batches: list[int] = []
        self.readers: list[asyncio.Event] = []
        """Readings that have begun and wait, if `slow`."""
        self.slow = False

    async def note_devices(self, sightings: Sequence[Sighting]) -> None:
        if self.fails:
            raise StorageError("the disk says no")
        self.batches.append(len(sightings))
        await super().note_devices(sightings)

    async def revoked_devices(self) -> frozenset[DeviceId]:
        revoked = await super().revoked_devices()
        if self.fails:
            raise StorageError("the disk says no")
        if self.slow:
            self.readers.append(asyncio.Event())
            await self.readers[-1].wait()
        return revoked


@pytest.fixture
def storage() -> FailingStorage:
    return FailingStorage()


@pytest.fixture
def told() -> list[frozenset[DeviceId]]:
    return []


@pytest.fixture
def book(storage: FailingStorage, told: list[frozenset[DeviceId]]) -> DeviceBook:
    return DeviceBook(storage, told.append)


async def test_sightings_are_written_together(book: DeviceBook, storage: FailingStorage) -> None:
    book.saw(PHONE, "app/1", 10)
    book.saw(LAPTOP, "web", 20)
    book.saw(PHONE, "app/2", 30)
    await book.write_sightings()
    assert storage.batches == [2]
    assert await storage.devices() == [DeviceInfo(LAPTOP, "web", 20, 20), DeviceInfo(PHONE, "app/2", 10, 30)]
    await book.write_sightings()
    assert storage.batches == [2], "nothing is written where nothing was seen"


async def test_what_could_not_be_written_is_written_later(book: DeviceBook, storage: FailingStorage) -> None:
    storage.fails = True
    book.saw(PHONE, "app/1", 10)
    await book.write_sightings()
    book.saw(PHONE, "app/2", 30)
    book.saw(LAPTOP, "web", 40)
    await book.write_sightings()
    assert await storage.devices() == []
    storage.fails = False
    await book.write_sightings()
    assert await storage.devices() == [DeviceInfo(LAPTOP, "web", 40, 40), DeviceInfo(PHONE, "app/2", 10, 30)]


async def test_many_are_written_in_turns(
    book: DeviceBook, storage: FailingStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "SIGHTINGS_AT_ONCE", 10)
    for number in range(25):
        book.saw(DeviceId("alice", f"d{number}"), "app/1", 10)
    await book.write_sightings()
    assert storage.batches == [10, 10, 5]


async def test_what_waits_is_bounded(
    book: DeviceBook, storage: FailingStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "SIGHTINGS_MAX", 10)
    storage.fails = True
    for number in range(100):
        book.saw(DeviceId("alice", f"d{number:02}"), "app/1", number)
        await book.write_sightings()
    book.saw(DeviceId("alice", "d03"), "app/2", 200)
    storage.fails = False
    await book.write_sightings()
    assert [info.device.name for info in await storage.devices()] == [f"d{number:02}" for number in range(10)]
    assert (await storage.devices())[3].last_seen_ms == 200


async def test_who_is_shut_out_is_told_when_it_was_read(
    book: DeviceBook, storage: FailingStorage, told: list[frozenset[DeviceId]]
) -> None:
    await storage.revoke_devices([PHONE], 10)
    await book.read_revocations()
    assert told == [{PHONE}]


async def test_while_it_can_not_be_read_what_was_known_holds(
    book: DeviceBook, storage: FailingStorage, told: list[frozenset[DeviceId]]
) -> None:
    await storage.revoke_devices([PHONE], 10)
    await book.read_revocations()
    storage.fails = True
    with pytest.raises(StorageError):
        await book.read_revocations()
    assert told[-1] == {PHONE}


async def test_a_reading_that_began_before_a_revocation_does_not_undo_it(
    book: DeviceBook, storage: FailingStorage, told: list[frozenset[DeviceId]]
) -> None:
    """As it would if it ended after one that began later."""
    storage.slow = True
    turns = count()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(book.read_revocations())
        await wait_until(lambda: len(storage.readers) == 1)
        await storage.revoke_devices([PHONE], 10)
        tasks.create_task(book.read_revocations())
        await wait_until(lambda: next(turns) == 3)
        for released in range(2):
            await wait_until(lambda: len(storage.readers) > released)  # noqa: B023 - it is awaited here
            storage.readers[-1].set()
            await wait_until(lambda: len(told) > released)  # noqa: B023 - as above
            storage.readers[0].set()
    assert told[-1] == {PHONE}
