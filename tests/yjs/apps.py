"""Yjs apps in a Node process of their own, as a test sees them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from tests.yjs.packages import SCRIPTS, node_folder

WITHIN_S = 15.0
ANSWER_BYTES_MAX = 64 << 20


class Apps:
    """All apps of one Node process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._turn = asyncio.Lock()

    async def do(self, doing: str, **args: Any) -> Any:
        """What the process answers to a command. Fails the test where it stumbles."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        async with self._turn, asyncio.timeout(WITHIN_S):
            self._process.stdin.write(json.dumps({"doing": doing, **args}).encode() + b"\n")
            await self._process.stdin.drain()
            line = await self._process.stdout.readline()
        assert line, "the process has ended"
        answer = json.loads(line)
        assert "error" not in answer, answer["error"]
        return answer["value"]

    async def y_websocket(self, app: str, url: str, room: str = "main", **options: Any) -> App:
        """An app with y-websocket on `url/room`."""
        await self.do("open", app=app, url=url, room=room, **options)
        return App(self, app)

    async def socket(self, name: str, url: str, **options: Any) -> None:
        """A Hocuspocus socket, for apps to share."""
        await self.do("socket", socket=name, url=url, **options)

    async def hocuspocus(self, app: str, socket: str, room: str = "main", **options: Any) -> App:
        await self.do("attach", app=app, socket=socket, room=room, **options)
        return App(self, app)


class App:
    """A Yjs document and its provider."""

    def __init__(self, apps: Apps, name: str) -> None:
        self._apps = apps
        self.name = name

    async def run(self, code: str) -> Any:
        """Run JavaScript with `doc`, `Y`, `provider`, `awareness` and a `state` that lasts."""
        return await self._apps.do("run", app=self.name, code=code)

    async def do(self, doing: str, **args: Any) -> Any:
        return await self._apps.do(doing, app=self.name, **args)

    async def type(self, text: str, at: int = 0) -> None:
        await self.run(f"doc.getText('body').insert({at}, {json.dumps(text)})")

    async def get(self, kind: str = "text", name: str = "body") -> Any:
        return await self.do("get", kind=kind, name=name)

    async def status(self) -> dict[str, Any]:
        status: dict[str, Any] = await self.do("status")
        return status

    async def until(self, condition: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
        """Its status, once the condition holds of it."""
        status: dict[str, Any] = await eventually(self.status, condition)
        return status

    async def synced(self) -> None:
        await self.until(lambda status: status["synced"])

    async def saved(self) -> None:
        """Every edit was acknowledged (Hocuspocus)."""
        await self.until(lambda status: status["unsynced"] == 0)

    async def has(self, value: Any, kind: str = "text", name: str = "body") -> None:
        await eventually(lambda: self.get(kind, name), lambda found: found == value)


async def eventually(read: Callable[[], Any], condition: Callable[[Any], object], within_s: float = WITHIN_S) -> Any:
    """What is read, once the condition holds of it."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within_s
    while not condition(found := await read()):
        assert loop.time() < deadline, f"not within {within_s} s: {found}"
        await asyncio.sleep(0.01)
    return found


@asynccontextmanager
async def node_apps() -> AsyncIterator[Apps]:
    process = await asyncio.create_subprocess_exec(
        "node", str(SCRIPTS / "client.mjs"), cwd=node_folder(),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=ANSWER_BYTES_MAX,
    )  # fmt: skip
    try:
        yield Apps(process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        if process.returncode is None:
            process.kill()
        await process.wait()
