"""The one port of a server: accepts connections, and ends them all."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable

from starlette.applications import Starlette

from server.runtime.acceptor import Acceptor, listening_sockets
from server.runtime.handshake import Handshake
from server.runtime.http import HttpServer
from server.runtime.transport import Entrance, Shared, Sink, TransportCounters, TransportOptions


class Listener:
    """To end: `stop_accepting`, `close_all`, then `wait_closed`."""

    def __init__(self, acceptor: Acceptor, address: tuple[str, int], shared: Shared, http: HttpServer) -> None:
        self._acceptor = acceptor
        self._shared = shared
        self._http = http
        self.address = address

    @classmethod
    async def open(
        cls,
        host: str,
        port: int,
        *,
        sink: Sink,
        app: Starlette,
        on_error: Callable[[Exception], None],
        options: TransportOptions | None = None,
        tls: ssl.SSLContext | None = None,
        entrance: Entrance | None = None,
    ) -> Listener:
        """Listen; port 0 takes a free one. Raises OSError where that is not possible, as when the port is in use.

        `app` serves every path but that of the protocol, and those that `entrance` takes. `on_error` is told what the
        sink raises.
        """
        options = options or TransportOptions()
        sockets = await listening_sockets(host, port, options.accept_backlog)
        address = sockets[0].getsockname()[:2]
        shared = Shared.of(sink, options, on_error, entrance)
        http = HttpServer(app, shared)
        acceptor = Acceptor(sockets, shared, tls, lambda: Handshake(shared, http.protocol))
        return cls(acceptor, address, shared, http)

    @property
    def counters(self) -> TransportCounters:
        return self._shared.counters

    def stop_accepting(self) -> None:
        """New connections are refused by the kernel; those that there are go on."""
        self._acceptor.close()

    def close_all(self, code: int, reason: str) -> None:
        """Send every WebSocket a close frame, and end every other connection after the request that it answers."""
        for member in self._shared.members.all():
            member.shut_down(code, reason)

    async def wait_closed(self, within_s: float) -> None:
        """Wait for the connections to end, and cut those that have not within `within_s`. Stop accepting before."""
        try:
            async with asyncio.timeout(within_s):
                await self._shared.members.wait_gone()
        except TimeoutError:
            for member in self._shared.members.all():
                member.abort()
            await self._shared.members.wait_gone()
        await self._http.wait_closed()
