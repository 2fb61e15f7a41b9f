"""A phone and its restored backup on a real server, both with a key: two devices, and no edit is lost."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from client_sim.live import AsyncDevice, AsyncDocument, DeviceKey, Problem, State
from tests.integration.server_peers import WITHIN_S, Hasty, converged, write
from tests.server_fixture import RunningServer, make_token, running_server

KEY = DeviceKey.generate()


async def fetch_token(device: str) -> str:
    return make_token("alice", device, cnf={"jkt": KEY.thumbprint})


def clone(server: RunningServer, store: Path, problems: list[Problem]) -> AsyncDevice:
    return AsyncDevice(
        server.url, token=fetch_token, device="phone", store=store, key=KEY, rng=Hasty(), on_error=problems.append
    )


async def edit_slowly(document: AsyncDocument, words: list[str]) -> None:
    for word in words:
        write(document, word)
        await asyncio.sleep(0)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[RunningServer]:
    async with running_server(tmp_path) as server:
        yield server


async def test_two_clones_that_edit_at_once_end_with_the_edits_of_both(server: RunningServer, tmp_path: Path) -> None:
    problems: list[Problem] = []
    original, restored = tmp_path / "phone.db", tmp_path / "restored.db"
    async with clone(server, original, problems) as phone:
        notes = await phone.open()
        write(notes, "<both>")
        await notes.wait_durable(WITHIN_S)
        phone.disconnect()
        write(notes, "<pending>")
    shutil.copy(original, restored)
    words = {name: [f"<{name} {number}>" for number in range(30)] for name in ("old", "new")}
    async with clone(server, original, problems) as phone, clone(server, restored, problems) as backup:
        one, two = await phone.open(), await backup.open()
        await asyncio.gather(edit_slowly(one, words["old"]), edit_slowly(two, words["new"]))
        async with asyncio.timeout(WITHIN_S):
            while phone.name == backup.name or State.BLOCKED in (phone.status.state, backup.status.state):
                for device in (phone, backup):  # each app asks again, once it sees that it was superseded
                    await device.wait(lambda: device.status.state in (State.CURRENT, State.BLOCKED))  # noqa: B023
                    device.connect()
                    await asyncio.sleep(0)
        await converged(one, two)
        text = one.text("body")
        for word in ("<both>", "<pending>", *words["old"], *words["new"]):
            assert text.count(word) == 1, word
        assert sorted(device.name == "phone" for device in (phone, backup)) == [False, True]
    assert [problem.code for problem in problems if problem.code != "superseded"] == ["device_forked"]


@pytest.mark.parametrize("key", [None, DeviceKey.generate()])
async def test_a_stolen_token_is_of_no_use_without_the_key(server: RunningServer, key: DeviceKey | None) -> None:
    token = await fetch_token("phone")
    async with AsyncDevice(server.url, token=token, device="phone", key=key, rng=Hasty()) as thief:
        await thief.wait(lambda: thief.status.state is State.BLOCKED, WITHIN_S)
        assert thief.counters.connections == 0
