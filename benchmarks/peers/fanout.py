"""Load on many documents: as much as a window lets through, or so many updates a second."""

from __future__ import annotations

import asyncio
import gc
import random
import time
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.figures import Better, Figure, Run, WorkloadFailed
from benchmarks.peers.device import clock, connected
from benchmarks.peers.rooms import Room, script
from benchmarks.peers.servers import Peer, Server
from benchmarks.percentiles import percentile
from crdt.replica import Replica

IN_FLIGHT = 4
QUIET_S = 0.5
"""Nothing arrives for so long: perhaps everything has."""
DELIVERS_WITHIN_S = 60.0
IDLE_SHARE = 0.01
SETTLED_S = 3.0
"""A server that is idle for so long has stored what it will store: the longest of the peers' delays is 2 s after the
last update, or 10 s after the first."""
SETTLES_WITHIN_S = 60.0


@dataclass(frozen=True, slots=True)
class Shape:
    """How many documents and devices, and how fast: `updates_per_s` of all together; None is a full window."""

    documents: int
    devices: int
    updates_per_s: float | None
    updates_max: float
    """How many updates a device can need, for each second."""

    @property
    def name(self) -> str:
        pace = "at saturation" if self.updates_per_s is None else f"at {self.updates_per_s:g} updates/s"
        return f"{self.documents:,} x {self.devices} {pace}"

    def smaller(self) -> Shape:
        """For a smoke run: fewer documents, which leave more of the server to each device."""
        fewer = min(self.documents, 5)
        return replace(self, documents=fewer, updates_max=self.updates_max * self.documents / fewer)


SHAPES = {
    "50x4": Shape(50, 4, None, 1500),
    "1x100": Shape(1, 100, None, 1000),
    "1000x2": Shape(1000, 2, None, 150),
    "50x4-paced": Shape(50, 4, 1000, 15),
    "1x100-paced": Shape(1, 100, 100, 5),
}


@dataclass(slots=True)
class _Load:
    """What a run cost, up to the last delivery, and afterwards."""

    seconds: float
    cpu_s: float
    later_cpu_s: float
    generator_share: float
    settled: bool


async def fanout(peer: Peer, server: Server, shape: Shape, seconds: float) -> Run:
    """One run of `shape`. Raises WorkloadFailed if anything is missing from any device, or from a newcomer's copy."""
    rooms = await _rooms(peer, server, shape, int(shape.updates_max * seconds) + 50)
    await until_idle(server, 0.5, 10)
    gc.collect()
    gc.disable()
    try:
        drive = _saturate if shape.updates_per_s is None else _paced(shape.updates_per_s)
        load = await _loaded(server, rooms, drive(rooms, seconds))
        _check_complete(rooms)
    finally:
        gc.enable()
    await _check_copies(peer, server, rooms)
    for room in rooms:
        for device in room.devices:
            device.close()
    note = "" if load.settled else f"still busy {SETTLES_WITHIN_S:g} s after the last delivery"
    return Run(peer.name, _figures(shape, rooms, load), load.generator_share, note)


async def _rooms(peer: Peer, server: Server, shape: Shape, updates: int) -> list[Room]:
    lines = script(shape.devices, updates)
    rooms = []
    for number in range(shape.documents):
        devices = [await connected(server, peer.dialect, number, f"device{device}") for device in range(shape.devices)]
        rooms.append(Room(peer.dialect, devices, lines, timing=shape.updates_per_s is not None))
    return rooms


async def _saturate(rooms: Sequence[Room], seconds: float) -> None:
    for room in rooms:
        room.saturating = True
        for device in room.devices:
            device.push(IN_FLIGHT)
    await asyncio.sleep(seconds)
    for room in rooms:
        room.saturating = False


def _paced(updates_per_s: float) -> Callable[[Sequence[Room], float], Coroutine[Any, Any, None]]:
    """Devices chosen at random send one update each."""

    async def drive(rooms: Sequence[Room], seconds: float) -> None:
        everyone = [device for room in rooms for device in room.devices]
        rng = random.Random(0)
        start, pushed = clock(), 0
        while (passed_s := clock() - start) < seconds:
            while pushed < int(passed_s * updates_per_s):
                rng.choice(everyone).push()
                pushed += 1
            await asyncio.sleep(0.001)

    return drive


async def _loaded(server: Server, rooms: Sequence[Room], drive: Coroutine[Any, Any, None]) -> _Load:
    start, cpu_s, own_s = clock(), server.cpu_s(), time.process_time()
    await drive
    share = (time.process_time() - own_s) / (clock() - start)
    delivered_cpu_s = await _quiet(server, rooms)
    settled = await until_idle(server, SETTLED_S, SETTLES_WITHIN_S)
    seconds = max(room.arrived_at for room in rooms) - start
    return _Load(seconds, delivered_cpu_s - cpu_s, server.cpu_s() - delivered_cpu_s, share, settled)


async def _quiet(server: Server, rooms: Sequence[Room]) -> float:
    """The server's CPU time when the last message arrived that it had to send."""
    deadline = clock() + DELIVERS_WITHIN_S
    arrived_bytes, cpu_s, at = -1, 0.0, clock()
    while clock() - at < QUIET_S or not all(room.witnessed() for room in rooms):
        if clock() > deadline:
            raise WorkloadFailed("not all that was sent arrived")
        _check_faults(rooms)
        total = sum(room.arrived_bytes for room in rooms)
        if total != arrived_bytes:
            arrived_bytes, cpu_s, at = total, server.cpu_s(), clock()
        await asyncio.sleep(0.005)
    return cpu_s


async def until_idle(server: Server, span_s: float, within_s: float) -> bool:
    """Wait until the server has been idle for `span_s`; False if it never was."""
    start = clock()
    samples: deque[tuple[float, float]] = deque([(start, server.cpu_s())])
    while clock() - start < within_s:
        await asyncio.sleep(span_s / 10)
        samples.append((clock(), server.cpu_s()))
        while len(samples) > 2 and samples[-1][0] - samples[1][0] >= span_s:
            samples.popleft()
        (since, before_s), (now, cpu_s) = samples[0], samples[-1]
        if now - since >= span_s and cpu_s - before_s < IDLE_SHARE * (now - since):
            return True
    return False


def _check_faults(rooms: Sequence[Room]) -> None:
    for room in rooms:
        if room.fault:
            raise WorkloadFailed(room.fault)


def _check_complete(rooms: Sequence[Room]) -> None:
    if missing := sum(not room.complete() for room in rooms):
        raise WorkloadFailed(f"{missing} of {len(rooms)} documents did not reach all their devices whole")
    _check_faults(rooms)


async def _check_copies(peer: Peer, server: Server, rooms: Sequence[Room]) -> None:
    """A newcomer to each document gets what was sent to it, all of it."""
    for number, room in enumerate(rooms):
        newcomer = await connected(server, peer.dialect, number, "newcomer")
        newcomer.close()
        text = text_of(newcomer.opened.result().updates or ())
        if text != "x" * room.sent:
            raise WorkloadFailed(f"a newcomer got {len(text)} of {room.sent} characters")


def text_of(updates: Sequence[bytes]) -> str:
    return str(Replica.load(updates).values().get("t", ""))


def _figures(shape: Shape, rooms: Sequence[Room], load: _Load) -> tuple[Figure, ...]:
    updates = sum(room.sent for room in rooms)
    deliveries = updates * (shape.devices - 1)
    figures = [
        Figure("deliveries", deliveries / load.seconds, "/s", Better.HIGHER),
        Figure("server CPU", load.cpu_s / updates * 1e6, "us/update"),
        Figure("deliveries per CPU second", deliveries / load.cpu_s, "/s", Better.HIGHER),
        Figure("CPU to store what was delivered", load.later_cpu_s / updates * 1e6, "us/update", Better.NEITHER),
        Figure("deliveries per CPU second, stored", deliveries / (load.cpu_s + load.later_cpu_s), "/s", Better.HIGHER),
    ]
    if shape.updates_per_s is not None:
        delivery_s = [wait_s for room in rooms for wait_s in room.delivery_s]
        ack_s = [wait_s for room in rooms for wait_s in room.ack_s]
        for name, waits_s in (("delivery", delivery_s), ("ack", ack_s)):
            if waits_s:
                figures.append(Figure(f"{name} p50", percentile(waits_s, 0.5) * 1000, "ms"))
                figures.append(Figure(f"{name} p99", percentile(waits_s, 0.99) * 1000, "ms"))
    return tuple(figures)
