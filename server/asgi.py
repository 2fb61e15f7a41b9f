"""Syncline within another ASGI app: native and Yjs sockets, and documents over HTTP, under a path of its own.

    syncline = Syncline(database_url="sqlite:///data/syncline.db")
    app = Starlette(routes=[Mount("/live", syncline)], lifespan=syncline.lifespan)

One process, one event loop: the store belongs to the worker that opened it. docs/EMBEDDING.md has the rest.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from http import HTTPStatus
from typing import Any

import structlog
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from crdt.protocol.codes import CLOSE, Code
from server.config import ServeSettings, read_settings
from server.runtime import yjs_socket
from server.runtime.asgi_entry import Refusal, admitted, path_below
from server.runtime.asgi_socket import AsgiSocket
from server.runtime.driver import Driver
from server.runtime.http import Hardened, probes
from server.runtime.service import running_driver
from server.runtime.telemetry import Telemetry
from server.runtime.transport import Shared
from server.runtime.worker import prepare_workers


class Syncline:
    """An ASGI app. It serves while its `lifespan` is entered; before and after that it answers 503.

    Settings are those of `syncline serve`, as arguments or environment variables; those of the port, TLS and logs do
    not apply. Raises BadSetting.
    """

    def __init__(self, settings: ServeSettings | None = None, **given: Any) -> None:
        self._settings = settings or read_settings(ServeSettings, given)
        self._running: _Running | None = None

    @asynccontextmanager
    async def lifespan(self, app: object = None) -> AsyncIterator[None]:
        """Opens the store, and at the end saves what is queued, says goodbye, and closes it.

        Raises StorageError, BadKeys, OSError where that is not possible: another process may have the store.
        """
        settings, telemetry = self._settings, Telemetry()
        prepare_workers()
        async with running_driver(settings, telemetry) as driver:
            running = _Running(settings, driver, telemetry)
            telemetry.watch(running.shared.counters)
            self._running = running
            try:
                yield
            finally:
                self._running = None
                await running.end(settings.shutdown_timeout_s)

    def beside(self, app: ASGIApp, at: str) -> ASGIApp:
        """An app that has this one at a path as `/live`; `app`, which needs no lifespan, has all others (Django)."""
        return _Beside(self, app, at.rstrip("/"))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        match scope["type"]:
            case "lifespan":
                await self._live(receive, send)
            case "websocket" if self._running is not None:
                await self._running.websocket(scope, receive, send)
            case "http" if self._running is not None:
                await self._running.http(scope, receive, send)
            case "websocket":
                await WebSocket(scope, receive, send).close(CLOSE[Code.OVERLOADED])
            case _:
                answer = PlainTextResponse("Not running: enter the lifespan.\n", HTTPStatus.SERVICE_UNAVAILABLE)
                await answer(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        """As a top-level app, under a server that speaks ASGI's lifespan."""
        async with AsyncExitStack() as stack:
            await receive()
            try:
                await stack.enter_async_context(self.lifespan())
            except Exception as exc:
                await send({"type": "lifespan.startup.failed", "message": str(exc)})
                raise
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})


class _Running:
    """From the beginning of a lifespan to its end."""

    def __init__(self, settings: ServeSettings, driver: Driver, telemetry: Telemetry) -> None:
        self._log = structlog.get_logger("syncline")
        self._driver = driver
        self._is_ready = True
        self.shared = Shared.of(
            driver, settings.transport_options(), lambda error: self._log.error("sink_failed", exc_info=error)
        )  # fmt: skip
        self._app: Starlette = probes(telemetry.registry, lambda: self._is_ready, driver.api)
        self.http = Hardened(self._app)

    async def websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A WebSocket that is asked for, until its end."""
        path = path_below(scope)
        websocket = WebSocket(scope, receive, send)
        await receive()
        entry = admitted(path, scope, self.shared, self._driver.links)
        if isinstance(entry, Refusal):
            await self._deny(websocket, Response(entry.text, entry.status, entry.headers, "text/plain"))
            return
        await send({"type": "websocket.accept", "subprotocol": entry.subprotocol, "headers": []})
        yjs = self._driver.links.sink(path, self.shared.loop) if entry.is_yjs else None
        socket = AsgiSocket(self.shared, yjs or self._driver, entry.address, receive, send)
        if yjs is None:
            await socket.run(entry.token)
        else:
            await socket.run(entry.token, yjs.SIGN_OF_LIFE, yjs_socket.TOO_BIG)

    async def _deny(self, websocket: WebSocket, answer: Response) -> None:
        self.shared.counters.handshakes_refused += 1
        if "websocket.http.response" in websocket.scope.get("extensions", {}):
            await websocket.send_denial_response(answer)
        else:
            await websocket.close()

    async def end(self, within_s: float) -> None:
        """Save what is queued, and end all sockets; what is left when the time is over is cut."""
        self._is_ready = False
        try:
            async with asyncio.timeout(within_s):
                await self._driver.drain()
                await self.shared.members.wait_gone()
        except TimeoutError:
            self._log.error("stopped_unsaved")
            for member in self.shared.members.all():
                member.abort()
            await self.shared.members.wait_gone()


class _Beside:
    def __init__(self, syncline: Syncline, app: ASGIApp, at: str) -> None:
        self._syncline = syncline
        self._app = app
        self._at = at
        self._inside = re.compile(re.escape(at) + "(/|$)")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._syncline(scope, receive, send)
        elif self._inside.match(path_below(scope)):
            inner = dict(scope) | {"root_path": scope.get("root_path", "") + self._at}
            await self._syncline(inner, receive, send)
        else:
            await self._app(scope, receive, send)
