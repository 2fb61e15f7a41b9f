"""The fake server behind real sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from crdt.protocol.frames import SUBPROTOCOL
from tests.unit.client_sim.fake_server import FakeServer, Session


class SocketServer:
    def __init__(self, core: FakeServer) -> None:
        self.core = core
        self.url = ""
        self.sockets: dict[Session, ServerConnection] = {}

    async def close_all(self, code: int, reason: str = "") -> None:
        for socket in list(self.sockets.values()):
            await socket.close(code, reason)

    async def handle(self, socket: ServerConnection) -> None:
        session = self.core.connect()
        self.sockets[session] = socket
        try:
            async for message in socket:
                assert isinstance(message, bytes)
                session.receive(message)
                await self.flush()
        except ConnectionClosed:
            pass
        finally:
            session.leave()
            del self.sockets[session]

    async def flush(self) -> None:
        for session, socket in list(self.sockets.items()):
            while session.outgoing:
                await socket.send(session.outgoing.popleft())


@asynccontextmanager
async def serving(core: FakeServer) -> AsyncIterator[SocketServer]:
    server = SocketServer(core)
    async with serve(
        server.handle, "127.0.0.1", 0, subprotocols=[Subprotocol(SUBPROTOCOL)], compression=None, close_timeout=1
    ) as listening:
        port = next(iter(listening.sockets)).getsockname()[1]
        server.url = f"ws://127.0.0.1:{port}/v1/sync"
        yield server
