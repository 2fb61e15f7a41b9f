"""Two stores on one database, as two processes have it, each with its own idea of where the logs end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from crdt.ids import DocumentId
from server.core.records import DocumentAppend
from server.storage import SqlStorage
from tests.contract.storage_support import ALICE, BOB, create_database, entries, entry, opened, put

DOCUMENTS = [DocumentId(f"user{number}", "main") for number in range(4)]


@pytest.fixture
def database(tmp_path: Path) -> Path:
    file = tmp_path / "store.db"
    create_database(file)
    return file


@pytest.fixture
async def stores(database: Path) -> AsyncIterator[tuple[SqlStorage, SqlStorage]]:
    async with opened(database) as one, opened(database) as other:
        yield one, other


async def test_each_sees_what_the_other_committed(stores: tuple[SqlStorage, SqlStorage]) -> None:
    one, other = stores
    await put(one, ALICE, *entries(1, 2))
    await put(other, ALICE, entry(3))
    assert (await one.load(ALICE)).entries == entries(1, 3)
    assert (await one.load(ALICE)).epoch == (await other.load(ALICE)).epoch


async def test_whoever_is_overtaken_gets_the_others_entries_and_none_of_its_own_in(
    stores: tuple[SqlStorage, SqlStorage],
) -> None:
    one, other = stores
    epochs = {document: (await one.load(document)).epoch for document in (ALICE, BOB)}
    await put(one, ALICE, entry(1))
    await put(other, ALICE, entry(2, b"theirs"))
    batch = [
        DocumentAppend(ALICE, epochs[ALICE], entries(2, 4, b"ours")),
        DocumentAppend(BOB, epochs[BOB], entries(1, 3)),
    ]
    lost, won = await one.append(batch)
    assert (lost.committed, lost.foreign) == (False, (entry(2, b"theirs"),))
    assert won.committed
    assert (await other.load(ALICE)).entries == (entry(1), entry(2, b"theirs"))
    assert (await other.load(BOB)).entries == entries(1, 3)


async def test_an_epoch_begun_elsewhere_is_not_written_into(stores: tuple[SqlStorage, SqlStorage]) -> None:
    one, other = stores
    await put(one, ALICE, entry(1))
    epoch = (await one.load(ALICE)).epoch
    await other.begin_epoch(ALICE, b"epoch--2")
    (result,) = await one.append([DocumentAppend(ALICE, epoch, entries(2, 2))])
    assert not result.committed
    assert (await one.load(ALICE)).entries == (entry(1),)


async def test_a_race_leaves_every_log_whole(stores: tuple[SqlStorage, SqlStorage]) -> None:
    """Each entry is in exactly one place, each append in whole, however they interleave."""
    epochs = {document: (await stores[0].load(document)).epoch for document in DOCUMENTS}
    seqs = [dict.fromkeys(DOCUMENTS, 1), dict.fromkeys(DOCUMENTS, 1)]

    async def write(number: int, rounds: int) -> None:
        mine = seqs[number]
        for turn in range(rounds):
            batch = [
                DocumentAppend(
                    document, epochs[document], entries(mine[document], mine[document] + 1, f"{number}/{turn}".encode())
                )
                for document in DOCUMENTS[turn % 2 :: number + 1]
            ]
            for result in await stores[number].append(batch):
                gained = 2 if result.committed else len(result.foreign)
                assert gained
                mine[result.document] += gained

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(write(0, 25))
        tasks.create_task(write(1, 25))
    for document in DOCUMENTS:
        stored = await stores[0].load(document)
        texts = [kept.updates[0] for kept in stored.entries]
        assert texts[::2] == texts[1::2], "entries of one append stand together"
        assert stored.head_seq == len(texts) > 0
