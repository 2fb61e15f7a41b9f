"""Devices over real sockets."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from client_sim.core.ports import StoreError
from client_sim.live import AsyncDevice, AsyncDocument, Blocked, LoginRefused, Problem, State, Status
from crdt.protocol.frames import DeviceFrame, Hello, Push
from tests.support import wait_until
from tests.unit.client_sim.fake_server import FakeServer, Session
from tests.unit.client_sim.live.socket_server import serving

NOWHERE = "ws://127.0.0.1:1/v1/sync"


async def test_the_example_of_the_readme(tmp_path: Path) -> None:
    async with (
        serving(FakeServer()) as server,
        AsyncDevice(server.url, token="token", device="phone", store=tmp_path / "phone.db") as phone,
    ):
        notes = await phone.open("main")
        notes.edit(lambda roots: roots.text("body").append("Hello"))
        await notes.wait_durable()
        assert notes.values() == {"body": "Hello"}
        assert phone.user == "alice"
        assert phone.status == Status(State.CURRENT)


async def test_two_devices_see_each_other() -> None:
    async with (
        serving(FakeServer()) as server,
        AsyncDevice(server.url, token="t", device="phone") as phone,
        AsyncDevice(server.url, token="t", device="laptop") as laptop,
    ):
        one, two = await phone.open(), await laptop.open()
        await one.wait_current(within_s=5)
        await two.wait_current(within_s=5)
        one.edit(lambda roots: roots.text("body").append("a"))
        await laptop.wait(lambda: two.text("body") == "a", within_s=5)
        two.edit(lambda roots: roots.text("body").insert(1, "b"))
        await phone.wait(lambda: one.text("body") == "ab", within_s=5)
        one.set_presence(b"here")
        await laptop.wait(lambda: two.peers == {"alice/phone": b"here"}, within_s=5)


async def test_offline_edits_survive_the_process_and_arrive_later(tmp_path: Path) -> None:
    core = FakeServer()
    async with AsyncDevice(NOWHERE, token="t", device="phone", store=tmp_path / "phone.db") as phone:
        notes = await phone.open()
        notes.edit(lambda roots: roots.text("body").append("offline"))
        assert notes.pending == 1
        with pytest.raises(TimeoutError):
            await notes.wait_durable(within_s=0.01)
    async with (
        serving(core) as server,
        AsyncDevice(server.url, token="t", device="phone", store=tmp_path / "phone.db") as phone,
    ):
        notes = await phone.open()
        assert notes.text("body") == "offline"
        await notes.wait_current(within_s=5)
    assert core.room("main").replica.values() == {"body": "offline"}


async def test_a_closed_connection_comes_back() -> None:
    async with serving(FakeServer()) as server, AsyncDevice(server.url, token="t", device="phone") as phone:
        notes = await phone.open()
        await notes.wait_current(within_s=5)
        await server.close_all(1012, "shutting_down")
        await phone.wait(lambda: phone.status.state is State.OFFLINE, within_s=5)
        notes.edit(lambda roots: roots.text("body").append("x"))
        phone.reconnect()
        await notes.wait_durable(within_s=5)
        assert phone.counters.connections == 2


async def test_an_expired_token_is_fetched_anew_and_a_refused_login_blocks() -> None:
    tokens = ["first", "second"]

    async def fetch(device: str) -> str:
        assert device == "phone"
        if not tokens:
            raise LoginRefused("log in again")
        return tokens.pop(0)

    seen: list[str] = []

    def script(session: Session, frame: DeviceFrame) -> bool:
        if isinstance(frame, Hello):
            seen.append(frame.token)
        return False

    core = FakeServer()
    core.script = script
    async with serving(core) as server, AsyncDevice(server.url, token=fetch, device="phone") as phone:
        notes = await phone.open()
        await notes.wait_current(within_s=5)
        await server.close_all(4401, "token_expired")
        await phone.wait(lambda: phone.counters.connections == 2, within_s=5)
        await notes.wait_current(within_s=5)
        assert seen == ["first", "second"]
        await server.close_all(4401, "token_expired")
        await phone.wait(lambda: phone.status.state is State.BLOCKED, within_s=5)
        with pytest.raises(Blocked, match="expired_login"):
            await notes.wait_current(within_s=5)


async def test_a_token_source_that_fails_is_asked_again() -> None:
    calls = []

    async def fetch(device: str) -> str:
        calls.append(device)
        if len(calls) == 1:
            raise OSError("no network")
        return "t"

    async with serving(FakeServer()) as server, AsyncDevice(server.url, token=fetch, device="phone") as phone:
        await (await phone.open()).wait_current(within_s=5)
    assert calls == ["phone", "phone"]


async def test_the_app_is_told() -> None:
    changes: list[str] = []
    statuses: list[tuple[str | None, State]] = []
    problems: list[Problem] = []

    def script(session: Session, frame: DeviceFrame) -> bool:
        if isinstance(frame, Push):
            session.refuse(frame, "bad_update", "never")
        return isinstance(frame, Push)

    def on_status(document: AsyncDocument | None, status: Status) -> None:
        statuses.append((document.name if document else None, status.state))

    core = FakeServer()
    core.script = script
    async with (
        serving(core) as server,
        AsyncDevice(
            server.url,
            token="t",
            device="phone",
            on_change=lambda document: changes.append(document.name),
            on_status=on_status,
            on_error=problems.append,
        ) as phone,
    ):
        notes = await phone.open()
        await notes.wait_current(within_s=5)
        notes.edit(lambda roots: roots.text("body").append("x"))
        with pytest.raises(Blocked, match="bad_update"):
            await notes.wait_durable(within_s=5)
        await phone.wait(lambda: len(notes.aside) == 1, within_s=5)
        assert changes[0] == "main"
        assert [problem.code for problem in problems] == ["bad_update"]
        assert ("main", State.CURRENT) in statuses
        assert (None, State.CURRENT) in statuses
        core.script = None
        notes.unblock()
        await notes.wait_current(within_s=5)
        notes.close()


async def test_an_edit_inside_a_callback_goes_out_after_what_caused_it() -> None:
    def echo(document: AsyncDocument) -> None:
        if len(document.text("body")) < 5:
            document.edit(lambda roots: roots.text("body").append("x"))

    core = FakeServer()
    async with (
        serving(core) as server,
        AsyncDevice(server.url, token="t", device="phone", on_change=echo) as phone,
    ):
        notes = await phone.open()
        await notes.wait_current(within_s=5)
        notes.edit(lambda roots: roots.text("body").append("x"))
        await notes.wait_durable(within_s=5)
    assert core.room("main").replica.values() == {"body": "xxxxx"}
    assert len(core.room("main").log) == 5


async def test_what_a_callback_raises_ends_the_block() -> None:
    def broken(document: AsyncDocument) -> None:
        raise KeyError("the app's mistake")

    core = FakeServer()
    async with serving(core) as server, AsyncDevice(server.url, token="t", device="writer") as writer:
        draft = await writer.open()

        async def use_phone() -> None:
            async with AsyncDevice(server.url, token="t", device="phone", on_change=broken) as phone:
                await (await phone.open()).wait_current(within_s=5)
                draft.edit(lambda roots: roots.text("body").append("x"))
                await asyncio.Event().wait()

        with pytest.raises(ExceptionGroup) as raised:
            await use_phone()
        assert raised.group_contains(KeyError)


async def test_a_store_has_one_device_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "phone.db"
    async with AsyncDevice(NOWHERE, token="t", device="phone", store=path):
        with pytest.raises(StoreError):
            async with AsyncDevice(NOWHERE, token="t", device="phone", store=path):
                pass
    async with AsyncDevice(NOWHERE, token="t", device="phone", store=path):
        pass


async def test_nothing_runs_on_after_the_block() -> None:
    async with serving(FakeServer()) as server:
        before = asyncio.all_tasks()
        async with AsyncDevice(server.url, token="t", device="phone") as phone:
            await (await phone.open()).wait_current(within_s=5)
        await wait_until(lambda: not server.sockets)
        await wait_until(lambda: asyncio.all_tasks() == before)
