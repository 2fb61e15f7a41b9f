"""A real server in the test's own event loop: real sockets, real SQLite; the driver can be reached."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt

from crdt.protocol.frames import PATH
from server.core.auth import Authority, VerificationKey
from server.core.options import CoreOptions
from server.runtime.driver import Driver
from server.runtime.http import probes
from server.runtime.listener import Listener
from server.runtime.telemetry import Telemetry
from server.runtime.transport import TransportOptions
from server.runtime.worker import prepare_workers
from server.storage import SqlStorage, open_storage
from tests.log_watch import remember_token, watched_logs

SECRET = "a secret that only tests know, long enough"
AUDIENCE = "syncline"
ISSUER = "syncline-dev"
AUTHORITY = Authority((VerificationKey("HS256", SECRET.encode()),), AUDIENCE, ISSUER)


def make_token(
    user: str, device: str, *, ttl_s: float = 3600, docs: Mapping[str, str] | None = None, **claims: Any
) -> str:
    """A good token, or one with other `claims`."""
    now_s = time.time()
    payload = {
        "sub": user, "did": device, "iat": now_s, "exp": now_s + ttl_s,
        "aud": AUDIENCE, "iss": ISSUER, "jti": f"{now_s:.6f}", "docs": dict(docs or {}),
    }  # fmt: skip
    return remember_token(jwt.encode(payload | claims, SECRET, algorithm="HS256"))


prepare_workers()


@dataclass(frozen=True, slots=True)
class RunningServer:
    driver: Driver
    listener: Listener
    storage: SqlStorage
    telemetry: Telemetry

    @property
    def address(self) -> tuple[str, int]:
        return self.listener.address

    @property
    def url(self) -> str:
        host, port = self.listener.address
        return f"ws://{host}:{port}{PATH}"

    def metric(self, name: str, labels: Mapping[str, str] | None = None) -> float:
        """A metric's value now; 0 if it was never counted."""
        return self.telemetry.registry.get_sample_value(name, dict(labels or {})) or 0.0


@asynccontextmanager
async def running_server(
    folder: Path,
    *,
    port: int = 0,
    options: CoreOptions | None = None,
    transport: TransportOptions | None = None,
    authority: Authority = AUTHORITY,
) -> AsyncIterator[RunningServer]:
    """A server on `folder/syncline.db`; closed by cutting all connections, as a crash would, but tidily."""
    failures: list[Exception] = []
    with watched_logs():
        async with _running(folder, port, options or CoreOptions(), transport, authority, failures.append) as server:
            yield server
    assert not failures, failures


@asynccontextmanager
async def _running(
    folder: Path,
    port: int,
    options: CoreOptions,
    transport: TransportOptions | None,
    authority: Authority,
    on_error: Callable[[Exception], None],
) -> AsyncIterator[RunningServer]:
    telemetry = Telemetry()
    async with (
        open_storage(f"sqlite+aiosqlite:///{folder / 'syncline.db'}") as storage,
        Driver.running(storage, authority, options, telemetry) as driver,
    ):
        listener = await Listener.open(
            "127.0.0.1", port,
            sink=driver,
            entrance=driver.links,
            app=probes(telemetry.registry, lambda: True, driver.api),
            on_error=on_error,
            options=transport,
        )  # fmt: skip
        telemetry.watch(listener.counters)
        try:
            yield RunningServer(driver, listener, storage, telemetry)
        finally:
            listener.stop_accepting()
            await listener.wait_closed(0)
