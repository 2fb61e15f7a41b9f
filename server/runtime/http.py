"""Plain HTTP on the same port: probes, metrics and documents, a Starlette app served by uvicorn's own protocol."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from server.runtime.api.routes import Api
from server.runtime.transport import Shared
from server.runtime.wire import SECURITY_HEADERS


def probes(registry: CollectorRegistry, is_ready: Callable[[], bool], api: Api | None = None) -> Starlette:
    """`/healthz`: the event loop turns. `/readyz`: send devices here. `/metrics`: the registry as Prometheus text.

    And documents, where there is an `api` to them.
    """

    async def healthz(request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(request: Request) -> Response:
        return PlainTextResponse("ready\n") if is_ready() else PlainTextResponse("not ready\n", status_code=503)

    async def metrics(request: Request) -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    routes = [Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", metrics)]
    routes += api.routes() if api is not None else []
    return Starlette(routes=routes)


class Hardened:
    """An app whose answers have the `SECURITY_HEADERS`, but where they say otherwise themselves."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_hardened(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS:
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, send_hardened)


class HttpServer:
    """Serves an app on transports that it is handed."""

    def __init__(self, app: Starlette, shared: Shared) -> None:
        self._config = Config(
            Hardened(app),
            lifespan="off",
            ws="none",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
        )
        self._config.load()
        self._state = ServerState()
        self._shared = shared

    def protocol(self, address: str) -> asyncio.Protocol:
        """For a connection from `address`, which is in the lobby as long as it lives."""
        return _HttpConnection(self._config, self._state, self._shared, address)

    async def wait_closed(self) -> None:
        """Cancel what still answers requests of connections that are gone, and wait for its end."""
        tasks = list(self._state.tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


class _HttpConnection(H11Protocol):
    """One connection, of any number of requests. uvicorn bounds the time between requests, not that of a slow one."""

    def __init__(self, config: Config, state: ServerState, shared: Shared, address: str) -> None:
        super().__init__(config, state, {}, shared.loop)
        self._shared = shared
        self._address = address

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._shared.members.add(self)
        self._shared.lobby.enter(self, self._address)
        self._lifetime = self._shared.loop.call_later(self._shared.options.http_lifetime_s, self._end)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._unset_keepalive_if_required()
        self._lifetime.cancel()
        self._shared.lobby.leave(self)
        self._shared.members.remove(self)

    def _end(self) -> None:
        """After the request that it answers, for which there is as long again."""
        self._lifetime = self._shared.loop.call_later(self._shared.options.http_lifetime_s, self.abort)
        self.shut_down(0, "")

    def shut_down(self, code: int, reason: str) -> None:
        if not self.transport.is_closing():
            self.shutdown()

    def give_way(self) -> None:
        self._shared.counters.crowded_out += 1
        self.abort()

    def abort(self) -> None:
        self.transport.abort()
