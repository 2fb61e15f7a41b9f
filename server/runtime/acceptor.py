"""Takes connections from the kernel: a few in a turn of the loop, and each one counted before anything is spent on it.

The loop's own server accepts all that wait in one turn, negotiates TLS with any number of them at once, and stops
listening for good where descriptors run out.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import Final

import structlog

from server.runtime.handshake import Handshake
from server.runtime.transport import Shared

ACCEPTS_PER_TURN: Final = 8
REST_S: Final = 0.1
"""How long to take nothing, where the kernel has no descriptor left for us."""


async def listening_sockets(host: str, port: int, backlog: int) -> list[socket.socket]:
    """One for each address of `host`. Raises OSError."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    sockets: list[socket.socket] = []
    try:
        for family, _, _, _, address in dict.fromkeys(found):
            sockets.append(socket.create_server(address, family=family, backlog=backlog))
            sockets[-1].setblocking(False)
    except OSError:
        for listening in sockets:
            listening.close()
        raise
    return sockets


class Acceptor:
    """Takes connections from its making until `close`."""

    def __init__(
        self,
        sockets: list[socket.socket],
        shared: Shared,
        tls: ssl.SSLContext | None,
        handshake: Callable[[], Handshake],
    ) -> None:
        self._sockets = sockets
        self._shared = shared
        self._tls = tls
        self._handshake = handshake
        self._resting: dict[socket.socket, asyncio.TimerHandle] = {}
        for listening in sockets:
            shared.loop.add_reader(listening, self._accept, listening)

    def close(self) -> None:
        """From now on the kernel refuses new connections. Closing twice is closing once."""
        for timer in self._resting.values():
            timer.cancel()
        for listening in self._sockets:
            self._shared.loop.remove_reader(listening)
            listening.close()
        self._sockets = []

    def _accept(self, listening: socket.socket) -> None:
        is_crowd = len(self._shared.lobby) > 0
        for _ in range(ACCEPTS_PER_TURN if is_crowd else 1):  # to look for another costs as much as to take one
            try:
                accepted, peername = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as exc:
                self._rest(listening, exc)
                return
            accepted.setblocking(False)
            handshake = self._handshake()
            handshake.begin(peername, self._connect(accepted, handshake))

    async def _connect(self, accepted: socket.socket, handshake: Handshake) -> None:
        """Returns when the handshake has its transport. Raises OSError where TLS fails."""
        options = self._shared.options
        await self._shared.loop.connect_accepted_socket(
            lambda: handshake,
            accepted,
            ssl=self._tls,
            ssl_handshake_timeout=options.open_timeout_s if self._tls else None,
            ssl_shutdown_timeout=options.close_timeout_s if self._tls else None,
        )

    def _rest(self, listening: socket.socket, exc: OSError) -> None:
        """Else the loop would call again at once, and for ever, about what can not be taken."""
        structlog.get_logger("syncline").error("accept_failed", reason=exc.strerror)
        loop = self._shared.loop
        loop.remove_reader(listening)
        self._resting[listening] = loop.call_later(REST_S, loop.add_reader, listening, self._accept, listening)
