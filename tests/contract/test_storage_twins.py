"""MemoryStorage and SqlStorage answer any history of calls alike."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeAlias

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crdt.ids import DeviceId, DocumentId
from server.core.ports import StorageError
from server.core.records import DocumentAppend
from server.storage.memory import MemoryStorage
from tests.contract.storage_support import AnyStorage, create_database, entries, opened, snapshot

EXAMPLES = 600 if os.environ.get("SYNCLINE_SOAK") else 25
DOCUMENTS = [DocumentId(owner, name) for owner in ("alice", "bob") for name in ("main", "notes")]
DEVICES = [DeviceId("alice", "phone"), DeviceId("bob", "phone")]
EPOCHS = [bytes([number]) * 8 for number in range(3)]

Change: TypeAlias = tuple[DocumentId, int, int, DeviceId, bytes | None]
"""To append: document, first seq relative to the one after the head, entries, device, epoch (None: the present one)."""

changes = st.tuples(
    st.sampled_from(DOCUMENTS),
    st.sampled_from([0, 0, 0, 0, -1, -2, -4, 1]),
    st.integers(1, 4),
    st.sampled_from(DEVICES),
    st.sampled_from([None, None, None, *EPOCHS]),
)
calls = st.one_of(
    st.tuples(st.just("append"), st.lists(changes, min_size=1, max_size=4, unique_by=lambda change: change[0])),
    st.tuples(st.just("snapshot"), st.tuples(st.sampled_from(DOCUMENTS), st.integers(-3, 1))),
    st.tuples(st.just("epoch"), st.tuples(st.sampled_from(DOCUMENTS), st.sampled_from(EPOCHS))),
)


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(calls, max_size=25))
def test_the_twins_agree(history: Sequence[tuple[str, object]]) -> None:
    with TemporaryDirectory() as directory:
        file = Path(directory) / "store.db"
        create_database(file)
        asyncio.run(compare(file, history))


async def compare(file: Path, history: Sequence[tuple[str, object]]) -> None:
    async with opened(file) as one, opened(file) as other:
        memory = MemoryStorage(one.store_id)
        for number, call in enumerate(history):
            sql = (one, other)[number % 2]
            assert await perform(sql, call) == await perform(memory, call)
            for document in DOCUMENTS:
                assert await sql.load(document) == await memory.load(document)
                assert await sql.history(document) == await memory.history(document)
        assert await one.documents() == await memory.documents()


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(calls, max_size=25))
def test_a_store_that_appends_at_once_where_it_can_agrees(history: Sequence[tuple[str, object]]) -> None:
    with TemporaryDirectory() as directory:
        file = Path(directory) / "store.db"
        create_database(file)
        asyncio.run(compare_at_once(file, history))


async def compare_at_once(file: Path, history: Sequence[tuple[str, object]]) -> None:
    async with opened(file, exclusive=True) as sql:
        memory = MemoryStorage(sql.store_id)
        for call in history:
            match call:
                case ("append", list(wanted)):
                    batch = [await append_of(sql, change) for change in wanted]
                    results = sql.append_at_once(batch)
                    assert (results or await sql.append(batch)) == await memory.append(batch)
                case _:
                    assert await perform(sql, call) == await perform(memory, call)
            for document in DOCUMENTS:
                assert await sql.load(document) == await memory.load(document)


async def perform(storage: AnyStorage, call: tuple[str, object]) -> object:
    match call:
        case ("append", list(wanted)):
            return await storage.append([await append_of(storage, change) for change in wanted])
        case ("snapshot", (DocumentId() as document, int(offset))):
            stored = await storage.load(document)
            made = snapshot(max(1, stored.head_seq + offset), stored.epoch, f"{offset}".encode())
            try:
                await storage.save_snapshot(document, made)
            except StorageError:
                return "refused"
            return "saved"
        case ("epoch", (DocumentId() as document, bytes(epoch))):
            return await storage.begin_epoch(document, epoch)
        case _:
            raise AssertionError(call)


async def append_of(storage: AnyStorage, change: Change) -> DocumentAppend:
    document, offset, count, device, epoch = change
    stored = await storage.load(document)
    first_seq = max(1, stored.head_seq + 1 + offset)
    added = entries(first_seq, first_seq + count - 1, bytes([count]), device)
    return DocumentAppend(document, epoch or stored.epoch, added)
