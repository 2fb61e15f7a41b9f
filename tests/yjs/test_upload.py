"""Apps that come with more than an update may have: all of it goes in, by parts."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from crdt.ids import DocumentId
from crdt.limits import Limits
from crdt.replica import Replica
from crdt.update import STRUCTS_MAX
from server.runtime.transport import TransportOptions
from tests.server_fixture import RunningServer, make_token, running_server
from tests.yjs.apps import eventually, node_apps

SOAK = bool(os.environ.get("SYNCLINE_SOAK"))
STRUCTS = 100_000 if SOAK else STRUCTS_MAX + 5_000
GOES_IN_WITHIN_S = 600 if SOAK else 60
WORD_SIZE = 45
"""UTF-16 units of each; a struct takes 55 bytes."""

WROTE_OFFLINE = f"""
  const text = doc.getText('body')
  doc.transact(() => {{ for (let n = 0; n < {STRUCTS}; n++) text.insert(0, String(n).padStart({WORD_SIZE}, '.')) }})
  return Y.encodeStateAsUpdate(doc).length
"""

LENGTH = "return doc.getText('body').length"


@asynccontextmanager
async def roomy_server(folder: Path) -> AsyncIterator[RunningServer]:
    async with running_server(folder, transport=TransportOptions(message_bytes_max=8 << 20)) as server:
        yield server


async def test_a_first_upload_with_y_websocket(tmp_path: Path) -> None:
    async with roomy_server(tmp_path) as server, node_apps() as apps:
        host, port = server.address
        url, token = f"ws://{host}:{port}/yjs", make_token("alice", "web")
        alice = await apps.y_websocket("a", url, token=token, connect=False)
        assert await alice.run(WROTE_OFFLINE) > Limits().update_bytes
        await alice.do("connect")
        other = await apps.y_websocket("b", url, token=token)
        await eventually(lambda: other.run(LENGTH), lambda length: length == STRUCTS * WORD_SIZE, GOES_IN_WITHIN_S)
        await other.type("and on")
        await eventually(lambda: alice.run(LENGTH), lambda length: length == STRUCTS * WORD_SIZE + 6)
        assert await alice.get() == await other.get()
        assert (await alice.status())["closes"] == []


async def test_a_first_upload_with_hocuspocus_is_saved_once_all_of_it_is_durable(tmp_path: Path) -> None:
    async with roomy_server(tmp_path) as server, node_apps() as apps:
        host, port = server.address
        await apps.socket("s", f"ws://{host}:{port}/hocuspocus")
        alice = await apps.hocuspocus("a", "s", token=make_token("alice", "web"), connect=False)
        await alice.run(WROTE_OFFLINE)
        await alice.run("provider.attach()")
        await eventually(alice.status, lambda status: status["synced"] and not status["unsynced"], GOES_IN_WITHIN_S)
        found = await server.storage.load(DocumentId("alice", "main"))
        assert len(Replica.load(found.state_updates()).values()["body"]) == STRUCTS * WORD_SIZE
