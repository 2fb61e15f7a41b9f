"""The to-do list as its user runs it, with the server up and down."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from client_sim import AsyncDevice
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


JUNK = "no token at all"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"--token": JUNK}, "the token is none"),
        ({"--token": make_token("alice", "a/b")}, "which device"),
        ({"--url": "http://127.0.0.1:8787"}, "no address"),
        ({"--url": "127.0.0.1:8787"}, "no address"),
        ({"--url": "ws://[::1"}, "no address"),
        ({"--url": "ws://127.0.0.1:99999"}, "no address"),
        ({"--store": "missing/todo.db"}, "can not be used"),
        ({"--store": "."}, "is a directory"),
    ],
)
def test_what_was_given_wrongly_is_one_line_and_a_code(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    given = {"--url": NOWHERE, "--token": make_token("alice", "phone"), "--store": "todo.db"} | options
    assert main([*(part for option in given.items() for part in option), "list"]) == 1
    complaint = capsys.readouterr().err
    assert said in complaint
    assert complaint.startswith("todo: ")
    assert complaint.count("\n") == 1


async def test_a_store_that_is_in_use_or_anothers_is_one_line(tmp_path: Path, device: Callable[[str], Device]) -> None:
    phone = device("phone")
    async with AsyncDevice(NOWHERE, token="t", device="phone", store=tmp_path / "phone.db"):
        await phone.run("list", code=1)
        assert phone.complaint.startswith("todo: what this device keeps can not be used now: ")
    phone._token = make_token("alice", "laptop")
    await phone.run("list", code=1)
    assert "belongs to the device 'phone'" in phone.complaint


async def test_a_task_that_is_too_long_is_one_line(device: Callable[[str], Device]) -> None:
    phone = device("phone")
    await phone.run("add", "a" * (2 << 20), code=1)
    assert "too long for one task" in phone.complaint
    assert await phone.run("list") == ""
