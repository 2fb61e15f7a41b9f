"""The device's own durable store: `SqliteStore`, and `MemoryStore` for simulators and tests."""

from __future__ import annotations

from pathlib import Path

from client_sim.core.ports import DeviceStore
from client_sim.store.memory import MemoryStore
from client_sim.store.sqlite import SqliteStore

__all__ = ["MemoryStore", "SqliteStore", "open_store"]


def open_store(place: str | Path | DeviceStore | None, key: bytes | None) -> DeviceStore:
    """The file at `place`, the store that it is, or, for None, one in memory. Raises as SqliteStore does."""
    match place:
        case None:
            return MemoryStore()
        case str() | Path():
            return SqliteStore(Path(place), key)
        case _:
            return place
