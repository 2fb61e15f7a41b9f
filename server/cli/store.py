"""The store that commands work on: through the server that has it open, else the file itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from server.config import StoreSettings
from server.core.auth import Authority
from server.core.options import CoreOptions
from server.core.ports import Storage
from server.runtime.control import ControlUnavailable, call, control_path
from server.runtime.driver import Driver
from server.runtime.operations import OperationRefused, Operations
from server.runtime.telemetry import Telemetry
from server.storage import database_file, open_storage
from server.storage.lock import DatabaseInUse

Perform: TypeAlias = Callable[..., Awaitable[Any]]
"""`await perform(command, **arguments)`, as `Operations.perform`."""

_NOBODY = Authority((), audience="", issuer="")


def database_of(settings: StoreSettings) -> Path:
    """The database's file, which has to be there. Raises OperationRefused."""
    file = database_file(settings.database_url)
    assert file is not None, "settings take SQLite only"
    if not file.exists():
        raise OperationRefused(f"there is no database {file}")
    return file


@asynccontextmanager
async def operations_on(settings: StoreSettings) -> AsyncIterator[Perform]:
    """What performs commands. Raises OperationRefused, StorageError, ControlUnavailable."""
    file = database_of(settings)
    async with AsyncExitStack() as stack:
        try:
            storage = await stack.enter_async_context(open_storage(settings.database_url))
        except DatabaseInUse as exc:
            perform: Perform = partial(asyncio.to_thread, partial(ask_server, exc, file))
        else:
            perform = await stack.enter_async_context(_working_on(storage, file))
        yield perform


@asynccontextmanager
async def _working_on(storage: Storage, file: Path) -> AsyncIterator[Perform]:
    """A hub without sockets, for imports go the way of every update."""
    async with Driver.running(storage, _NOBODY, CoreOptions(), Telemetry()) as driver:
        operations = Operations(storage, driver.import_update, file)

        async def perform(command: str, **arguments: Any) -> Any:
            return await operations.perform(command, arguments)

        yield perform
        await driver.drain()


def perform(settings: StoreSettings, command: str, **arguments: Any) -> Any:
    """One command; its result. Raises what `operations_on` and the command do."""

    async def run() -> Any:
        async with operations_on(settings) as perform:
            return await perform(command, **arguments)

    return asyncio.run(run())


def ask_server(in_use: DatabaseInUse, database: Path, command: str, /, **arguments: Any) -> Any:
    """Have the server that uses the database perform a command."""
    try:
        return call(control_path(database), command, **arguments)
    except ControlUnavailable as exc:
        raise ControlUnavailable(f"{in_use}; {exc}") from exc
