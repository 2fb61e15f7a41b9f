"""The embedded example as its user runs it: a process of uvicorn's, killed and started again."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from socket import create_server

import httpx
from websockets.asyncio.client import connect

from crdt.replica import Replica
from server.yjs import messages
from tests.integration.server_peers import WITHIN_S, new_device, text_updates, write
from tests.server_fixture import SECRET, make_token
from tests.support import wait_until

START_S = 20.0
ROOT = Path(__file__).parents[2]


def free_port() -> int:
    with create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


@asynccontextmanager
async def running(folder: Path, port: int) -> AsyncIterator[Process]:
    """The app; what it logs goes to a file. It is killed at the end, unless it has ended."""
    with (folder / "log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "uvicorn", "--factory", "examples.embedded.app:create", "--port", str(port),
            "--no-access-log", "--timeout-graceful-shutdown", "5",
            cwd=ROOT, stdout=log, stderr=log,
            env=os.environ | {
                "SYNCLINE_JWT_SECRET": SECRET, "SYNCLINE_DATABASE_URL": f"sqlite:///{folder / 'guests.db'}",
            },
        )  # fmt: skip
    try:
        await wait_until(lambda: b"running on" in (folder / "log").read_bytes() or process.returncode, START_S)
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        (folder / "log").unlink()


async def post(client: httpx.AsyncClient, update: bytes) -> httpx.Response:
    headers = {"Content-Type": "application/octet-stream", "Idempotency-Key": "guest-1"}
    return await client.post("/live/v1/docs/guests/updates", content=update, headers=headers)


async def test_all_ways_in_and_a_kill_between_them(tmp_path: Path) -> None:
    port, token = free_port(), make_token("alice", "web")
    (update,) = text_updates(7, ["by a backend. "])
    async with httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{port}",
        trust_env=False,
        timeout=WITHIN_S,
        headers={"Authorization": f"Bearer {token}"},
    ) as client:
        async with running(tmp_path, port) as app, new_device(f"ws://127.0.0.1:{port}/live/v1/sync") as phone:
            first = (await post(client, update)).json()
            assert (first["seq"], first["changed"]) == (1, True)
            guests = await phone.open("guests")
            write(guests, "from a phone")
            await guests.wait_durable(WITHIN_S)
            app.send_signal(signal.SIGKILL)
            await app.wait()
        async with running(tmp_path, port) as app:
            again = (await post(client, update)).json()
            assert (again["seq"], again["changed"]) == (0, False)
            values = (await client.get("/live/v1/docs/guests")).json()
            assert values == guests.values()
            async with connect(f"ws://127.0.0.1:{port}/live/yjs/guests?token={token}", proxy=None) as tab:
                await tab.send(messages.step_1(Replica().state_vector_bytes()))
                answer = messages.read_message(await tab.recv(decode=False))
                assert isinstance(answer, messages.Changes)
                assert Replica.load([answer.update]).values() == values
            app.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(app.wait(), WITHIN_S) in (0, -signal.SIGTERM)
