"""One WebSocket of a device, from the attempt to its end."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import TypeAlias
from urllib.parse import urlsplit, urlunsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI, WebSocketException
from websockets.typing import Subprotocol

from client_sim.core.effects import CloseConnection
from client_sim.core.events import ConnectionLost, ConnectionMade, LinkEvent, MessageReceived
from client_sim.core.reasons import COME_BACK_LATER, WRONG_ADDRESS
from crdt.protocol.frames import SUBPROTOCOL

OPEN_S = 15.0
CLOSE_S = 2.0
"""What is still to be sent, and the closing handshake, have this long."""

SERVER_MESSAGE_BYTES = 32 << 20
"""The longest message taken: far more than a server sends, which cuts long answers into chunks."""

_BUSY = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS)

Dial: TypeAlias = Callable[..., Awaitable[ClientConnection]]
"""Makes the attempt to connect: the library's `connect`, or what takes the same and has a network of its own."""


def failed(url: str, exc: Exception) -> ConnectionLost:
    """An attempt that came to nothing: what was tried, and what came back, without what a URL may have of secrets."""
    if isinstance(exc, InvalidStatus):
        status = exc.response.status_code
        why = COME_BACK_LATER if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in _BUSY else WRONG_ADDRESS
        return ConnectionLost(None, f"{shown(url)}: HTTP {status} {exc.response.reason_phrase}".rstrip(), why)
    broke_off = isinstance(exc.__cause__, EOFError | OSError)  # who hangs up has not said what it is
    answered = isinstance(exc, InvalidURI | InvalidHandshake | ssl.SSLError | ValueError) and not broke_off
    what = f"that is no valid URI: {exc.msg}" if isinstance(exc, InvalidURI) else f"{type(exc).__name__}: {exc}"
    return ConnectionLost(None, f"{shown(url)}: {what}", WRONG_ADDRESS if answered else None)


def shown(url: str) -> str:
    """Without user, password and query, and so that any log takes it."""
    try:
        parts = urlsplit(url)
        bare = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
        return bare.encode(errors="backslashreplace").decode()
    except ValueError:
        return "the server's address"


class Connection:
    """Feeds what happens to it. `run` is its life; `send` and `hang_up` do not wait."""

    def __init__(self, url: str, feed: Callable[[Connection, LinkEvent], None], dial: Dial = connect) -> None:
        self._url = url
        self._dial = dial
        self._feed = feed
        self._outgoing: asyncio.Queue[bytes | CloseConnection] = asyncio.Queue()
        self._life = asyncio.timeout(None)
        self._running = self._up = self._hung_up = False

    def send(self, data: bytes) -> None:
        self._outgoing.put_nowait(data)

    def hang_up(self, close: CloseConnection) -> None:
        """Close after what was sent, or give up the attempt; in any case soon."""
        self._outgoing.put_nowait(close)
        self._hung_up = True
        if self._running:
            self._life.reschedule(asyncio.get_running_loop().time() + (CLOSE_S if self._up else 0.0))

    async def run(self) -> None:
        if self._hung_up:
            return
        try:
            async with self._life:
                self._running = True
                lost = await self._attempt()
        except TimeoutError:
            lost = ConnectionLost(None, "hung up")
        finally:
            self._running = False
        self._feed(self, lost)

    async def _attempt(self) -> ConnectionLost:
        try:
            socket = await self._dial(
                self._url,
                subprotocols=[Subprotocol(SUBPROTOCOL)],
                compression=None,
                proxy=None,
                open_timeout=OPEN_S,
                close_timeout=CLOSE_S,
                ping_interval=None,
                max_size=SERVER_MESSAGE_BYTES,
            )
        except (OSError, TimeoutError, WebSocketException, ValueError) as exc:  # the last: the address is none
            return failed(self._url, exc)
        async with socket:
            self._up = True
            return await self._talk(socket)

    async def _talk(self, socket: ClientConnection) -> ConnectionLost:
        self._feed(self, ConnectionMade())
        async with asyncio.TaskGroup() as group:
            writer = group.create_task(self._write(socket))
            try:
                while True:
                    self._feed(self, MessageReceived(await socket.recv(decode=False)))
            except ConnectionClosed:
                writer.cancel()
        return ConnectionLost(socket.close_code, socket.close_reason or "")

    async def _write(self, socket: ClientConnection) -> None:
        try:
            while isinstance(item := await self._outgoing.get(), bytes):
                await socket.send(item)
            await socket.close(item.code, item.reason)
        except ConnectionClosed:
            pass  # the reader sees it too, and reports it
