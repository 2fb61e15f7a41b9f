"""Heavy work outside the event loop, where it may hang, swell or die: the CRDT library can, and holds the GIL."""

from __future__ import annotations

import asyncio
import os
import resource
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import BrokenExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from multiprocessing import get_context
from threading import Lock
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar

from pebble import ProcessExpired, ProcessFuture, ProcessPool

from server.storage.compaction import CompactionError

P = ParamSpec("P")
T = TypeVar("T")

TIMEOUT_S = 120.0
"""A worker that takes longer is killed."""
PROCESSES = 2
"""So that one that hangs does not hold up all others."""
MEMORY_BYTES_MAX = 2 << 30
"""Of addresses, for one worker: what wants more dies of it, and the server does not."""


PRELOADED = ["server.runtime.rehearsal", "server.runtime.excision", "server.storage.compaction"]
"""What workers are forked with: one that was killed is replaced in milliseconds (without: half a second)."""


class WorkerDied(CompactionError):
    """The process that did the work died, took too long, or could not be started."""


class WorkerMissing(WorkerDied):
    """The work is not to blame: there was no process for it, or all of them were lost before it was done."""


def prepare_workers() -> None:
    """To be called once in a process, before its first worker is needed."""
    get_context("forkserver").set_forkserver_preload(PRELOADED)


class Worker:
    """Processes for what would hold up the loop; started at the first use, replaced when they die."""

    def __init__(self, memory_bytes_max: int = MEMORY_BYTES_MAX) -> None:
        self._memory_bytes_max = memory_bytes_max
        self._pool: ProcessPool | None = None
        self._starting = Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._starting:
            self._stop()

    async def run(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """`function(*args)` in a worker process; all of it must pickle. Raises what it raises, and WorkerDied."""
        return await self.run_within(TIMEOUT_S, function, *args, **kwargs)

    async def run_within(self, timeout_s: float, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """The same, with less patience than usual."""
        try:
            future = await asyncio.to_thread(self._schedule, timeout_s, function, args, kwargs)
        except (RuntimeError, OSError) as exc:  # the pool broke since we looked, or no process can be started now
            raise WorkerMissing(f"the worker can not be started: {exc}") from exc
        try:
            result: T = await asyncio.wrap_future(future)
        except BrokenExecutor as exc:
            raise WorkerMissing(f"the workers were lost: {exc}") from exc
        except (FutureTimeout, ProcessExpired, MemoryError) as exc:
            raise WorkerDied(f"the worker died or took over {timeout_s:.0f} s: {exc}") from exc
        return result

    def _schedule(
        self, timeout_s: float, function: Callable[..., T], args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> ProcessFuture[T]:
        """In a thread of its own: the first processes take up to a second to start. Raises RuntimeError and OSError."""
        with self._starting:
            if self._pool is not None and not self._pool.active:  # its processes were killed while they were idle
                self._stop()
            if self._pool is None:
                self._pool = ProcessPool(
                    max_workers=PROCESSES,
                    context=get_context("forkserver"),
                    initializer=_confine,
                    initargs=[self._memory_bytes_max],
                )
            return self._pool.schedule(function, args=args, kwargs=kwargs, timeout=timeout_s)

    def _stop(self) -> None:
        if self._pool is not None:
            self._pool.stop()  # type: ignore[no-untyped-call]
            self._pool.join()
            self._pool = None


def _confine(memory_bytes_max: int) -> None:
    """In a worker, before its first work: no more memory than that, no core files, no backtraces of panics."""
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes_max, memory_bytes_max))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.environ["RUST_BACKTRACE"] = "0"
