"""Devices are listed, shut out and let in again, whether a server runs or not; shut out means at once."""

from __future__ import annotations

import asyncio
import json
import os
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from crdt.ids import DeviceId
from crdt.protocol.frames import PROTOCOL_VERSION, Ack, Error, Hello, Push, Welcome
from server.core.gate import TAKEOVERS_MAX
from server.runtime.control import ControlServer, call, control_path
from server.runtime.operations import Operations
from tests.contract.storage_support import opened
from tests.integration.server_peers import (
    WITHIN_S,
    RawDevice,
    new_device,
    raw_device,
    raw_member,
    raw_socket,
    text_updates,
    write,
)
from tests.integration.server_process import ServerProcess, server_process
from tests.server_fixture import RunningServer, make_token, running_server

CROWD = 1_000 if os.environ.get("SYNCLINE_SOAK") else 300
AT_ONCE = 50
REVOKED_WITHIN_S = 2.0
REVOKED = (4403, "device_revoked")


async def devices(server: ServerProcess, *options: str) -> list[dict[str, Any]]:
    outcome = await server.cli("device", "list", "--json", *options)
    assert outcome.code == 0, outcome
    listed: list[dict[str, Any]] = json.loads(outcome.out)
    return listed


# --- the commands


async def test_devices_are_shut_out_and_let_in_with_a_server_and_without(tmp_path: Path) -> None:
    async with server_process(tmp_path) as server:
        before_ms = time.time() * 1000
        async with (
            raw_device(server.url, name="phone") as phone,
            raw_device(server.url, name="laptop") as laptop,
            raw_device(server.url, user="bob", name="phone") as bobs,
        ):
            done = await server.cli("device", "revoke", "alice/phone", "alice/never")
            assert done.out == "alice/phone: revoked\nalice/never: revoked\n"
            assert (await phone.expect(Error)).code == "device_revoked"
            assert await phone.closed_with() == REVOKED
            for other in (laptop, bobs):
                await other.send()
        await _is_refused(server.url, "phone")
        assert (await server.cli("device", "revoke", "alice/phone")).out == "alice/phone: was revoked before\n"
        server.terminate()
        assert await server.exited() == 0
        listed = {info["device"]: info for info in await devices(server)}
        assert list(listed) == ["alice/laptop", "alice/never", "alice/phone", "bob/phone"]
        assert listed["alice/never"]["agent"] is None
        laptops = listed["alice/laptop"]
        assert laptops["agent"] == "raw/1"
        assert before_ms <= laptops["first_seen_ms"] <= laptops["last_seen_ms"] <= time.time() * 1000
        assert [info["device"] for info in await devices(server, "--revoked")] == ["alice/never", "alice/phone"]
        assert [info["device"] for info in await devices(server, "--user", "bob")] == ["bob/phone"]
        table = (await server.cli("device", "list")).out
        assert "alice/never" in table
        assert "revoked" in table
        assert (await server.cli("device", "restore", "alice/never")).out == "alice/never: restored\n"
        assert (await server.cli("device", "restore", "bob/phone")).out == "bob/phone: was not revoked\n"
        await server.start()
        await _is_refused(server.url, "phone")
        async with raw_device(server.url, name="never"):
            assert (await server.cli("device", "restore", "alice/phone")).code == 0
        async with raw_device(server.url, name="phone"):
            pass


async def test_what_is_no_device_is_refused_in_a_line(tmp_path: Path) -> None:
    async with server_process(tmp_path) as server:
        for text in ("phone", "alice/phone/1", "alice/", "/phone", "alice/my phone", ""):
            outcome = await server.cli("device", "revoke", "alice/good", text)
            assert outcome.code == 2
            assert "write user/device" in outcome.err
        assert await devices(server) == [], "none of them is revoked if one is no device"


async def _is_refused(url: str, name: str) -> None:
    """Whatever token it brings."""
    with pytest.raises(AssertionError, match="device_revoked"):
        async with raw_device(url, name=name, token=make_token("alice", name)):
            pytest.fail("it was let in")


# --- on live sockets


async def test_a_stolen_device_is_off_and_wiped_and_the_others_go_on(tmp_path: Path) -> None:
    async with (
        running_server(tmp_path) as server,
        new_device(server.url, "stolen") as stolen,
        new_device(server.url, "phone") as phone,
    ):
        theirs, mine = await stolen.open(), await phone.open()
        write(theirs, "before ")
        await theirs.wait_durable(WITHIN_S)
        await _operations(server).revoke(["alice/stolen"])
        await stolen.wait(lambda: stolen.status.state == "blocked", WITHIN_S)
        assert stolen.status.reason == "device_revoked"
        write(mine, "after")
        await mine.wait_durable(WITHIN_S)
        assert mine.values() == {"body": "before after"}
        assert [info.last_seen_ms is not None for info in await _noted(server)] == [True, True]


def _operations(server: RunningServer) -> Operations:
    return Operations(
        server.storage,
        server.driver.import_update,
        revocations_changed=server.driver.devices.read_revocations,
    )


async def _noted(server: RunningServer) -> Any:
    await server.driver.devices.write_sightings()
    return await server.storage.devices()


async def test_a_crowd_of_live_sockets_is_closed_in_time(tmp_path: Path) -> None:
    crowd = [DeviceId(f"user-{number // 10}", f"d{number}") for number in range(CROWD)]
    async with running_server(tmp_path) as server, asyncio.TaskGroup() as tasks:
        dialling, everybody = asyncio.Semaphore(AT_ONCE), asyncio.Barrier(CROWD + 1)
        ends = [tasks.create_task(_wait_for_the_end(server.url, device, dialling, everybody)) for device in crowd]
        await everybody.wait()
        async with raw_member(server.url, user="bob") as (bob, opened_by_bob):
            async with ControlServer(control_path(tmp_path / "syncline.db"), _operations(server)):
                began_s = time.monotonic()
                await asyncio.to_thread(
                    call, control_path(tmp_path / "syncline.db"), "revoke", devices=list(map(str, crowd))
                )
                ends_s = await asyncio.gather(*ends)
            assert max(ends_s) - began_s < REVOKED_WITHIN_S
            await bob.send(Push(opened_by_bob.handle, 1, tuple(text_updates(7, ["still here"]))))
            assert (await bob.expect(Ack)).op == 1


async def _wait_for_the_end(
    url: str, device: DeviceId, dialling: asyncio.Semaphore, everybody: asyncio.Barrier
) -> float:
    """When the device was told that it is shut out."""
    await dialling.acquire()
    async with raw_device(url, user=device.user, name=device.name) as raw:
        dialling.release()
        await everybody.wait()
        assert await _last_words(raw) == "device_revoked"
        ended_s = time.monotonic()
    assert raw.close == REVOKED
    return ended_s


async def _last_words(raw: RawDevice) -> str:
    frames = await raw.rest()
    assert [type(frame) for frame in frames] == [Error]
    assert isinstance(frames[0], Error)
    return frames[0].code


async def test_a_revocation_by_another_process_is_noticed(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, raw_device(server.url, name="phone") as phone:
        async with opened(tmp_path / "syncline.db") as other:
            began_s = time.monotonic()
            await other.revoke_devices([DeviceId("alice", "phone")], 1)
        assert await _last_words(phone) == "device_revoked"
        assert time.monotonic() - began_s < REVOKED_WITHIN_S
        await _is_refused(server.url, "phone")


async def test_two_copies_that_do_not_stop_are_slowed_down(tmp_path: Path) -> None:
    """Both are held by the same device's name, and each comes back as soon as it was pushed out."""
    async with running_server(tmp_path) as server, AsyncExitStack() as stack:
        answers = []
        for _ in range(TAKEOVERS_MAX + 5):
            raw = await stack.enter_async_context(raw_socket(server.url))
            await raw.send(Hello(PROTOCOL_VERSION, make_token("alice", "phone"), "phone", "old/0"))
            answers.append(await raw.receive())
    assert [type(answer) for answer in answers] == [Welcome] * (TAKEOVERS_MAX + 1) + [Error] * 4
    for refused in answers[-4:]:
        assert isinstance(refused, Error)
        assert (refused.code, refused.retry) == ("rate_limited", "later")
        assert refused.retry_after_ms is not None
        assert refused.retry_after_ms > 0
