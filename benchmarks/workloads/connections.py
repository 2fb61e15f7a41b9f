"""Connections: what an idle socket and an open document take of memory and CPU, up to what the limit on files allows.

Memory is what is resident of the server and its workers; the kernel's buffers of the sockets are beside it. The first
sockets also fill what the process keeps anyway, so the slope is taken beyond them. Devices come from many addresses of
the loopback, for each has only so many ports.
"""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from time import perf_counter as clock
from time import process_time

from benchmarks.figures import Better, Figure, Run, Scale, Workload, WorkloadFailed
from benchmarks.histories import generated, text_of
from benchmarks.metrics import read_metrics
from benchmarks.pacing import QUIET_LOOKS, each, run, settled
from benchmarks.server_process import ServerProcess, server_process
from benchmarks.visitor import NOTHING, Visit, Visitor, visit

SOCKETS, FIRST = 15_000, 1_000
SPARE_FILES = 1_000
"""What server and generator open beside the sockets."""
DEVICES_PER_DOCUMENT = 60
"""A user has so many devices at most, about."""
PER_ADDRESS = 4_000
AT_ONCE = 50
IDLE_S = 35.0
"""A heartbeat is 30 s: every socket is pinged in that time."""
LOOKS, LOOK_S = 10, 0.1
"""The server counts four times a second."""
DOCUMENT = "main"
TARGET = "target: at most 16 KiB beyond the first 1,000, with the document open"


def workloads(scale: Scale) -> dict[str, Workload]:
    return {
        "own-document": lambda: [_measured(scale, "each socket a document of its own", own, 1)],
        "shared-documents": lambda: [
            _measured(scale, f"{DEVICES_PER_DOCUMENT} sockets a document", shared, DEVICES_PER_DOCUMENT)
        ],
        "no-document": lambda: [_measured(scale, "no document open", none, 0)],
    }


@dataclass(frozen=True, slots=True)
class Seat:
    """Who sits on one of the sockets. `writes`: it writes the document's first line before it is idle."""

    user: str
    device: str
    opens: bool = True
    writes: bool = False


def own(number: int) -> Seat:
    return Seat(f"user-{number}", "phone", writes=True)


def shared(number: int) -> Seat:
    document, device = divmod(number, DEVICES_PER_DOCUMENT)
    return Seat(f"user-{document}", f"device-{device}", writes=not device)


def none(number: int) -> Seat:
    return Seat(f"user-{number}", "phone", opens=False)


def _measured(scale: Scale, name: str, seat: Callable[[int], Seat], per_document: int) -> Run:
    sockets = _allowed(scale.of(SOCKETS, 90))
    first = min(scale.of(FIRST, 30), sockets // 2)
    with server_process() as server:
        return run(_fill(server, name, seat, (first, sockets), scale.quick, per_document))


def _allowed(sockets: int) -> int:
    """As many as the limit on open files allows, which is raised to what it may be."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return sockets if hard == resource.RLIM_INFINITY else min(sockets, hard - SPARE_FILES)


async def _fill(
    server: ServerProcess,
    name: str,
    seat: Callable[[int], Seat],
    sizes: tuple[int, int],
    is_quick: bool,
    per_document: int,
) -> Run:
    first, sockets = sizes
    visitors: list[Visitor] = []
    looks = 1 if is_quick else QUIET_LOOKS
    empty_bytes = await _settled_bytes(server, looks)
    await take_seats(server, range(first), seat, visitors)
    first_bytes = await _settled_bytes(server, looks)
    start, cpu_s = clock(), server.cpu_s()
    await take_seats(server, range(first, sockets), seat, visitors)
    filled_s, filled_cpu_s = clock() - start, server.cpu_s() - cpu_s
    full_bytes = await _settled_bytes(server, looks)
    start, cpu_s, own_s = clock(), server.cpu_s(), process_time()
    await asyncio.sleep(0.2 if is_quick else IDLE_S)
    idle_s, cpu_s, own_s = clock() - start, server.cpu_s() - cpu_s, process_time() - own_s
    await check(server, visitors, -(-sockets // per_document) if per_document else 0)
    for visitor in visitors:
        visitor.close()
    figures = (
        Figure("a socket beyond the first", (full_bytes - first_bytes) / (sockets - first) / 1024, "KiB"),
        Figure(f"a socket of the first {first:,}", (first_bytes - empty_bytes) / first / 1024, "KiB"),
        Figure("without any", empty_bytes / (1 << 20), "MiB"),
        Figure("with all", full_bytes / (1 << 20), "MiB"),
        Figure("CPU while idle", cpu_s / idle_s * 100, "% of a core"),
        Figure("CPU while idle", cpu_s / idle_s / sockets * 60 * 1e6, "us a socket and minute"),
        Figure("CPU to come in", filled_cpu_s / (sockets - first) * 1e3, "ms"),
        Figure("let in", (sockets - first) / filled_s, "sockets/s", Better.HIGHER),
    )
    return Run(f"{sockets:,} sockets, {name}", figures, own_s / idle_s, TARGET if per_document == 1 else "")


async def take_seats(
    server: ServerProcess, numbers: Iterable[int], seat: Callable[[int], Seat], visitors: list[Visitor]
) -> None:
    async def sit(number: int) -> None:
        visitors.append(await _sit(server, number, seat(number)))

    await each(numbers, sit, AT_ONCE)


async def _sit(server: ServerProcess, number: int, seat: Seat) -> Visitor:
    tasks = [Visit(DOCUMENT, NOTHING)] if seat.opens else []
    token, source = server.token(seat.user, seat.device), f"127.0.0.{2 + number // PER_ADDRESS}"
    visitor = await visit(server, token, seat.device, tasks, source=source)
    for task in tasks:
        await task.caught_up
        if seat.writes:
            visitor.push(task, 1, _line())
            await task.acknowledged(1)
    return visitor


def _line() -> tuple[bytes, ...]:
    """One op: the first line of a document."""
    return generated(1, 0.0).updates


async def _settled_bytes(server: ServerProcess, looks: int) -> int:
    """What is resident once the server has nothing left to do."""
    await settled(server, looks)
    return server.resident_bytes()


async def check(server: ServerProcess, visitors: Sequence[Visitor], documents: int) -> None:
    """Everybody is there, and has the document's line, whether as an answer or as a delta."""
    gone = sum(visitor.left.done() for visitor in visitors)
    expected = (len(visitors), documents)
    for _ in range(LOOKS):
        if (counted := await _counted(server)) == expected:
            break
        await asyncio.sleep(LOOK_S)
    if gone or counted != expected:
        raise WorkloadFailed(
            f"of {len(visitors)} sockets {gone} are gone; the server has {counted[0]:.0f}, "
            f"and {counted[1]:.0f} documents instead of {documents}"
        )
    for task in (task for visitor in visitors for task in visitor.visits):
        known = [*(await task.caught_up).updates, *task.deltas]
        if not task.acked and text_of(known) != generated(1, 0.0).text:
            raise WorkloadFailed("a device lacks what its document has")


async def _counted(server: ServerProcess) -> tuple[float, float]:
    """Sockets and documents, as the server counted them a moment ago."""
    metrics = await read_metrics(server)
    return metrics["syncline_sessions"], metrics["syncline_rooms"]
