"""Heavy work outside the event loop: the CRDT library holds the GIL, so only another process helps."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import BrokenExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from multiprocessing import get_context
from types import TracebackType
from typing import ParamSpec, Self, TypeVar

from pebble import ProcessExpired, ProcessPool

from server.storage.compaction import CompactionError

P = ParamSpec("P")
T = TypeVar("T")

TIMEOUT_S = 120.0
"""A worker that takes longer is killed."""


class Worker:
    """One process that does what would hold up the loop; started at its first use, replaced if it dies."""

    def __init__(self) -> None:
        self._pool: ProcessPool | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    async def run(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """`function(*args)` in the worker process; all of it must pickle. Raises what it raises.

        A worker that died or took too long is a CompactionError.
        """
        if self._pool is not None and not self._pool.active:  # its process was killed while it had nothing to do
            self._stop()
        try:
            if self._pool is None:
                self._pool = ProcessPool(max_workers=1, context=get_context("spawn"))
            future = self._pool.schedule(function, args=list(args), kwargs=kwargs, timeout=TIMEOUT_S)
        except (RuntimeError, OSError) as exc:  # the pool broke since we looked, or no process can be started now
            raise CompactionError(f"the worker can not be started: {exc}") from exc
        try:
            result: T = await asyncio.wrap_future(future)
        except (FutureTimeout, ProcessExpired, BrokenExecutor) as exc:
            raise CompactionError(f"the worker died or took over {TIMEOUT_S:.0f} s: {exc}") from exc
        return result

    def _stop(self) -> None:
        if self._pool is not None:
            self._pool.stop()  # type: ignore[no-untyped-call]
            self._pool.join()
            self._pool = None
