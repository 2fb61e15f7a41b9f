"""What a server is, whoever listens for it: the store, the driver, fresh keys, and the control socket."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from server.config import ServeSettings
from server.keys import JwksRefresher, load_authority
from server.runtime.control import ControlServer, control_path
from server.runtime.driver import Driver
from server.runtime.operations import Operations
from server.runtime.telemetry import Telemetry
from server.storage import database_file, open_storage


@asynccontextmanager
async def running_driver(settings: ServeSettings, telemetry: Telemetry) -> AsyncIterator[Driver]:
    """A driver at work on the store of these settings. Call its `drain` before leaving.

    Raises StorageError, BadKeys and OSError where that is not possible, as when another process has the store.
    """
    async with AsyncExitStack() as stack:
        storage = await stack.enter_async_context(open_storage(settings.database_url))
        authority = load_authority(settings)
        driver = await stack.enter_async_context(Driver.running(storage, authority, settings.core_options(), telemetry))
        if settings.jwks is not None:
            refresher = JwksRefresher(settings, driver.trust)
            driver.on_doubt = refresher.wake
            driver.keep_running(refresher.run())
        file = database_file(settings.database_url)
        operations = Operations(storage, driver.import_update, file, driver.worker.run, driver.devices.read_revocations)
        if file is not None:
            await stack.enter_async_context(ControlServer(control_path(file), operations))
        yield driver
