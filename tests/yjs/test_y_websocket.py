"""Apps that use y-websocket, unchanged but for the URL."""

from __future__ import annotations

from pathlib import Path

from tests.integration.server_peers import converged, new_device, write
from tests.server_fixture import RunningServer, make_token, running_server
from tests.yjs.apps import node_apps


def yjs_url(server: RunningServer) -> str:
    host, port = server.address
    return f"ws://{host}:{port}/yjs"


async def test_an_edit_reaches_a_native_device_and_back(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, node_apps() as apps, new_device(server.url) as device:
        document = await device.open("main")
        app = await apps.y_websocket("a", yjs_url(server), token=make_token("alice", "web"))
        await app.synced()
        await app.type("typed in an app")
        await converged(document, to={"body": "typed in an app"})
        write(document, " and on a phone")
        await app.has("typed in an app and on a phone")
