"""SIGTERM under load: everybody is told, everything taken is saved and acknowledged, and devices come back."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from itertools import count
from pathlib import Path

from websockets.exceptions import ConnectionClosed

from client_sim.live import AsyncDevice, Roots
from crdt.protocol.frames import Ack, GoAway, Opened, Push, ServerFrame
from crdt.replica import Replica
from server.core.options import CoreOptions
from tests.integration.server_peers import (
    WITHIN_S,
    RawDevice,
    check_gapless,
    converged,
    new_device,
    raw_member,
    stored,
    write,
)
from tests.integration.server_process import server_process
from tests.server_fixture import running_server

DEVICES = 6
SHUTDOWN_S = 60.0
"""Long beside what it takes, for the flood fills every queue first, and a busy machine empties them slowly."""


async def test_sigterm_under_load_leaves_nothing_half_done(tmp_path: Path) -> None:
    arguments = ("--shutdown-timeout-s", str(SHUTDOWN_S))
    async with server_process(tmp_path, arguments=arguments) as server, AsyncExitStack() as stack:
        members = [
            await stack.enter_async_context(raw_member(server.url, f"of-{n % 2}", name=f"raw-{n}"))
            for n in range(DEVICES)
        ]
        pushing = [asyncio.create_task(_push(n, *member)) for n, member in enumerate(members)]
        for raw, _ in members:
            while not isinstance(await raw.receive(), Ack):
                pass  # the others' edits come as well
        started_s = asyncio.get_running_loop().time()
        server.terminate()
        heard = await asyncio.gather(*(raw.rest() for raw, _ in members))
        assert await server.exited() == 0
        assert asyncio.get_running_loop().time() - started_s < SHUTDOWN_S
        pushed = await asyncio.gather(*pushing)
        assert [raw.close for raw, _ in members] == [(1012, "shutting_down")] * DEVICES
        _check_goodbyes(heard)
        last_acks = {f"alice/raw-{n}": _last_ack(frames) for n, frames in enumerate(heard)}
        logs = [check_gapless(await stored(server.database, f"alice/of-{n}")) for n in range(2)]
        assert logs[0] | logs[1] == last_acks, "what was taken was acknowledged, and nothing else is in"
        assert all(pushed[n] > last_acks[f"alice/raw-{n}"] for n in range(DEVICES)), "it was under load to the end"


async def _push(number: int, raw: RawDevice, opened: Opened) -> int:
    """Push one op after another until the server is gone; how many that was."""
    author = Replica(1000 + number)
    for op in count(1):
        update = author.edit(lambda doc: Roots(doc).array("items").append(op))  # noqa: B023 - it runs now
        assert update is not None
        try:
            await raw.send(Push(opened.handle, op, (update,)))
        except ConnectionClosed:
            break
        await asyncio.sleep(0)  # let the others have their turn
    return op


def _last_ack(frames: list[ServerFrame]) -> int:
    return max(frame.op for frame in frames if isinstance(frame, Ack))


def _check_goodbyes(heard: list[list[ServerFrame]]) -> None:
    """One GOAWAY for each device; what comes after it is the rest of the acknowledgements."""
    goodbyes = [[frame for frame in frames if isinstance(frame, GoAway)] for frames in heard]
    assert [len(goodbye) for goodbye in goodbyes] == [1] * DEVICES
    assert len({goodbye[0].retry_after_ms for goodbye in goodbyes}) > 1, "not all come back at once"


async def test_devices_come_back_by_themselves(tmp_path: Path) -> None:
    options = CoreOptions(goaway_spread_s=0.1)
    async with AsyncExitStack() as stack:
        async with running_server(tmp_path, options=options) as server:
            port = server.address[1]
            devices: list[AsyncDevice] = [
                await stack.enter_async_context(new_device(server.url, f"device-{n}")) for n in range(DEVICES)
            ]
            documents = [await device.open() for device in devices]
            await converged(*documents)
            for n, document in enumerate(documents):
                write(document, f"{n} before ")
            await server.driver.drain()
            for device in devices:
                await device.wait(lambda device=device: device.status.state == "offline", WITHIN_S)  # type: ignore[misc]
            for n, document in enumerate(documents):
                write(document, f"{n} meanwhile ")
        async with running_server(tmp_path, port=port):
            await converged(*documents)
            body = documents[0].text("body")
            assert all(f"{n} {when} " in body for n in range(DEVICES) for when in ("before", "meanwhile"))
            assert [device.counters.connections for device in devices] == [2] * DEVICES
