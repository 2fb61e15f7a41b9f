"""Running a workload's coroutine, many at a time, and when a server has come to rest."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, TypeVar

import uvloop

from benchmarks.figures import WorkloadFailed
from benchmarks.server_process import ServerProcess

T = TypeVar("T")

LOOK_S = 0.1
BUSY_SHARE = 0.02
QUIET_LOOKS = 4
"""A server that takes less of a core than this, so many times in a row, has nothing left to do."""


def run(work: Coroutine[Any, Any, T]) -> T:
    """What `work` returns. Raises WorkloadFailed and ConnectionError, out of however many task groups."""
    try:
        return uvloop.run(work)
    except ExceptionGroup as exc:
        failed = exc.subgroup((WorkloadFailed, ConnectionError))
        if failed is None:
            raise
        raise _first(failed) from exc


def _first(exc: BaseException) -> BaseException:
    return _first(exc.exceptions[0]) if isinstance(exc, BaseExceptionGroup) else exc


async def each(items: Iterable[T], act: Callable[[T], Awaitable[None]], at_once: int) -> None:
    """Act on every item, on `at_once` of them at a time."""
    waiting = iter(items)

    async def work() -> None:
        for item in waiting:
            await act(item)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(at_once):
            tasks.create_task(work())


async def settled(server: ServerProcess, looks: int = QUIET_LOOKS) -> None:
    """Returns once the server and its workers do nothing more, as so many looks in a row tell."""
    quiet = 0
    while quiet < looks:
        cpu_s = server.cpu_s()
        await asyncio.sleep(LOOK_S)
        quiet = quiet + 1 if server.cpu_s() - cpu_s < BUSY_SHARE * LOOK_S else 0
