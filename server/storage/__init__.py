"""Where documents are kept: an SQL database, or memory. All implement `server.core.ports.Storage`."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from sqlalchemy.engine import make_url

from server.storage.engines import create_engine, operational
from server.storage.lock import database_lock
from server.storage.schema import check_schema, upgrade
from server.storage.sql import SqlStorage

__all__ = ["SqlStorage", "database_file", "open_storage"]


def database_file(database_url: str) -> Path | None:
    """The file of a SQLite URL, whatever links lead to it: it is locked by its name. None for a server's."""
    url = make_url(database_url)
    return Path(url.database).resolve() if url.get_backend_name() == "sqlite" and url.database else None


@asynccontextmanager
async def open_storage(database_url: str) -> AsyncIterator[SqlStorage]:
    """A store ready for use, closed at the end. Raises StorageError.

    A SQLite file is made if it is not there, locked for this process alone, and brought up to this program's schema.
    A shared database is only checked: its upgrade is for the operator to time.
    """
    async with AsyncExitStack() as stack:
        if file := database_file(database_url):
            stack.enter_context(database_lock(file))
            _make_private(file)
            await upgrade(database_url)
        else:
            await check_schema(database_url)
        engine = create_engine(database_url)
        stack.push_async_callback(engine.dispose)
        storage = await SqlStorage.open(engine, exclusive=file is not None)
        stack.push_async_callback(storage.close)
        yield storage


def _make_private(file: Path) -> None:
    """Create a file that only its owner can read, before SQLite creates one that all can."""
    with operational(f"creating {file}"):
        os.close(os.open(file, os.O_RDWR | os.O_CREAT, 0o600))
