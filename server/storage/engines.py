"""Engines whose connections are set for durability, and say so; and connections that are kept open."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import event
from sqlalchemy.engine import ExceptionContext, make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from server.core.ports import StorageError

T = TypeVar("T")

READERS_MAX = 4
"""Connections that read; each is a thread under SQLite, where one of them loads all documents."""
BUSY_TIMEOUT_MS = 5_000
CHECKPOINT_PAGES = 4000
"""The write-ahead log grows this long before it is copied into the database: busy documents' pages are copied once."""
WAL_BYTES_KEPT = CHECKPOINT_PAGES * 4096
"""A write-ahead log that grew beyond this is cut back to it by the next checkpoint."""


@contextmanager
def operational(doing: str) -> Iterator[None]:
    """Turn what databases, drivers and disks raise into StorageError."""
    try:
        yield
    except (SQLAlchemyError, sqlite3.Error, OSError) as exc:
        raise StorageError(f"{doing}: {exc}") from exc
    except ValueError as exc:
        if str(exc).lower() not in _CLOSED:
            raise
        raise StorageError(f"{doing}: {exc}") from exc


_CLOSED = ("connection closed", "no active connection")
"""What aiosqlite raises, as ValueError, on a connection that is closed."""


def create_engine(database_url: str) -> AsyncEngine:
    """An engine for a SQLAlchemy URL with an async driver: `sqlite+aiosqlite:///file` or `postgresql+asyncpg://...`.

    Connections raise StorageError as they are made if the database would not keep what it confirmed.
    """
    url = make_url(database_url)
    prepare = _PREPARE.get(url.get_backend_name())
    if prepare is None:
        raise StorageError(f"{url.get_backend_name()} is not a database that Syncline knows: sqlite, postgresql")
    if url.get_backend_name() == "sqlite" and url.database in (None, "", ":memory:"):
        raise StorageError("a SQLite store needs a file: one in memory keeps nothing")
    is_sqlite = url.get_backend_name() == "sqlite"
    # Such a connection has a thread of its own; `KeptConnection.at_once` uses it while that has nothing to do.
    arguments = {"check_same_thread": False} if is_sqlite else {}
    engine = create_async_engine(url, pool_size=1 + READERS_MAX, max_overflow=0, connect_args=arguments)
    event.listen(engine.sync_engine, "connect", partial(_prepared, prepare))
    if is_sqlite:
        event.listen(engine.sync_engine, "handle_error", _keep_the_connection)
    return engine


def _keep_the_connection(failure: ExceptionContext) -> None:
    """What was cancelled closes no connection: SQLite's goes on with what it was told, and is rolled back then."""
    if isinstance(failure.original_exception, asyncio.CancelledError):
        failure.is_disconnect = False


def _prepared(prepare: Any, connection: Any, _record: object) -> None:
    """A connection that cannot be made safe is closed, for the pool drops it without."""
    try:
        prepare(connection)
    except BaseException:
        connection.close()
        raise


def _prepare_sqlite(connection: Any) -> None:
    """`auto_vacuum` holds only if it is set before anything else is written, and setting it again waits for writers.

    fullfsync is for macOS alone.
    """
    connection.driver_connection.text_factory = partial(str, encoding="utf-8", errors="surrogateescape")
    if not _scalar(connection, "PRAGMA auto_vacuum"):
        _scalar(connection, "PRAGMA auto_vacuum = INCREMENTAL")
    for setting, value in _PRAGMAS:
        _scalar(connection, f"PRAGMA {setting} = {value}")
    for setting, required in _PRAGMAS_REQUIRED:
        found = _scalar(connection, f"PRAGMA {setting}")
        if found != required:
            raise StorageError(f"SQLite does not take PRAGMA {setting}: it is {found!r}, not {required!r}")


_PRAGMAS = (
    ("busy_timeout", BUSY_TIMEOUT_MS),
    ("journal_mode", "WAL"),
    ("journal_size_limit", WAL_BYTES_KEPT),
    ("wal_autocheckpoint", CHECKPOINT_PAGES),
    ("synchronous", "FULL"),
    ("fullfsync", "ON"),
    ("foreign_keys", "ON"),
)
_PRAGMAS_REQUIRED = (("journal_mode", "wal"), ("synchronous", 2), ("foreign_keys", 1))


def _prepare_postgresql(connection: Any) -> None:
    found = _scalar(connection, "SHOW synchronous_commit")
    if found == "off":
        raise StorageError("PostgreSQL confirms commits before they are on disk: synchronous_commit is off")


_PREPARE = {"sqlite": _prepare_sqlite, "postgresql": _prepare_postgresql}


def _scalar(connection: Any, statement: str) -> Any:
    cursor = connection.cursor()
    try:
        cursor.execute(statement)
        row = cursor.fetchone()
    finally:
        cursor.close()
    return row[0] if row else None


@dataclass(frozen=True, slots=True)
class OpenConnection:
    """A connection, and the driver's own object for it, which costs less per call."""

    core: AsyncConnection
    driver: Any


class KeptConnection:
    """A connection that is kept open, for one transaction at a time: the one that writes, or one that reads."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._turn = asyncio.Lock()
        self._idle: OpenConnection | None = None
        self._discard: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[OpenConnection]:
        """Have it alone. The caller commits; after an exception nothing is assumed of it: it is replaced."""
        async with self._turn:
            await self.settled()
            connection = self._idle or await self._connect()
            self._idle = None
            try:
                yield connection
            except BaseException:
                self._discard = asyncio.create_task(_discard(connection))
                await self.settled()
                raise
            self._idle = connection

    @contextmanager
    def at_once(self) -> Iterator[OpenConnection | None]:
        """As `turn`, but for work that ends before anything else runs; None while somebody else has it."""
        connection = self._idle if self._discard is None and not self._turn.locked() else None
        if connection is None:
            yield None
            return
        self._idle = None
        try:
            yield connection
        except BaseException:
            self._discard = asyncio.create_task(_discard(connection))
            raise
        self._idle = connection

    async def open(self) -> None:
        """Connect now: later there may be no descriptor left for it."""
        async with self.turn():
            pass

    async def settled(self) -> None:
        """Return when no commit is under way whose caller has given up on it."""
        if (discard := self._discard) is not None:
            await asyncio.wait([discard])
            self._discard = None
            discard.result()

    async def close(self) -> None:
        async with self._turn:
            await self.settled()
            if self._idle is not None:
                await self._idle.core.close()
                self._idle = None

    async def _connect(self) -> OpenConnection:
        core = await self._engine.connect()
        pooled = await core.get_raw_connection()
        return OpenConnection(core, pooled.driver_connection)


async def in_one_go(driver: Any, work: Callable[..., T], *args: Any) -> T:
    """Run `work(connection, *args)` on the thread of an aiosqlite connection: each call costs a wake-up there and back.

    This is what its own methods do; it has no public one for several statements.
    """
    done: T = await driver._execute(work, driver._conn, *args)
    return done


def here(driver: Any, work: Callable[..., T], *args: Any) -> T:
    """The same on the caller's thread: nobody else may use the connection now (`KeptConnection.at_once`)."""
    return work(driver._conn, *args)


async def _discard(kept: OpenConnection) -> None:
    """Close a connection for good, when its driver is done with what it was told: what is not committed is undone.

    Closing alone undoes nothing, and leaves the database locked, while anybody holds a cursor, if only in a traceback.
    """
    with suppress(StorageError), operational("rolling back"):
        await kept.core.run_sync(lambda connection: connection.connection.rollback())
    await kept.core.invalidate()
    await kept.core.close()
