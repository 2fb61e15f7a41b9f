from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import ParamSpec, TypeVar

import pytest
from pycrdt import Text

from crdt.replica import Replica
from server.core.records import Snapshot, StoredDocument
from server.storage.compaction import CompactionError, build_snapshot, compact, verified_snapshot, verify
from server.storage.memory import MemoryStorage
from tests.contract.storage_support import ALICE, TIME_MS, create_database, opened, put, typed_entries

P = ParamSpec("P")
T = TypeVar("T")


async def here(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """What a worker process would do: arguments and result are pickled."""
    sent = pickle.loads(pickle.dumps((function, args, kwargs)))
    result: T = pickle.loads(pickle.dumps(sent[0](*sent[1], **sent[2])))
    return result


def text_of(stored: StoredDocument) -> object:
    return Replica.load(stored.state_updates()).values()["text"]


async def test_a_snapshot_is_the_document() -> None:
    stored = StoredDocument(b"epoch--1", 0, None, typed_entries("hello"))
    snapshot = build_snapshot(stored, TIME_MS)
    verify(stored, snapshot)
    assert (snapshot.seq, snapshot.epoch, snapshot.ops, snapshot.time_ms) == (5, b"epoch--1", stored.ops(), TIME_MS)
    assert Replica.load([snapshot.state]).values() == {"text": "hello"}


async def test_a_snapshot_that_lacks_something_is_found() -> None:
    added = typed_entries("hello")
    whole, part = (StoredDocument(b"epoch--1", 0, None, kept) for kept in (added, added[:4]))
    with pytest.raises(CompactionError, match="state vector"):
        verify(whole, replace(build_snapshot(part, TIME_MS), seq=5))
    with pytest.raises(CompactionError):
        verify(whole, replace(build_snapshot(whole, TIME_MS), state=b"\x01\x00"))


async def test_a_snapshot_that_lacks_a_delete_is_found() -> None:
    """Deletes are in no state vector."""
    added = typed_entries("hello")
    replica = Replica.load([entry.updates[0] for entry in added], client_id=7)
    update = replica.edit(lambda doc: doc.get("text", type=Text).clear())
    assert update is not None
    deleted = (*added, added[-1]._replace(seq=6, updates=(update,)))
    whole, part = (StoredDocument(b"epoch--1", 0, None, kept) for kept in (deleted, added))
    with pytest.raises(CompactionError, match="values"):
        verify(whole, replace(build_snapshot(part, TIME_MS), seq=6))


@pytest.fixture
def database(tmp_path: Path) -> Path:
    file = tmp_path / "store.db"
    create_database(file)
    return file


async def test_compaction_keeps_the_document_and_trims_the_log(database: Path) -> None:
    added = typed_entries("hello world")
    async with opened(database) as storage:
        for start, end in ((0, 4), (4, 8), (8, 11)):
            await put(storage, ALICE, *added[start:end])
            before = await storage.load(ALICE)
            made = await compact(storage, ALICE, here, TIME_MS)
            after = await storage.load(ALICE)
            assert made == after.snapshot
            assert (text_of(after), after.ops()) == (text_of(before), before.ops())
        assert (after.entries[0].seq, after.head_seq) == (9, 11)
        assert await compact(storage, ALICE, here, TIME_MS) is None


async def test_nothing_is_dropped_when_the_snapshot_is_refused() -> None:
    storage = MemoryStorage()
    await put(storage, ALICE, *typed_entries("hello"))
    before = await storage.load(ALICE)

    async def refuse(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        raise CompactionError("no")

    with pytest.raises(CompactionError):
        await compact(storage, ALICE, refuse, TIME_MS)
    assert await storage.load(ALICE) == before


def test_the_heavy_part_can_be_sent_to_another_process() -> None:
    stored = StoredDocument(b"epoch--1", 0, None, typed_entries("hi"))
    function, arguments = pickle.loads(pickle.dumps((verified_snapshot, (stored, TIME_MS))))
    assert isinstance(function(*arguments), Snapshot)
