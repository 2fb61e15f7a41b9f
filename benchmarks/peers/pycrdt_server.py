"""A pycrdt-websocket server with its SQLite store, on uvicorn and uvloop. Runs in an environment of its own.

Arguments: the port to listen on at 127.0.0.1, and the folder of the store. Each document has a SQLite file of its own:
with one for all, as the store is by default, busy rooms lock one another out and lose what they had to write. There are
no pings: under load the answers wait so long for their turn that the server would close the connections.
"""

# mypy: ignore-errors

from __future__ import annotations

import sys
from contextlib import suppress

import uvicorn
from pycrdt.store import SQLiteYStore, YDocNotFound
from pycrdt.websocket import ASGIServer, WebsocketServer, YRoom, exception_logger


class Store(SQLiteYStore):
    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.db_path = f"{sys.argv[2]}/{name.strip('/')}.db"


class Rooms(WebsocketServer):
    """Rooms that load what is stored of them before they serve it."""

    async def get_room(self, name: str) -> YRoom:
        if name in self.rooms:
            room = self.rooms[name]
            await room.ready_event.wait()
            return room
        room = self.rooms[name] = YRoom(ready=False, ystore=Store(name), exception_handler=exception_logger)
        await self.start_room(room)
        await room.ystore.started.wait()
        with suppress(YDocNotFound):
            await room.ystore.apply_updates(room.ydoc)
        room.ready = True
        await room.ydoc_observed.wait()
        return room


rooms = Rooms(exception_handler=exception_logger)
sockets = ASGIServer(rooms)


async def app(scope, receive, send):
    if scope["type"] != "lifespan":
        await sockets(scope, receive, send)
        return
    await receive()
    async with rooms:
        await send({"type": "lifespan.startup.complete"})
        await receive()
    await send({"type": "lifespan.shutdown.complete"})


if __name__ == "__main__":
    uvicorn.run(
        app, host="127.0.0.1", port=int(sys.argv[1]), loop="uvloop", http="httptools", ws="websockets-sansio",
        ws_per_message_deflate=False, ws_ping_interval=None, log_level="warning", access_log=False,
    )  # fmt: skip
