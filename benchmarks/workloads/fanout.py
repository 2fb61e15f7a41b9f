"""Devices that edit together: what one sends reaches all others of its document, durably, and how soon.

Each run ends when all that was sent is acknowledged and delivered. Then the values are compared: what a newcomer is
given, what was pushed, and what each device that keeps what it reads was sent.
"""

from __future__ import annotations

import gc
import random
import string
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, partial

import uvloop
from pycrdt import Text

from benchmarks import load
from benchmarks.figures import Better, Figure, Run, Scale, Workload, WorkloadFailed
from benchmarks.load import Device, Loop, Script, clock
from benchmarks.percentiles import percentile
from benchmarks.server_process import ServerProcess, server_process
from benchmarks.visitor import NOTHING, Visit, caught_up, visit
from crdt.replica import Replica
from crdt.values import Values

QUIET_WITHIN_S = 60.0
WARM_UP = 0.2
"""Of the time that is measured, before it: caches fill, and the interpreter adapts to what it runs."""
KEEPERS = 8
"""Devices that keep what they read, where keeping it on all of them would be too much work."""
UPDATES_PER_S = 800
"""How many each device of 200 is given to push; the run ends early if they are not enough."""
DOCUMENT = "main"


@dataclass(frozen=True, slots=True)
class Shape:
    """Who edits what, and how fast: `in_flight` ops under way for each device, or `updates_per_s` of all together."""

    documents: int
    devices: int
    in_flight: int = 0
    batching: bool = False
    updates_per_s: float = 0

    def script_length(self, measured_s: float) -> int:
        """So many updates that no device runs out of them."""
        seconds = measured_s * (1 + WARM_UP)
        members = self.documents * self.devices
        if self.updates_per_s:
            return int(3 * self.updates_per_s * seconds / members) + 50
        return int(UPDATES_PER_S * seconds * 200 / max(members, 100)) + 2 * self.in_flight


SHAPES = {
    "50x4-saturated": Shape(50, 4, in_flight=4),
    "50x4-batched": Shape(50, 4, in_flight=4, batching=True),
    "1x100-saturated": Shape(1, 100, in_flight=4),
    "1x100-batched": Shape(1, 100, in_flight=4, batching=True),
    "1000x2-saturated": Shape(1000, 2, in_flight=4),
    "50x4-paced": Shape(50, 4, updates_per_s=1000),
    "1x100-paced": Shape(1, 100, updates_per_s=100),
}


def workloads(scale: Scale) -> dict[str, Workload]:
    return {name: partial(run, name, shape, scale) for name, shape in SHAPES.items()}


def run(name: str, shape: Shape, scale: Scale) -> list[Run]:
    """One run against a server of its own."""
    if scale.quick:
        shape = Shape(
            min(shape.documents, 5), min(shape.devices, 5), shape.in_flight, shape.batching, shape.updates_per_s
        )
    for member in range(shape.devices):  # a server that is there by then would ask, and get no answer meanwhile
        typed(shape.script_length(scale.seconds), member)
    settings = {"SYNCLINE_SESSIONS_PER_USER": str(shape.devices + 28)}
    with server_process(settings=settings) as server, _rooms(shape, server, scale.seconds) as rooms:
        figures, share = rooms.measured(scale.seconds)
    return [Run(name, figures, share)]


@cache
def typed(count: int, seed: int) -> tuple[bytes, ...]:
    """One device's updates: it types one letter at a time, nine in ten at the end."""
    rng = random.Random(seed)
    replica = Replica(client_id=rng.getrandbits(32))
    made = []
    for length in range(count):
        at, letter = length if rng.random() < 0.9 else rng.randrange(length + 1), rng.choice(string.ascii_letters)
        update = replica.edit(lambda doc, at=at, letter=letter: doc.get("t", type=Text).insert(at, letter))  # type: ignore[misc]
        assert update is not None
        made.append(update)
    return tuple(made)


@cache
def _script(count: int, seed: int, handle: int) -> Script:
    return Script.of(typed(count, seed), handle)


@dataclass(slots=True)
class Room:
    """One document and its devices, the user's own."""

    user: str
    devices: list[Device] = field(default_factory=list)

    @property
    def sent(self) -> int:
        return sum(device.sent for device in self.devices)

    def is_quiet(self) -> bool:
        """True when all that was sent is acknowledged, and has reached every other device."""
        head = max(device.head for device in self.devices)
        return all(device.acked == device.sent and device.entries + device.deltas == head for device in self.devices)

    def pushed(self) -> list[bytes]:
        return [update for device in self.devices for update in device.script.updates[: device.sent]]


@dataclass(frozen=True, slots=True)
class Moment:
    """What the counters of a run say."""

    at: float
    server_s: float
    updates: int


class Rooms:
    """All devices of a run, connected."""

    def __init__(self, shape: Shape, server: ServerProcess, loop: Loop) -> None:
        self._shape = shape
        self._server = server
        self._loop = loop
        self._rooms: list[Room] = []

    def fill(self, seconds: float) -> None:
        """Connect everyone, with what they will push."""
        count = self._shape.script_length(seconds)
        for number in range(self._shape.documents):
            room = Room(f"user{number}")
            for member in range(self._shape.devices):
                name = f"device{member}"
                token = self._server.token(room.user, name)
                device = load.connect(self._loop, self._server.host, self._server.port, token, name, DOCUMENT)
                device.script = _script(count, member, device.handle)
                device.batching = self._shape.batching
                room.devices.append(device)
                self._loop.run_once()  # those that are there answer the server's pings
            self._rooms.append(room)
        everyone = self._everyone()
        for device in everyone if self._shape.updates_per_s else _spaced(everyone, KEEPERS):
            device.kept = []

    def measured(self, seconds: float) -> tuple[tuple[Figure, ...], float]:
        """Warm up, measure, check: the figures, and how much of its core this process took."""
        with _uncollected():
            self._push(seconds * WARM_UP)
            before = self._now()
            share = self._push(seconds)
            after = self._now()
        peak_bytes = self._server.peak_bytes()
        self._check()
        figures = (*self._rates(before, after), *self._waits(before.at))
        memory = Figure("peak memory", peak_bytes / 2**20, "MiB")
        return (*figures, memory), share

    def close(self) -> None:
        for device in self._everyone():
            device.close()

    def _everyone(self) -> list[Device]:
        return [device for room in self._rooms for device in room.devices]

    def _push(self, seconds: float) -> float:
        """Load the server for so long and wait until it is done. How much of its core this process took meanwhile."""
        start, own_s = clock(), time.process_time()
        if self._shape.updates_per_s:
            self._pace(seconds)
        else:
            self._saturate(seconds)
        share = (time.process_time() - own_s) / (clock() - start)
        self._quiet()
        return share

    def _saturate(self, seconds: float) -> None:
        everyone = self._everyone()
        for device in everyone:
            device.saturating = True
            device.push(self._shape.in_flight)
        self._loop.run(seconds)
        for device in everyone:
            device.saturating = False

    def _pace(self, seconds: float) -> None:
        everyone = self._everyone()
        rng = random.Random(len(everyone[0].sent_at))
        start = clock()
        for number in range(int(seconds * self._shape.updates_per_s)):
            self._loop.run_until(start + number / self._shape.updates_per_s)
            rng.choice(everyone).push()

    def _quiet(self) -> None:
        deadline = clock() + QUIET_WITHIN_S
        waiting = self._rooms
        while waiting := [room for room in waiting if not room.is_quiet()]:
            if clock() > deadline:
                raise WorkloadFailed("not all that was sent was acknowledged and delivered")
            self._loop.run_until(clock() + 0.002)

    def _now(self) -> Moment:
        updates = sum(device.acked for device in self._everyone())
        return Moment(clock(), self._server.cpu_s(), updates)

    def _rates(self, before: Moment, after: Moment) -> Iterator[Figure]:
        updates, seconds, cpu_s = after.updates - before.updates, after.at - before.at, after.server_s - before.server_s
        deliveries = updates * (self._shape.devices - 1)
        fast = Better.NEITHER if self._shape.updates_per_s else Better.HIGHER
        yield Figure("updates", updates / seconds, "1/s", fast)
        yield Figure("deliveries", deliveries / seconds, "1/s", fast)
        yield Figure("deliveries", deliveries / cpu_s, "1/CPU s", Better.HIGHER)
        yield Figure("CPU an update", cpu_s / updates * 1e6, "us")
        yield Figure("CPU a delivery", cpu_s / deliveries * 1e6, "us")
        yield Figure("CPU", cpu_s / seconds, "of a core", Better.NEITHER)

    def _waits(self, since: float) -> Iterator[Figure]:
        """From the moment in which an op is sent, of what was sent since then."""
        acks_s = [wait_s for device in self._everyone() for wait_s in _ack_waits_s(device, since)]
        deliveries_s = [wait_s for room in self._rooms for wait_s in _delivery_waits_s(room, since)]
        for name, waits_s in (("ack", acks_s), ("delivery", deliveries_s)):
            for percent in (50, 99):
                yield Figure(f"{name} p{percent}", percentile(waits_s, percent / 100) * 1000, "ms")

    def _check(self) -> None:
        """A newcomer to each document gets what was pushed to it, all of it, and so did those that kept it."""
        given = uvloop.run(_newcomers(self._server, [room.user for room in self._rooms]))
        for room, values in zip(self._rooms, given, strict=True):
            if values != Replica.load(room.pushed()).values():
                raise WorkloadFailed(f"the document of {room.user} is not what was pushed")
            for device in room.devices:
                if device.kept is not None:
                    check_deltas(room, device)


@contextmanager
def _rooms(shape: Shape, server: ServerProcess, seconds: float) -> Iterator[Rooms]:
    loop = Loop()
    rooms = Rooms(shape, server, loop)
    try:
        rooms.fill(seconds)
        yield rooms
    finally:
        rooms.close()
        loop.close()


@contextmanager
def _uncollected() -> Iterator[None]:
    """A collector that looks through all scripts, and stops the generator meanwhile, is no part of a device."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _spaced(devices: Sequence[Device], count: int) -> Sequence[Device]:
    return devices[:: max(1, len(devices) // count)]


def _ack_waits_s(device: Device, since: float) -> Iterator[float]:
    acked = 0
    for acked_at, op in device.acks:
        yield from (acked_at - sent_at for sent_at in device.sent_at[acked:op] if sent_at >= since)
        acked = op


def _delivery_waits_s(room: Room, since: float) -> Iterator[float]:
    keepers = [device for device in room.devices if device.kept is not None]
    if not keepers:
        return
    sent_at = {
        update: sent
        for device in room.devices
        for update, sent in zip(device.script.updates, device.sent_at)  # noqa: B905
    }
    for device in keepers:
        for read_at, delta in load.deltas(device.kept or ()):
            yield from (read_at - sent_at[update] for update in delta.updates if sent_at[update] >= since)


def check_deltas(room: Room, device: Device) -> None:
    """What it was sent is what all others pushed, each one's in order, in entries that follow one another."""
    found = [delta for _, delta in load.deltas(device.kept or ())]
    seqs = [delta.seq for delta in found]
    if seqs != sorted(set(seqs)):
        raise WorkloadFailed(f"a device of {room.user} was sent entries out of order")
    arrived = {update: place for place, update in enumerate(update for delta in found for update in delta.updates)}
    for other in room.devices:
        if other is not device:
            places = [arrived.pop(update, -1) for update in other.script.updates[: other.sent]]
            if -1 in places or places != sorted(places):
                raise WorkloadFailed(f"a device of {room.user} was not sent what another pushed, in order")
    if arrived:
        raise WorkloadFailed(f"a device of {room.user} was sent what nobody pushed")


async def _newcomers(server: ServerProcess, users: Sequence[str]) -> list[Values]:
    """What a device that has nothing is given of each user's document."""
    found = []
    for user in users:
        newcomer = await visit(server, server.token(user, "newcomer"), "newcomer", [Visit(DOCUMENT, NOTHING)])
        [answer] = await caught_up(newcomer)
        found.append(Replica.load(answer.updates).values())
        newcomer.close()
        await newcomer.left
    return found
