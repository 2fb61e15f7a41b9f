"""A process that is killed while it leaves the device's block."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

from client_sim import AsyncDevice
from client_sim.live.lifemark import LifeMark

APP = """
import asyncio, os, signal, sys
from client_sim import AsyncDevice
from client_sim.live.lifemark import LifeMark
from client_sim.store import SqliteStore

_, store, moment = sys.argv
close = SqliteStore.close


def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)


def close_and_die(self):
    close(self)
    die()


async def main():
    async with AsyncDevice("ws://127.0.0.1:1/v1/sync", token="t", device="phone", store=store) as phone:
        for name in ("main", "other"):
            notes = await phone.open(name)
            for n in range(20):
                notes.edit(lambda roots: roots.text("body").append(f"{n} "))
        match moment:
            case "stopping": phone.feed = die
            case "closing": SqliteStore.close = die
            case "closed": SqliteStore.close = close_and_die
            case "unmarking": LifeMark.clear = die

asyncio.run(main())
"""


async def test_a_device_that_is_killed_while_its_block_is_left_loses_nothing(tmp_path: Path) -> None:
    moments = ("stopping", "closing", "closed", "unmarking")
    await asyncio.gather(*(kill(tmp_path / f"{moment}.db", moment) for moment in moments))
    for moment in moments:
        store = tmp_path / f"{moment}.db"
        assert LifeMark(store).begin() == 1
        async with AsyncDevice("ws://127.0.0.1:1/v1/sync", token="t", device="phone", store=store) as phone:
            for name in ("main", "other"):
                notes = await phone.open(name)
                assert notes.text("body") == "".join(f"{n} " for n in range(20))
                assert notes.pending.count == 20
            assert phone.counters.rebuilds == 0


async def kill(store: Path, moment: str) -> None:
    app = await asyncio.create_subprocess_exec(sys.executable, "-c", APP, str(store), moment)
    assert await asyncio.wait_for(app.wait(), 60) == -signal.SIGKILL
