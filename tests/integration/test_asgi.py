"""Syncline mounted in another app, which uvicorn serves with each of its WebSocket implementations."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import httpx
import pytest
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from crdt.protocol.frames import SUBPROTOCOL
from examples.embedded.app import guest_book
from server.asgi import Syncline
from server.core.ports import StorageError
from server.yjs import messages
from tests.integration.asgi_hosts import django_host, fastapi_host
from tests.integration.openapi import checked
from tests.integration.server_peers import WITHIN_S, converged, new_device, text_updates, write
from tests.integration.test_yjs_sockets import Peer
from tests.log_watch import watched_logs
from tests.server_fixture import SECRET, make_token
from tests.support import wait_until

logging.getLogger("httpx").setLevel(logging.WARNING)  # it logs URLs


def syncline(folder: Path, **settings: Any) -> Syncline:
    return Syncline(database_url=f"sqlite:///{folder / 'syncline.db'}", jwt_secret=SECRET, **settings)


@asynccontextmanager
async def served(app: ASGIApp, ws: Literal["websockets-sansio", "wsproto", "auto"] = "auto") -> AsyncIterator[str]:
    """An app behind uvicorn in this loop: its address, as host and port."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, ws=ws, log_config=None, timeout_graceful_shutdown=2))
    with watched_logs():
        serving = asyncio.create_task(server.serve())
        try:
            await wait_until(lambda: server.started or serving.done())
            host, port = server.servers[0].sockets[0].getsockname()
            yield f"{host}:{port}"
        finally:
            server.should_exit = True
            await serving


@asynccontextmanager
async def y_peer(at: str, query: str, **options: Any) -> AsyncIterator[Peer]:
    async with connect(f"ws://{at}/live/yjs/main{query}", compression=None, proxy=None, **options) as socket:
        yield Peer(socket)


@pytest.mark.parametrize("host", [guest_book, fastapi_host, django_host])
async def test_native_and_yjs_sockets_and_http_share_documents_under_a_path(
    tmp_path: Path, host: Callable[[Syncline], ASGIApp]
) -> None:
    app = host(syncline(tmp_path))
    async with served(app) as at, new_device(f"ws://{at}/live/v1/sync") as phone:
        main = await phone.open("main")
        write(main, "from a phone, ")
        await main.wait_durable(WITHIN_S)
        headers = {"Authorization": f"Bearer {make_token('alice', 'backend')}"}
        async with (
            y_peer(at, f"?token={make_token('alice', 'web')}") as peer,
            httpx.AsyncClient(
                base_url=f"http://{at}",
                headers=headers,
                trust_env=False,
                timeout=WITHIN_S,
                event_hooks={"response": [checked]},
            ) as client,
        ):
            await peer.sync()
            assert peer.replica.values() == {"body": "from a phone, "}
            (update,) = text_updates(9, ["by a backend"])
            posted = await client.post(
                "/live/v1/docs/main/updates",
                content=update,
                headers={"Content-Type": "application/octet-stream"},
            )
            assert posted.status_code == 200
            await peer.say(messages.update_message(text_updates(8, [", in a tab"])[0]))
            await wait_until(lambda: len(main.values().get("body", "")) == 36)
            answer = await client.get("/live/v1/docs/main")
            assert answer.json() == main.values()
            assert (await client.get("/live/v1/openapi.json")).json()["servers"] == [{"url": "/live"}]
            assert (await client.get("/live/healthz")).text == "ok\n"
            assert "syncline_sessions" in (await client.get("/live/metrics")).text
            assert (await client.get("/")).json()["sync"] == "/live/v1/sync"


async def test_large_messages_and_signs_of_life_go_out(tmp_path: Path) -> None:
    app = syncline(tmp_path, heartbeat_s=0.1)
    async with served(app) as at:
        url = f"ws://{at}/v1/sync"
        async with new_device(url) as phone, new_device(url, "tablet") as tablet:
            main, other = await phone.open("main"), await tablet.open("main")
            write(main, "much text " * 50_000)
            await main.wait_durable(WITHIN_S)
            await converged(main, other)
        async with connect(f"ws://{at}/yjs/main?token={make_token('alice', 'web')}", compression=None) as socket:
            peer = Peer(socket)
            await peer.sync()
            assert peer.replica.values() == main.values()
            async with asyncio.timeout(WITHIN_S):
                while await socket.recv() != messages.NOBODY_NEW:
                    pass


async def test_a_server_that_ends_says_goodbye_and_keeps_everything(tmp_path: Path) -> None:
    for text in ("before. ", "after."):
        async with served(syncline(tmp_path)) as at, new_device(f"ws://{at}/v1/sync", text.strip(" .")) as phone:
            main = await phone.open("main")
            await main.wait_current(WITHIN_S)
            write(main, text)
            await main.wait_durable(WITHIN_S)
    assert main.values() == {"body": "before. after."}


async def test_the_lifespan_drains(tmp_path: Path) -> None:
    """Whatever the server around does: sockets are told, with the code that brings devices back."""
    app = syncline(tmp_path)
    async with app.lifespan():
        said, heard = asyncio.Queue[dict[str, Any]](), asyncio.Queue[dict[str, Any]]()
        said.put_nowait({"type": "websocket.connect"})
        scope: Scope = {
            "type": "websocket", "path": "/v1/sync", "headers": [], "query_string": b"", "subprotocols": [SUBPROTOCOL],
        }  # fmt: skip
        serving = asyncio.create_task(app(scope, said.get, lambda message: heard.put(dict(message))))
        assert (await heard.get()) == {"type": "websocket.accept", "subprotocol": SUBPROTOCOL, "headers": []}
        assert (await heard.get())["type"] == "websocket.send"
    await serving
    assert (await heard.get())["code"] == 1012


# --- who is let in


async def test_what_the_own_port_refuses_is_refused_here(tmp_path: Path) -> None:
    refusals: list[tuple[str, dict[str, str], int]] = [
        ("/v1/sync?token=x", {}, 400),
        ("/elsewhere", {}, 404),
        ("/v1/sync", {"Origin": "https://evil.example"}, 403),
        ("/yjs/main", {"Origin": "https://evil.example"}, 403),
        ("/hocuspocus?token=x", {}, 400),
        ("/v1/sync", {"Sec-WebSocket-Protocol": "other"}, 400),
    ]
    async with served(syncline(tmp_path, origins="https://app.example.com")) as at:
        for path, headers, status in refusals:
            with pytest.raises(InvalidStatus) as refused:
                await connect(f"ws://{at}{path}", additional_headers=headers, proxy=None)
            assert refused.value.response.status_code == status, path
        allowed = {"Origin": "https://app.example.com"}
        async with connect(f"ws://{at}/v1/sync", additional_headers=allowed, proxy=None) as socket:
            await socket.send("text")
            assert await Peer(socket).closed_with() == (4400, "bad_frame")


async def test_sockets_are_counted(tmp_path: Path) -> None:
    async with served(syncline(tmp_path, sockets_max=1)) as at, connect(f"ws://{at}/v1/sync", proxy=None):
        with pytest.raises(InvalidStatus) as refused:
            await connect(f"ws://{at}/v1/sync", proxy=None)
        assert refused.value.response.status_code == 503
        assert int(refused.value.response.headers["Retry-After"]) >= 1


async def test_messages_are_bounded(tmp_path: Path) -> None:
    async with served(syncline(tmp_path)) as at, connect(f"ws://{at}/v1/sync", proxy=None) as socket:
        await socket.send(bytes(257 << 10))
        assert await Peer(socket).closed_with() == (1009, "too_big")
    async with (
        served(guest_book(syncline(tmp_path))) as at,
        y_peer(at, f"?token={make_token('alice', 'web')}") as peer,
    ):
        await peer.sync()
        await peer.say(messages.update_message(bytes(4 << 20)))
        assert await peer.closed_with() == (4413, "too_big")


async def test_a_tokens_end_ends_the_socket(tmp_path: Path) -> None:
    async with served(guest_book(syncline(tmp_path))) as at, y_peer(at, "?token=no.token.this") as peer:
        assert await peer.closed_with() == (4401, "bad_token")


# --- one store, one process


async def test_a_second_worker_is_told_why_it_can_not_start(tmp_path: Path) -> None:
    async with syncline(tmp_path).lifespan():
        with pytest.raises(StorageError, match="is in use by process"):
            async with syncline(tmp_path).lifespan():
                raise AssertionError("unreachable")


async def test_nothing_is_served_outside_of_the_lifespan(tmp_path: Path) -> None:
    app = syncline(tmp_path)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        assert (await client.get("/v1/docs/main")).status_code == 503


async def test_an_app_without_a_lifespan_has_it_beside(tmp_path: Path) -> None:
    async def pages(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http", "Django takes no lifespan"
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": scope["path"].encode()})

    async with served(syncline(tmp_path).beside(pages, at="/live")) as at:
        async with httpx.AsyncClient(base_url=f"http://{at}", trust_env=False) as client:
            assert (await client.get("/elsewhere")).text == "/elsewhere"
            assert (await client.get("/lively")).text == "/lively"
            assert (await client.get("/live/healthz")).text == "ok\n"
        async with y_peer(at, f"?token={make_token('alice', 'web')}") as peer:
            await peer.sync()
