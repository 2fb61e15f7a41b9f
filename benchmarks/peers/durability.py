"""What a kill -9 takes of updates that everybody has seen, and that were acknowledged where servers do that."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from benchmarks.figures import Figure, Run, WorkloadFailed
from benchmarks.peers.device import Device, clock, connected
from benchmarks.peers.fanout import text_of, until_idle
from benchmarks.peers.rooms import Room, script
from benchmarks.peers.servers import Peer, Server

DELIVERS_WITHIN_S = 60


async def _written(peer: Peer, server: Server, updates: int, in_flight: int) -> list[Device]:
    """Two devices of one document, once the second one has everything that the first one typed."""
    devices = [await connected(server, peer.dialect, 0, name) for name in ("writer", "reader")]
    room = Room(peer.dialect, devices, script(2, updates), timing=False)
    deadline = clock() + DELIVERS_WITHIN_S
    while devices[0].sent < updates or not room.complete():
        if clock() > deadline:
            raise WorkloadFailed(room.fault or "not all that was sent arrived")
        under_way = devices[0].sent - room.delivered_of(0)
        if count := min(in_flight - under_way, updates - devices[0].sent):
            devices[0].push(count)
        await asyncio.sleep(0)
    return devices


async def _text(peer: Peer, server: Server) -> str:
    """What is there once the server has loaded it: y-websocket answers before that."""
    first = await connected(server, peer.dialect, 0, "first")
    await until_idle(server, 1, 60)
    newcomer = await connected(server, peer.dialect, 0, "newcomer")
    for device in (first, newcomer):
        device.close()
    return text_of(newcomer.opened.result().updates or ())


async def killed(peer: Peer, updates: int, in_flight: int) -> Run:
    """Kill the server the moment that `updates` are everywhere, start it again on its files, and count."""
    with tempfile.TemporaryDirectory(prefix="syncline-bench-") as folder:
        with peer.start(Path(folder)) as server:
            devices = await _written(peer, server, updates, in_flight)
            server.kill()
            for device in devices:
                device.close()
        with peer.start(Path(folder)) as server:
            kept = len(await _text(peer, server))
    lost = Figure(f"lost of {updates:,}", updates - kept, "updates")
    return Run(peer.name, (lost,), note=f"acknowledges: {peer.acknowledges}")
