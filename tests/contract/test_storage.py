"""What every implementation of the storage port promises."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from crdt.chain import OpState
from crdt.ids import DeviceId, DocumentId
from server.core.ports import Storage, StorageError
from server.core.records import AppendResult, DocumentAppend, Snapshot, StoredDocument, first_epoch
from server.storage.memory import MemoryStorage
from tests.contract.storage_support import (
    ALICE,
    BOB,
    PHONE,
    AnyStorage,
    create_database,
    entries,
    entry,
    opened,
    put,
    snapshot,
)

LAPTOP = DeviceId("alice", "laptop")


@pytest.fixture
def database(tmp_path: Path) -> Path:
    file = tmp_path / "store.db"
    create_database(file)
    return file


@pytest.fixture(params=["memory", "sqlite", "exclusive sqlite"])
async def storage(request: pytest.FixtureRequest, database: Path) -> AsyncIterator[AnyStorage]:
    if request.param == "memory":
        yield MemoryStorage()
    else:
        async with opened(database, exclusive=request.param == "exclusive sqlite") as store:
            yield store


async def test_implements_the_port(storage: AnyStorage) -> None:
    port: Storage = storage
    assert await port.documents() == []


async def test_an_unwritten_document_is_empty_and_has_the_same_epoch_each_time(storage: AnyStorage) -> None:
    epoch = first_epoch(storage.store_id, ALICE)
    assert await storage.load(ALICE) == StoredDocument(epoch, 0, None, ())
    assert await storage.load(ALICE) == StoredDocument(epoch, 0, None, ())
    assert (await storage.load(BOB)).epoch != epoch
    assert await storage.documents() == []


async def test_load_gives_back_what_was_appended(storage: AnyStorage) -> None:
    await put(storage, ALICE, *entries(1, 3))
    await put(storage, ALICE, entry(4, b"", LAPTOP), entry(5, bytes(range(256)) * 300))
    stored = await storage.load(ALICE)
    assert stored.entries == (*entries(1, 3), entry(4, b"", LAPTOP), entry(5, bytes(range(256)) * 300))
    assert (stored.epoch, stored.epoch_seq, stored.snapshot) == (first_epoch(storage.store_id, ALICE), 0, None)


async def test_an_entry_may_have_no_updates_or_many(storage: AnyStorage) -> None:
    added = (entry(1)._replace(updates=()), entry(2)._replace(first_op=2, last_op=9, updates=(b"a", b"", b"c")))
    await put(storage, ALICE, *added)
    assert (await storage.load(ALICE)).entries == added


async def test_a_batch_of_documents_is_answered_in_its_order(storage: AnyStorage) -> None:
    names = [DocumentId(f"user{number}", "main") for number in (3, 1, 2)]
    batch = [DocumentAppend(name, (await storage.load(name)).epoch, entries(1, 2)) for name in names]
    results = await storage.append(batch)
    assert [(result.document, result.committed, result.foreign) for result in results] == [
        (name, True, ()) for name in names
    ]
    for name in names:
        assert (await storage.load(name)).head_seq == 2


async def test_what_can_be_appended_at_once_is_durable_then(storage: AnyStorage, database: Path) -> None:
    await put(storage, ALICE, entry(1))
    batch = [DocumentAppend(ALICE, (await storage.load(ALICE)).epoch, entries(2, 3))]
    results = storage.append_at_once(batch)
    if results is None:
        assert (await storage.load(ALICE)).entries == (entry(1),), "nothing is in"
        return
    assert results == [AppendResult(ALICE, committed=True)]
    assert (await storage.load(ALICE)).entries == entries(1, 3)
    if not isinstance(storage, MemoryStorage):
        async with opened(database) as other:
            assert (await other.load(ALICE)).entries == entries(1, 3)


async def test_an_overtaken_document_gets_the_foreign_entries_and_the_others_commit(storage: AnyStorage) -> None:
    await put(storage, ALICE, entry(1))
    await put(storage, ALICE, entry(2, b"theirs"))
    alice, bob = await storage.load(ALICE), await storage.load(BOB)
    results = await storage.append(
        [
            DocumentAppend(BOB, bob.epoch, entries(1, 2)),
            DocumentAppend(ALICE, alice.epoch, entries(2, 4, b"ours")),
        ]
    )
    assert [result.committed for result in results] == [True, False]
    assert results[1].foreign == (entry(2, b"theirs"),)
    assert (await storage.load(ALICE)).entries == (entry(1), entry(2, b"theirs"))
    assert (await storage.load(BOB)).entries == entries(1, 2)


async def test_what_was_overtaken_goes_in_when_it_is_numbered_anew(storage: AnyStorage) -> None:
    epoch = (await storage.load(ALICE)).epoch
    await put(storage, ALICE, *entries(1, 2, b"theirs"))
    (lost,) = await storage.append([DocumentAppend(ALICE, epoch, (entry(1, b"ours"),))])
    head_seq = lost.foreign[-1].seq
    (won,) = await storage.append([DocumentAppend(ALICE, epoch, (entry(head_seq + 1, b"ours"),))])
    assert won.committed
    assert (await storage.load(ALICE)).entries == (*entries(1, 2, b"theirs"), entry(3, b"ours"))


@pytest.mark.parametrize("first_seq", [2, 3])
async def test_an_append_never_leaves_a_gap(storage: AnyStorage, first_seq: int) -> None:
    alice, bob = await storage.load(ALICE), await storage.load(BOB)
    if first_seq == 3:
        await put(storage, ALICE, entry(1))
    ahead = DocumentAppend(ALICE, alice.epoch, entries(first_seq, first_seq + 1))
    results = await storage.append([ahead, DocumentAppend(BOB, bob.epoch, entries(1, 1))])
    assert [(result.committed, result.foreign) for result in results] == [(False, ()), (True, ())]
    assert (await storage.load(ALICE)).head_seq == first_seq - 2


async def test_an_append_for_another_epoch_does_not_commit(storage: AnyStorage) -> None:
    await put(storage, ALICE, entry(1))
    before = await storage.load(ALICE)
    assert await storage.begin_epoch(ALICE, b"epoch--2") == 1
    (result,) = await storage.append([DocumentAppend(ALICE, before.epoch, entries(2, 2))])
    assert (result.committed, result.foreign) == (False, ())
    assert (await storage.load(ALICE)).head_seq == 1


async def test_a_new_epoch_counts_ops_anew(storage: AnyStorage) -> None:
    await put(storage, ALICE, *entries(1, 2))
    await storage.begin_epoch(ALICE, b"epoch--2")
    await put(storage, ALICE, entry(3, device=LAPTOP))
    stored = await storage.load(ALICE)
    assert (stored.epoch, stored.epoch_seq) == (b"epoch--2", 2)
    assert stored.ops() == {LAPTOP: OpState(3, entry(3).chain)}


async def test_an_unwritten_document_can_begin_an_epoch(storage: AnyStorage) -> None:
    unwritten = await storage.load(ALICE)
    assert await storage.begin_epoch(ALICE, b"epoch--2") == 0
    (result,) = await storage.append([DocumentAppend(ALICE, unwritten.epoch, entries(1, 1))])
    assert not result.committed
    await put(storage, ALICE, entry(1))
    stored = await storage.load(ALICE)
    assert (stored.epoch, stored.epoch_seq, stored.entries) == (b"epoch--2", 0, (entry(1),))


async def test_the_log_is_kept_back_to_the_snapshot_before_the_newest(storage: AnyStorage) -> None:
    epoch = (await storage.load(ALICE)).epoch
    await put(storage, ALICE, *entries(1, 9))
    await storage.save_snapshot(ALICE, snapshot(3, epoch))
    assert (await storage.load(ALICE)).entries == entries(1, 9)
    await storage.save_snapshot(ALICE, snapshot(6, epoch))
    assert (await storage.load(ALICE)).entries == entries(4, 9)
    await storage.save_snapshot(ALICE, snapshot(9, epoch))
    stored = await storage.load(ALICE)
    assert stored.entries == entries(7, 9)
    assert stored.snapshot == snapshot(9, epoch)
    assert stored.head_seq == 9
    await put(storage, ALICE, entry(10))
    assert (await storage.load(ALICE)).unsnapshotted == (entry(10),)


async def test_a_snapshot_of_the_same_seq_replaces_and_an_older_one_changes_nothing(storage: AnyStorage) -> None:
    epoch = (await storage.load(ALICE)).epoch
    await put(storage, ALICE, *entries(1, 9))
    for seq, state in ((3, b"three"), (6, b"six"), (6, b"six again"), (5, b"late")):
        await storage.save_snapshot(ALICE, snapshot(seq, epoch, state))
    stored = await storage.load(ALICE)
    assert stored.snapshot == snapshot(6, epoch, b"six again")
    assert stored.entries == entries(4, 9)


async def test_a_snapshot_of_what_is_not_there_is_refused(storage: AnyStorage) -> None:
    epoch = (await storage.load(ALICE)).epoch
    with pytest.raises(StorageError):
        await storage.save_snapshot(ALICE, snapshot(1, epoch))
    await put(storage, ALICE, entry(1))
    with pytest.raises(StorageError):
        await storage.save_snapshot(ALICE, snapshot(2, epoch))
    assert (await storage.load(ALICE)).snapshot is None


async def test_ops_of_trimmed_entries_come_back_with_the_snapshot(storage: AnyStorage) -> None:
    await put(storage, ALICE, *entries(1, 4), entry(5, device=LAPTOP))
    for seq in (4, 5):
        stored = await storage.load(ALICE)
        ops = {device: state for device, state in stored.ops().items() if state.op <= seq}
        await storage.save_snapshot(ALICE, _with_ops(seq, stored.epoch, ops))
    await put(storage, ALICE, entry(6))
    stored = await storage.load(ALICE)
    assert [kept.seq for kept in stored.entries] == [5, 6]
    assert stored.ops() == {LAPTOP: OpState(5, entry(5).chain), PHONE: OpState(6, entry(6).chain)}


def _with_ops(seq: int, epoch: bytes, ops: dict[DeviceId, OpState]) -> Snapshot:
    return replace(snapshot(seq, epoch), ops=ops)


async def test_foreign_entries_that_were_compacted_away_are_not_told_in_part(storage: AnyStorage) -> None:
    epoch = (await storage.load(ALICE)).epoch
    await put(storage, ALICE, *entries(1, 6))
    for seq in (4, 6):
        await storage.save_snapshot(ALICE, snapshot(seq, epoch))
    (behind,) = await storage.append([DocumentAppend(ALICE, epoch, entries(3, 3))])
    (near,) = await storage.append([DocumentAppend(ALICE, epoch, entries(5, 5))])
    assert (behind.committed, behind.foreign) == (False, ())
    assert (near.committed, near.foreign) == (False, entries(5, 6))


async def test_documents_are_listed_by_owner_and_name_with_their_sizes(storage: AnyStorage) -> None:
    written = [
        DocumentId("bob", "main"),
        DocumentId("alice", "notes"),
        DocumentId("alice", "main"),
        DocumentId("B", "x"),
    ]
    for document in written:
        await put(storage, document, *entries(1, 3, b"12345"))
    await storage.begin_epoch(DocumentId("carol", "main"), b"epoch--2")
    epoch = (await storage.load(ALICE)).epoch
    await storage.save_snapshot(ALICE, snapshot(1, epoch, b"12"))
    await storage.save_snapshot(ALICE, snapshot(2, epoch, b"1234"))
    infos = await storage.documents()
    assert [info.document for info in infos] == sorted(written)
    alice = next(info for info in infos if info.document == ALICE)
    assert (alice.head_seq, alice.log_entries, alice.snapshot_seq, alice.snapshot_bytes) == (3, 2, 2, 4)
    assert 2 * 5 <= alice.log_bytes <= 2 * 5 + 8


async def test_loads_while_appending_see_whole_commits(storage: AnyStorage) -> None:
    epoch = (await storage.load(ALICE)).epoch
    await put(storage, ALICE, *entries(1, 3))

    async def write() -> None:
        for first_seq in range(4, 64, 3):
            await storage.append([DocumentAppend(ALICE, epoch, entries(first_seq, first_seq + 2))])
            if first_seq % 2:
                await storage.save_snapshot(ALICE, snapshot(first_seq, epoch))

    async def read() -> None:
        for _ in range(30):
            assert (await storage.load(ALICE)).head_seq % 3 == 0

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(write())
        for _ in range(3):
            tasks.create_task(read())


async def test_appends_at_once_are_one_after_the_other(storage: AnyStorage) -> None:
    epoch = (await storage.load(ALICE)).epoch

    async def write(number: int) -> int:
        seq = 1
        while True:
            added = (entry(seq, f"{number}".encode()),)
            (result,) = await storage.append([DocumentAppend(ALICE, epoch, added)])
            if result.committed:
                return seq
            seq = result.foreign[-1].seq + 1

    seqs = await asyncio.gather(*(write(number) for number in range(8)))
    assert sorted(seqs) == list(range(1, 9))
    assert [kept.seq for kept in (await storage.load(ALICE)).entries] == list(range(1, 9))


async def test_a_caller_that_numbers_wrongly_is_our_mistake(storage: AnyStorage) -> None:
    epoch = (await storage.load(ALICE)).epoch
    append = DocumentAppend(ALICE, epoch, entries(1, 1))
    for batch in (
        [append, append],
        [DocumentAppend(ALICE, epoch, (entry(1), entry(3)))],
        [DocumentAppend(ALICE, epoch, (entry(0),))],
    ):
        with pytest.raises(AssertionError):
            await storage.append(batch)
    assert (await storage.load(ALICE)).head_seq == 0


async def test_a_quarantine_stays_until_it_is_released(storage: AnyStorage) -> None:
    await put(storage, ALICE, entry(1))
    await put(storage, BOB, entry(1))
    await storage.quarantine(ALICE, "entry 1 is damaged")
    assert (await storage.load(ALICE)).quarantine == "entry 1 is damaged"
    assert (await storage.load(ALICE)).entries == (entry(1),)
    assert [info.quarantine for info in await storage.documents()] == ["entry 1 is damaged", None]
    assert await storage.release(ALICE)
    assert (await storage.load(ALICE)).quarantine is None
    assert not await storage.release(ALICE)


async def test_what_is_not_stored_can_not_be_quarantined(storage: AnyStorage) -> None:
    await storage.quarantine(ALICE, "it was never written")
    assert (await storage.load(ALICE)).quarantine is None
    assert await storage.documents() == []


async def test_healing_entries_are_told_from_others(storage: AnyStorage) -> None:
    await put(storage, ALICE, entry(1)._replace(heal=True), entry(2))
    assert [logged.heal for logged in (await storage.load(ALICE)).entries] == [True, False]
