"""A store with something in it, for tests that harm it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pycrdt import Doc, Text

from client_sim.core.ports import Identity, Keeping, OutboxEntry, Progress
from client_sim.store import SqliteStore
from crdt.chain import OPS_START
from crdt.replica import Replica

KEY = bytes(range(32))
EDITS = 60
CACHED = 200


def typed(replica: Replica, text: str) -> bytes:
    """The update that typing at the end of the body makes."""

    def change(doc: Doc[Any]) -> None:
        body = doc.get("body", type=Text)
        body.insert(len(body), text)

    update = replica.edit(change)
    assert update is not None
    return update


def fill(path: Path, key: bytes | None = None, *, documents: int = 3) -> dict[str, list[bytes]]:
    """Begin a store in which each document has a cache, and a longer outbox than fits a page; the outboxes."""
    store = SqliteStore(path, key)
    outboxes: dict[str, list[bytes]] = {}
    with store.transaction():
        store.save_identity(Identity("phone", "alice"))
    for name in [f"document {n}" for n in range(documents)]:
        server, own = Replica(1), Replica(2)
        cached = [typed(server, f"server {n:05} ") for n in range(CACHED)]
        own.apply(cached)
        outboxes[name] = [typed(own, f"edit {n:05} ") for n in range(EDITS)]
        number = OPS_START
        entries = []
        for position, update in enumerate(outboxes[name], 1):
            number = number.after(update)
            entries.append(OutboxEntry(position, update, number))
        with store.transaction():
            store.save_progress(name, Progress(b"epoch 01", CACHED))
            store.append_updates(name, [*cached, *outboxes[name]])
            store.save_outbox(name, entries)
            store.put_aside(name, [b"aside of " + name.encode()])
            store.save_keeping(name, Keeping(100.0, 200.0, pinned=True))
    store.close()
    return outboxes
