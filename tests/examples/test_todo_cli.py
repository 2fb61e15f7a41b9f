"""The to-do list as its user runs it, with the server up and down."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from crdt.protocol.frames import PATH
from examples.todo_cli.__main__ import main
from tests.server_fixture import make_token, running_server

NOWHERE = f"ws://127.0.0.1:1{PATH}"


class Device:
    """Somebody's terminal."""

    def __init__(self, folder: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
        self._store = folder / f"{name}.db"
        self._token = make_token("alice", name)
        self._capsys = capsys
        self.url = NOWHERE
        self.complaint = ""

    async def run(self, *command: str, code: int = 0) -> str:
        """What the command wrote; beside the tests' loop, in which the server may run."""
        options = ("--url", self.url, "--token", self._token, "--store", str(self._store))
        assert await asyncio.to_thread(main, [*options, *command]) == code
        written, self.complaint = self._capsys.readouterr()
        return written


@pytest.fixture
def device(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[[str], Device]:
    return lambda name: Device(tmp_path, name, capsys)


async def test_all_works_without_a_server_and_syncs_when_there_is_one(
    tmp_path: Path, device: Callable[[str], Device]
) -> None:
    phone, laptop = device("phone"), device("laptop")
    assert "1 edits wait" in await phone.run("add", "buy milk")
    await phone.run("add", "call grandma")
    await phone.run("done", "1")
    listed = await phone.run("list")
    assert "1 [x] buy milk" in listed
    assert "2 [ ] call grandma" in listed
    assert "wait on this device" in listed

    async with running_server(tmp_path) as server:
        phone.url = laptop.url = server.url
        assert await phone.run("sync") == "all 2 tasks are on the server\n"
        assert await laptop.run("sync") == "all 2 tasks are on the server\n"
        assert await laptop.run("add", "water plants") == "added: water plants\n"  # the moment was enough
        await laptop.run("remove", "2")
        await phone.run("sync")
        assert await phone.run("list") == "  1 [x] buy milk\n  2 [ ] water plants\n"


async def test_what_two_devices_did_apart_is_merged(tmp_path: Path, device: Callable[[str], Device]) -> None:
    phone, laptop = device("phone"), device("laptop")
    async with running_server(tmp_path) as server:
        phone.url = laptop.url = server.url
        await phone.run("add", "pack")
        await laptop.run("sync")
        phone.url = laptop.url = NOWHERE
        await phone.run("done", "1")
        await laptop.run("add", "leave")
        phone.url = laptop.url = server.url
        for each in (phone, laptop, phone):
            await each.run("sync")
        assert await phone.run("list") == await laptop.run("list") == "  1 [x] pack\n  2 [ ] leave\n"


async def test_a_user_is_told_what_is_wrong(tmp_path: Path, device: Callable[[str], Device]) -> None:
    phone = device("phone")
    await phone.run("done", "7", code=1)
    assert phone.complaint == "todo: there is no task 7: there are 0\n"
    async with running_server(tmp_path) as server:
        phone.url = server.url
        phone._token = make_token("alice", "phone", ttl_s=-60)
        await phone.run("sync", code=1)
        assert "Log in again" in phone.complaint
