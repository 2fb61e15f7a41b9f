"""Values and stores for tests of storage."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pycrdt import Doc, Text

from crdt.chain import OpState, extend
from crdt.ids import DeviceId, DocumentId
from crdt.protocol.frames import CHAIN_START
from crdt.replica import Replica
from server.core.records import DocumentAppend, LogEntry, Snapshot
from server.storage import SqlStorage
from server.storage.engines import create_engine
from server.storage.memory import MemoryStorage
from server.storage.schema import upgrade

ALICE = DocumentId("alice", "main")
BOB = DocumentId("bob", "main")
PHONE = DeviceId("alice", "phone")
TIME_MS = 1_700_000_000_000

AnyStorage = MemoryStorage | SqlStorage


def entry(seq: int, update: bytes = b"update", device: DeviceId = PHONE) -> LogEntry:
    """One op; its number is its seq."""
    return LogEntry(seq, device, seq, seq, extend(CHAIN_START, [update]), (update,), TIME_MS + seq)


def entries(first_seq: int, last_seq: int, update: bytes = b"update", device: DeviceId = PHONE) -> tuple[LogEntry, ...]:
    return tuple(entry(seq, update, device) for seq in range(first_seq, last_seq + 1))


def snapshot(seq: int, epoch: bytes, state: bytes = b"state") -> Snapshot:
    return Snapshot(seq, epoch, state, {PHONE: OpState(seq, b"chain..8")}, TIME_MS)


def typed_entries(text: str) -> tuple[LogEntry, ...]:
    """An entry for each character, as real updates."""
    replica = Replica(client_id=7)
    made: list[LogEntry] = []
    for seq, char in enumerate(text, start=1):
        update = replica.edit(_typing(char))
        assert update is not None
        made.append(entry(seq, update))
    return tuple(made)


def _typing(char: str) -> Callable[[Doc[Any]], None]:
    def append(doc: Doc[Any]) -> None:
        text = doc.get("text", type=Text)
        text += char

    return append


async def put(storage: AnyStorage, document: DocumentId, *added: LogEntry) -> None:
    """Append to a document whatever its epoch is; it must succeed."""
    epoch = (await storage.load(document)).epoch
    (result,) = await storage.append([DocumentAppend(document, epoch, added)])
    assert result.committed


def url_of(file: Path) -> str:
    return f"sqlite+aiosqlite:///{file}"


@cache
def _empty_database() -> bytes:
    with TemporaryDirectory() as directory:
        file = Path(directory) / "empty.db"
        asyncio.run(upgrade(url_of(file)))
        return file.read_bytes()


def create_database(file: Path) -> None:
    """An empty store with the current schema; run outside of an event loop the first time."""
    file.write_bytes(_empty_database())


@asynccontextmanager
async def opened(file: Path, *, exclusive: bool = False) -> AsyncIterator[SqlStorage]:
    """A store on a file, without the lock: several may be open at once, unless one is `exclusive`."""
    engine = create_engine(url_of(file))
    try:
        storage = await SqlStorage.open(engine, exclusive=exclusive)
        try:
            yield storage
        finally:
            await storage.close()
    finally:
        await engine.dispose()
