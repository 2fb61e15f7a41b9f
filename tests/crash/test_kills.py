"""Servers and devices that are killed again and again, at no time in particular, while all type."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
from contextlib import AsyncExitStack, closing
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from random import Random

import pytest

from tests.integration.device_process import DOCUMENTS, IDLE, PROBLEM, edit_key, type_away
from tests.integration.server_peers import check_gapless, converged, new_device, stored
from tests.integration.server_process import PROCESSES, ServerProcess, server_process
from tests.support import wait_until

SOAK = bool(os.environ.get("SYNCLINE_SOAK"))
SERVER_KILLS = 200 if SOAK else 6
"""The devices together are killed about as often."""
ARGUMENTS = ("--compaction-entries-min", "10", "--compaction-entries-max", "30") if SOAK else ()
"""Each server that compacts starts a process for it, which takes a second."""
DEVICES = ("phone", "laptop", "tablet")
EDITS = 40
"""What a device types in one life."""
SETTLED_WITHIN_S = 60.0


class TypingDevice:
    """A device in a process of its own, on a store of its own."""

    def __init__(self, server: ServerProcess, folder: Path, name: str) -> None:
        self.name = name
        self.store = folder / f"{name}.db"
        self._journal = folder / f"{name}.journal"
        self._server = server
        self._process: ForkServerProcess | None = None
        self._lives = 0
        self._seen = 0

    async def start(self) -> None:
        self._lives += 1
        self._seen = len(self.lines)
        seed = self._lives * len(DEVICES) + DEVICES.index(self.name)
        arguments = (self._server.url, self.name, self.store, self._journal, seed, EDITS)
        self._process = PROCESSES.Process(target=type_away, args=arguments)
        await asyncio.to_thread(self._process.start)

    async def kill(self) -> None:
        assert self._process is not None
        assert self._process.pid is not None
        os.kill(self._process.pid, signal.SIGKILL)
        await asyncio.to_thread(self._process.join)
        assert self._process.exitcode == -signal.SIGKILL, "it ended by itself"
        self._process.close()
        self._process = None

    @property
    def is_running(self) -> bool:
        return self._process is not None

    @property
    def lines(self) -> list[str]:
        return self._journal.read_text().splitlines() if self._journal.exists() else []

    @property
    def is_idle(self) -> bool:
        """All that it typed in this life is acknowledged, and so is all before."""
        return IDLE in self.lines[self._seen :]

    def acknowledged(self) -> dict[str, int]:
        """How many of its edits it was told are durable, by document."""
        last = dict.fromkeys(DOCUMENTS, 0)
        for line in self.lines:
            document, _, number = line.partition(" ")
            if document in last:
                assert last[document] <= int(number), "what was acknowledged stays so"
                last[document] = int(number)
        return last


@pytest.mark.parametrize("seed", [20261122])
async def test_restarts_of_everything_lose_no_acknowledged_edit(tmp_path: Path, seed: int) -> None:
    rng = Random(seed)
    async with server_process(tmp_path, arguments=ARGUMENTS) as server, AsyncExitStack() as stack:
        devices = [TypingDevice(server, tmp_path, name) for name in DEVICES]
        stack.push_async_callback(_kill_all, devices)
        for device in devices:
            await device.start()
        server_kills = 0
        while server_kills < SERVER_KILLS:
            await _progress(devices, rng.randint(0, 25))
            victim = server if rng.random() < 0.5 else rng.choice(devices)
            await victim.kill()
            await victim.start()
            server_kills += victim is server
        await wait_until(lambda: all(device.is_idle for device in devices), SETTLED_WITHIN_S)
        await _kill_all(devices)
        await _check_devices(server, devices)
        await server.kill()
        await _check_store(server, devices)


async def _progress(devices: list[TypingDevice], lines: int) -> None:
    """Let the devices be told of so many acknowledgements, if there are as many to come."""

    def count() -> int:
        return sum(len(device.lines) for device in devices)

    target = count() + lines
    await wait_until(lambda: count() >= target or all(device.is_idle for device in devices), SETTLED_WITHIN_S)


async def _kill_all(devices: list[TypingDevice]) -> None:
    for device in devices:
        if device.is_running:
            await device.kill()


async def _check_devices(server: ServerProcess, devices: list[TypingDevice]) -> None:
    """What the killed devices stored, brought current, is the same everywhere, with all that was acknowledged."""
    async with AsyncExitStack() as stack:
        copies = []
        for device in devices:
            assert not [line for line in device.lines if line.startswith(PROBLEM)]
            copies.append(await stack.enter_async_context(new_device(server.url, device.name, store=device.store)))
        for name in DOCUMENTS:
            await converged(*[await copy.open(name) for copy in copies])
            values = (await copies[0].open(name)).values()
            expected = [edit_key(d.name, n) for d in devices for n in range(1, d.acknowledged()[name] + 1)]
            assert sorted(values["made"]) == sorted(expected)
            assert len(values["items"]) == len(expected), "each edit once"
            shown = await server.cli("doc", "show", f"alice/{name}", "--json")
            assert json.loads(shown.out) == values, "the server has what they have"
        assert all(copy.counters.heals == 0 for copy in copies)


async def _check_store(server: ServerProcess, devices: list[TypingDevice]) -> None:
    with closing(sqlite3.connect(server.database)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    verified = await server.cli("doc", "verify")
    assert verified.code == 0, verified
    for name in DOCUMENTS:
        document = await stored(server.database, f"alice/{name}")
        check_gapless(document)
        ops = {str(device): state.op for device, state in document.ops().items()}
        for device in devices:  # what waited was merged, nobody knows how much of it in those who were killed
            assert 0 < ops.pop(f"alice/{device.name}") <= device.acknowledged()[name]
        assert not ops
        assert (document.snapshot is not None) == SOAK
