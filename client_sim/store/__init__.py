"""The device's own durable store: `SqliteStore`, and `MemoryStore` for simulators and tests."""

from client_sim.store.memory import MemoryStore
from client_sim.store.sqlite import SqliteStore

__all__ = ["MemoryStore", "SqliteStore"]
