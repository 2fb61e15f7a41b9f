"""What is measured. Every workload checks its own result: all acknowledged, all delivered, values equal."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from pycrdt import Text

from benchmarks.client import LoadDevice, connect
from benchmarks.server_process import ServerProcess
from crdt.replica import Replica

GENERATOR_BUSY = 0.85
"""A generator that takes more of its core than this may be what was measured."""
QUIET_WITHIN_S = 60.0
clock = time.perf_counter


@dataclass(frozen=True, slots=True)
class Measurement:
    """One run. Times in milliseconds; CPU of the server process in microseconds for each update it received."""

    workload: str
    updates_per_s: float
    deliveries_per_s: float
    cpu_us_per_update: float
    ack_p50_ms: float
    ack_p99_ms: float
    delivery_p50_ms: float | None
    delivery_p99_ms: float | None
    """Not measured at saturation, where it is a matter of the window."""
    generator_cpu_share: float
    seconds: float


@cache
def typed(count: int, seed: int) -> tuple[bytes, ...]:
    """One device's updates: it types one character at a time, nine in ten at the end."""
    rng = random.Random(seed)
    replica = Replica(client_id=rng.getrandbits(32))
    made = []
    for length in range(count):
        at = length if rng.random() < 0.9 else rng.randrange(length + 1)
        update = replica.edit(lambda doc, at=at: doc.get("t", type=Text).insert(at, "x"))  # type: ignore[misc]
        assert update is not None
        made.append(update)
    return tuple(made)


class Deliveries:
    """When each update of one document was sent, and how long after it reached each other device."""

    def __init__(self) -> None:
        self.sent_at: dict[bytes, float] = {}
        self.waits_s: list[float] = []

    def arrived(self, updates: list[bytes]) -> None:
        now = clock()
        self.waits_s.extend(now - self.sent_at[update] for update in updates)


async def saturated(
    server: ServerProcess,
    *,
    documents: int,
    devices: int,
    in_flight: int,
    seconds: float,
    updates_max: int,
    batching: bool = False,
) -> Measurement:
    """Every device keeps `in_flight` ops under way for `seconds`.

    An op is a message of its own, unless `batching`: then what an ACK makes room for goes out in one PUSH.
    """
    rooms = await _rooms(server, documents, devices, updates_max)
    everyone = [device for room in rooms for device in room]

    async def run() -> None:
        for device in everyone:
            device.saturating = True
            device.batching = batching
            device.push(in_flight)
        await asyncio.sleep(seconds)
        for device in everyone:
            device.saturating = False

    name = f"{documents} x {devices}, {in_flight} in flight{', in batches' if batching else ''}"
    return await _measured(name, server, rooms, run, deliveries=None)


async def paced(
    server: ServerProcess, *, documents: int, devices: int, updates_per_s: float, seconds: float
) -> Measurement:
    """Devices chosen at random push one op each, `updates_per_s` of them all together."""
    rooms = await _rooms(server, documents, devices, int(3 * updates_per_s * seconds / (documents * devices)) + 50)
    ledgers = []
    for room in rooms:
        ledgers.append(ledger := Deliveries())
        for device in room:
            device.on_delta = ledger.arrived
    places = [(room, number) for room in range(documents) for number in range(devices)]
    rng = random.Random(0)

    async def run() -> None:
        start = clock()
        pushed = 0
        while (passed_s := clock() - start) < seconds:
            while pushed < int(passed_s * updates_per_s):
                room, number = rng.choice(places)
                device = rooms[room][number]
                ledgers[room].sent_at[_updates_of(number, device.sent)] = clock()
                device.push()
                pushed += 1
            await asyncio.sleep(0.001)

    name = f"{documents} x {devices}, {updates_per_s:g} updates/s"
    return await _measured(name, server, rooms, run, ledgers)


async def returning(server: ServerProcess, *, devices: int, edits: int) -> Measurement:
    """Devices that were offline return at once, with `edits` edits each, and are to be current together."""
    rooms = await _rooms(server, 1, devices, edits)
    ledger = Deliveries()

    async def run() -> None:
        for number, device in enumerate(rooms[0]):
            updates = typed(edits, number)
            ledger.sent_at.update(dict.fromkeys(updates, clock()))
            device.on_delta = ledger.arrived
            device.push_all(updates)

    return await _measured(f"{devices} return with {edits} edits each", server, rooms, run, [ledger])


def _updates_of(number: int, index: int) -> bytes:
    return typed(_made[number], number)[index]


_made: dict[int, int] = {}
"""How many updates were made for the device with a number."""


async def _rooms(server: ServerProcess, documents: int, devices: int, updates: int) -> list[list[LoadDevice]]:
    """Connected devices, by document, with their updates made and encoded."""
    rooms = []
    for room in range(documents):
        members = []
        for number in range(devices):
            _made[number] = updates
            token = server.token(f"user{room}", f"device{number}")
            device = await connect(server.host, server.port, token, f"device{number}", "main", clock)
            device.load(typed(updates, number))
            members.append(device)
        rooms.append(members)
    return rooms


async def _measured(
    name: str,
    server: ServerProcess,
    rooms: Sequence[Sequence[LoadDevice]],
    run: Callable[[], Coroutine[Any, Any, None]],
    deliveries: Sequence[Deliveries] | None,
) -> Measurement:
    everyone = [device for room in rooms for device in room]
    start, cpu_s, own_s = clock(), server.cpu_s(), time.process_time()
    await run()
    share = (time.process_time() - own_s) / (clock() - start)
    await _quiet(rooms)
    seconds = clock() - start
    updates = sum(device.acked for device in everyone)
    cpu_us = (server.cpu_s() - cpu_s) / updates * 1e6
    await _check(server, rooms)
    for device in everyone:
        device.close()
    acks_s = sorted(wait_s for device in everyone for wait_s in device.ack_s)
    waits_s = sorted(wait_s for ledger in deliveries or () for wait_s in ledger.waits_s)
    return Measurement(
        workload=name,
        updates_per_s=updates / seconds,
        deliveries_per_s=sum(device.delivered for device in everyone) / seconds,
        cpu_us_per_update=cpu_us,
        ack_p50_ms=_percentile_ms(acks_s, 0.50),
        ack_p99_ms=_percentile_ms(acks_s, 0.99),
        delivery_p50_ms=_percentile_ms(waits_s, 0.50) if deliveries else None,
        delivery_p99_ms=_percentile_ms(waits_s, 0.99) if deliveries else None,
        generator_cpu_share=share,
        seconds=seconds,
    )


def _percentile_ms(ascending_s: Sequence[float], share: float) -> float:
    return ascending_s[int(len(ascending_s) * share)] * 1000


async def _quiet(rooms: Sequence[Sequence[LoadDevice]]) -> None:
    """Return when all that was sent is acknowledged and has reached every other device of its document."""

    def done() -> bool:
        for room in rooms:
            sent = sum(device.sent for device in room)
            if any(device.acked != device.sent or device.delivered != sent - device.sent for device in room):
                return False
        return True

    deadline = clock() + QUIET_WITHIN_S
    while not done():
        if clock() > deadline:
            raise AssertionError("not all that was sent was acknowledged and delivered")
        await asyncio.sleep(0.005)


async def _check(server: ServerProcess, rooms: Sequence[Sequence[LoadDevice]]) -> None:
    """A newcomer to each document gets what was sent to it, all of it."""
    for number, room in enumerate(rooms):
        errors = [error for device in room for error in device.errors]
        assert not errors, errors[0]
        token = server.token(f"user{number}", "witness")
        witness = await connect(server.host, server.port, token, "witness", "main", clock)
        updates = await witness.whole_document()
        text = Replica.load(updates).values().get("t", "")
        assert text == "x" * sum(device.sent for device in room), "the document is not what was sent"
        witness.close()
