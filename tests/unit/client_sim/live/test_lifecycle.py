"""What an OS does to an app, over real sockets."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from client_sim import AsyncDevice, Outcome, Policy, State, explain
from client_sim.live.lifemark import SUFFIX, LifeMark
from crdt.protocol.frames import Push
from tests.unit.client_sim.fake_server import FakeServer
from tests.unit.client_sim.live.socket_server import serving

NOWHERE = "ws://127.0.0.1:1/v1/sync"


async def test_an_app_in_the_background_syncs_in_a_window() -> None:
    core = FakeServer()
    async with serving(core) as server, AsyncDevice(server.url, token="t", device="phone") as phone:
        notes = await phone.open()
        await notes.wait_current(5)
        phone.suspend()
        assert phone.status.reason == "suspended"
        notes.edit(lambda roots: roots.text("body").append("x"))
        done = await phone.background_sync(within_s=5.0, bytes_max=100_000)
        assert (done.outcome, done.ops_acked, done.pending.count) == (Outcome.DONE, 1, 0)
        phone.resume()
        await notes.wait_current(5)
    assert core.room("main").replica.values() == {"body": "x"}


async def test_a_window_without_a_network_ends_in_time() -> None:
    async with AsyncDevice(NOWHERE, token="t", device="phone") as phone:
        await phone.open()
        began = asyncio.get_running_loop().time()
        done = await phone.background_sync(within_s=0.2, bytes_max=100_000)
        assert done.outcome is Outcome.OUT_OF_TIME
        assert asyncio.get_running_loop().time() - began < 0.2 + 1.0
        assert phone.status.state is State.OFFLINE


async def test_a_saver_is_current_for_who_waits_and_rests_then() -> None:
    core = FakeServer()
    async with (
        serving(core) as server,
        AsyncDevice(server.url, token="t", device="phone", policy=Policy.SAVER) as phone,
    ):
        notes = await phone.open()
        await notes.wait_current(5)
        await phone.wait(lambda: phone.status.reason == "resting", 5)
        for _ in range(4):
            notes.edit(lambda roots: roots.text("body").append("x"))
        assert notes.pending.count == 4
        await phone.wait_durable(5)
        await phone.wait_current(5)
        assert phone.counters.connections >= 2
        phone.set_policy(Policy.INTERACTIVE)
        await phone.wait(lambda: phone.status.state is State.CURRENT, 5)
    assert core.room("main").replica.values() == {"body": "xxxx"}
    assert core.room("main").ops["alice/phone"][0] == 1


async def test_another_network_means_another_connection() -> None:
    async with serving(FakeServer()) as server, AsyncDevice(server.url, token="t", device="phone") as phone:
        notes = await phone.open()
        await notes.wait_current(5)
        phone.network("cafe")
        await notes.wait_current(5)
        await phone.wait(lambda: phone.counters.connections == 2, 5)
        phone.network_is_back()
        await notes.wait_current(5)


async def test_a_status_says_since_when_by_the_calendar() -> None:
    began = time.time()
    async with AsyncDevice(NOWHERE, token="t", device="phone") as phone:
        await phone.wait(lambda: phone.status.reason == "unreachable", 5)
        since = phone.status.since
        assert since is not None
        assert began - 1 <= since <= time.time() + 1
        assert explain("unreachable").advice.startswith("Check the network.")


async def test_an_edit_of_a_balanced_device_waits_and_goes_when_it_is_flushed() -> None:
    core = FakeServer()
    async with (
        serving(core) as server,
        AsyncDevice(server.url, token="t", device="phone", policy=Policy.BALANCED, latency_s=600.0) as phone,
    ):
        notes = await phone.open()
        await notes.wait_current(5)
        notes.edit(lambda roots: roots.text("body").append("x"))
        session = core.sessions[0]
        assert not any(isinstance(frame, Push) for frame in session.received)
        phone.flush()
        await phone.wait(lambda: not notes.pending, 5)


def test_an_end_that_was_none_is_a_crash(tmp_path: Path) -> None:
    mark = LifeMark(tmp_path / "phone.db")
    assert mark.begin() == 0
    assert LifeMark(tmp_path / "phone.db").begin() == 1
    assert LifeMark(tmp_path / "phone.db").begin() == 2
    mark.clear()
    assert mark.begin() == 0
    mark.clear()
    mark.set()
    assert mark.begin() == 1
    (tmp_path / f"phone.db{SUFFIX}").write_text("")
    assert mark.begin() == 1
    assert LifeMark(None).begin() == 0


@pytest.mark.parametrize("suspended", [True, False])
async def test_who_is_killed_in_the_background_did_not_crash(tmp_path: Path, suspended: bool) -> None:
    store = tmp_path / "phone.db"
    async with AsyncDevice(NOWHERE, token="t", device="phone", store=store) as phone:
        assert LifeMark(store).begin() == 1
        if suspended:
            phone.suspend()
        assert LifeMark(store).begin() == (0 if suspended else 2)
    assert LifeMark(store).begin() == 0
