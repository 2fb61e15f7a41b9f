"""Real devices and a real server with a bad network between them: when it is good again, nothing is missing."""

from __future__ import annotations

import asyncio
import json
import logging
import os
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random

import pytest

from client_sim.core import device as device_core
from client_sim.core import keepalive
from client_sim.live import AsyncDevice, AsyncDocument, Problem, Roots
from client_sim.live import connection as device_connection
from tests.crash.proxy import KINDS, FaultProxy, Frames, fault_proxy, troubles
from tests.integration.device_process import edit_key
from tests.integration.server_peers import Hasty, check_gapless, converged, new_device, stored
from tests.integration.server_process import ServerProcess, server_process
from tests.support import wait_until

_log = logging.getLogger(__name__)

SOAK = bool(os.environ.get("SYNCLINE_SOAK"))
SEEDS = range(60) if SOAK else range(1)
NAMES = ("laptop", "phone", "tablet")
EDITS = 40 if SOAK else 12
TROUBLES_MIN = 20 if SOAK else 8
"""They edit on until so many have come, and all kinds."""
PENDING_MAX = 10
HEARTBEAT_S = 0.3
OPEN_S = 1.0
"""How long a device waits for an upgrade, and for WELCOME."""
SETTLED_WITHIN_S = 30.0


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Devices find out about half-open connections soon."""
    monkeypatch.setattr(device_connection, "OPEN_S", OPEN_S)
    monkeypatch.setattr(device_connection, "CLOSE_S", OPEN_S)
    monkeypatch.setattr(device_core, "GREETING_S", OPEN_S)
    for name in ("START_S", "FLOOR_S", "CEILING_S", "PROBE_S"):
        monkeypatch.setattr(keepalive, name, HEARTBEAT_S)
    for name in ("ANSWER_S", "ANSWER_S_MAX"):
        monkeypatch.setattr(keepalive, name, OPEN_S)


class Editor:
    """A device at work. Its edits are numbered from 1 on."""

    def __init__(self, device: AsyncDevice, document: AsyncDocument, seed: int) -> None:
        self.device = device
        self.document = document
        self.made = 0
        self.problems: list[Problem] = []
        device.on_error = self.problems.append
        self._rng = Random(f"{seed}/{device.name}")
        self._acknowledged = 0

    async def work(self, proxy: FaultProxy) -> None:
        while self.made < EDITS or sum(proxy.happened.values()) < TROUBLES_MIN or proxy.happened.keys() < KINDS:
            self.made += 1
            self.document.edit(self._change)
            pending_max = self._rng.randint(1, PENDING_MAX)
            await self.device.wait(lambda most=pending_max: self._check() < most, SETTLED_WITHIN_S)  # type: ignore[misc]

    def _check(self) -> int:
        """What was acknowledged stays so; how many edits are not."""
        acknowledged = self.made - self.document.pending.count
        assert acknowledged >= self._acknowledged
        self._acknowledged = acknowledged
        return self.document.pending.count

    def _change(self, roots: Roots) -> None:
        roots.map("made")[edit_key(self.device.name, self.made)] = self.made
        roots.array("items").insert(0, self.made)
        body = roots.text("body")
        start = self._rng.randint(0, len(body))
        body.delete(start, min(start + self._rng.choice((0, 0, 4)), len(body)))
        body.insert(start, self._rng.choice(("word ", "é", "\N{GRINNING FACE}", "a long piece of text " * 30)))


@pytest.mark.parametrize("seed", SEEDS)
async def test_a_bad_network_loses_and_repeats_nothing(tmp_path: Path, seed: int) -> None:
    async with (
        server_process(tmp_path, arguments=("--heartbeat-s", str(HEARTBEAT_S))) as server,
        fault_proxy(server.address, troubles(seed)) as proxy,
        AsyncExitStack() as stack,
    ):
        editors = [await _editor(stack, proxy.url, tmp_path, name, seed) for name in NAMES]
        async with asyncio.TaskGroup() as group:
            for editor in editors:
                group.create_task(editor.work(proxy))
        proxy.heal()
        await _settled(editors)
        await _check_values(server, editors)
        _log.info("seed %d: %d connections, %s", seed, proxy.connections, dict(proxy.happened))
        await server.kill()
        await _check_log(server, editors)


async def _editor(stack: AsyncExitStack, url: str, folder: Path, name: str, seed: int) -> Editor:
    rng = Hasty(f"{seed}/{name}")
    device = await stack.enter_async_context(new_device(url, name, store=folder / f"{name}.db", rng=rng))
    return Editor(device, await device.open(), seed)


async def _settled(editors: list[Editor]) -> None:
    """All devices are current, have nothing more to send, and show the same."""

    def is_settled() -> bool:
        return not any(editor.document.pending.count for editor in editors)

    await wait_until(is_settled, SETTLED_WITHIN_S)
    await converged(*[editor.document for editor in editors])


async def _check_values(server: ServerProcess, editors: list[Editor]) -> None:
    values = editors[0].document.values()
    made = [edit_key(editor.device.name, number) for editor in editors for number in range(1, editor.made + 1)]
    assert sorted(values["made"]) == sorted(made), "each edit that was made"
    assert len(values["items"]) == len(made), "and each once"
    shown = await server.cli("doc", "show", "alice/main", "--json")
    assert json.loads(shown.out) == values
    for editor in editors:
        assert editor.device.counters.heals == editor.device.counters.forks == 0
        assert not editor.problems


async def _check_log(server: ServerProcess, editors: list[Editor]) -> None:
    errors = [line for line in server.log.read_text().splitlines() if '"level": "error"' in line]
    assert not errors, "a bad network is no error of the server's"
    verified = await server.cli("doc", "verify")
    assert verified.code == 0, verified
    ops = check_gapless(await stored(server.database, "alice/main"))
    sent = {f"alice/{each.device.name}": each.made - each.device.counters.edits_merged for each in editors}
    assert ops == sent, "each edit once, those that were merged together"


def test_frames_are_told_apart_wherever_the_stream_is_cut() -> None:
    whole = [b"GET / HTTP/1.1\r\nA: b\r\n\r\n", b"\x82\x03abc", b"\x82\x81mask!", b"\x82\x7e\x00\x80" + bytes(128)]
    stream = b"".join(whole)
    for size in (1, 2, 7, len(stream)):
        frames = Frames()
        pieces = [stream[start : start + size] for start in range(0, len(stream), size)]
        assert [frame for piece in pieces for frame in frames.feed(piece)] == whole
        assert not frames.rest
