"""A store that was set back to a backup: what a device still has comes back, and is the same everywhere."""

from __future__ import annotations

import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from client_sim.live import AsyncDocument
from tests.integration.server_peers import WITHIN_S, check_gapless, converged, new_device, put, stored, write
from tests.integration.server_process import ServerProcess, server_process

SetBack = Callable[[ServerProcess], Awaitable[None]]


async def _back_up(server: ServerProcess) -> None:
    assert (await server.cli("db", "backup", str(_copy_of(server)))).code == 0


async def _restore(server: ServerProcess) -> None:
    """As the handbook says."""
    assert (await server.cli("db", "restore", str(_copy_of(server)), "--replace")).code == 0


async def _swap_files(server: ServerProcess) -> None:
    """As one should not: the server is not told that it is another history."""
    for suffix in ("-wal", "-shm"):
        server.database.with_name(server.database.name + suffix).unlink(missing_ok=True)
    shutil.copyfile(_copy_of(server), server.database)


def _copy_of(server: ServerProcess) -> Path:
    return server.database.with_name("copy.db")


@pytest.mark.parametrize("set_back", [_restore, _swap_files])
async def test_devices_bring_back_what_a_backup_lacks(tmp_path: Path, set_back: SetBack) -> None:
    async with (
        server_process(tmp_path) as server,
        new_device(server.url, "phone", store=tmp_path / "phone.db") as phone,
    ):
        mine = await phone.open()
        async with (
            new_device(server.url, "laptop") as laptop,
            new_device(server.url, "tablet", store=tmp_path / "tablet.db") as tablet,
        ):
            theirs, away = await laptop.open(), await tablet.open()
            write(mine, "early, and removed. ")
            write(theirs, "kept. ")
            await converged(mine, theirs, away)
            await _back_up(server)
            tablet.close("main")
            await _write_late(mine, theirs)
            await converged(mine, theirs)
            expected = mine.values()
        server.terminate()
        assert await server.exited() == 0
        put(mine, "offline", True)
        await set_back(server)
        await server.start()

        async with new_device(server.url, "tablet", store=tmp_path / "tablet.db") as tablet:
            away = await tablet.open()
            put(away, "tablet", "back first")
            await away.wait_durable(WITHIN_S)
            phone.reconnect()
            data = expected["data"] | {"offline": True, "tablet": "back first"}
            await converged(mine, away, to=expected | {"data": data})
            async with new_device(server.url, "new") as new:
                await converged(mine, away, await new.open(), to=expected | {"data": data})
        assert phone.counters.heals == 1
        await server.kill()
        assert (await server.cli("doc", "verify")).code == 0
        check_gapless(await stored(server.database, "alice/main"))


async def _write_late(mine: AsyncDocument, theirs: AsyncDocument) -> None:
    """After the backup: the laptop's part lives on in the phone alone, for the laptop never comes back."""
    for n in range(20):
        put(mine, f"phone-{n}", n)
        put(theirs, f"laptop-{n}", n)
    mine.edit(lambda roots: roots.text("body").delete(0, len("early, and removed. ")))
    await mine.wait_durable(WITHIN_S)
    await theirs.wait_durable(WITHIN_S)


async def test_a_restored_server_is_whole_at_once_for_devices_that_knew_no_more(tmp_path: Path) -> None:
    async with server_process(tmp_path) as server, new_device(server.url, store=tmp_path / "phone.db") as phone:
        mine = await phone.open()
        write(mine, "all of it")
        await mine.wait_durable(WITHIN_S)
        await _back_up(server)
        await server.kill()
        await _restore(server)
        await server.start()
        phone.reconnect()
        await phone.wait(lambda: phone.counters.heals == 1, WITHIN_S)
        await converged(mine, to={"body": "all of it"})
        write(mine, " and more")
        await mine.wait_durable(WITHIN_S)
        async with new_device(server.url, "laptop") as laptop:
            await converged(mine, await laptop.open(), to={"body": "all of it and more"})


@pytest.mark.parametrize("set_back", [_restore, _swap_files])
async def test_what_is_too_much_for_one_op_comes_back_too(tmp_path: Path, set_back: SetBack) -> None:
    async with server_process(tmp_path) as server, new_device(server.url, store=tmp_path / "phone.db") as phone:
        mine = await phone.open()
        write(mine, "early")
        await mine.wait_durable(WITHIN_S)
        await _back_up(server)
        for part in range(3):
            _fill(mine, range(7_000 * part, 7_000 * (part + 1)))
        await mine.wait_durable(WITHIN_S)
        server.terminate()
        assert await server.exited() == 0
        await set_back(server)
        await server.start()
        phone.reconnect()
        async with new_device(server.url, "laptop") as laptop:
            await converged(mine, await laptop.open(), to={"body": "early", "data": {str(n): n for n in range(21_000)}})
        assert not mine.aside
        assert phone.counters.heals == 1


def _fill(document: AsyncDocument, numbers: range) -> None:
    document.edit(lambda roots: roots.map("data").update({str(number): number for number in numbers}))
