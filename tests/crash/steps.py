"""The steps of storage at work, and what can go wrong at each: calls to SQLite, awaits, and bytes of a file."""

from __future__ import annotations

import asyncio
import resource
import sqlite3
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias
from unittest.mock import patch

import aiosqlite

Call: TypeAlias = Callable[[], Awaitable[Any]]
Fault: TypeAlias = Callable[[Call], Awaitable[Any]]
"""What comes of one call to SQLite, which it makes or not."""

FULL = "database or disk is full"
IO_ERROR = "disk I/O error"


def refused(reason: str) -> Fault:
    """The call fails, and did nothing."""

    async def fault(_call: Call) -> Any:
        raise sqlite3.OperationalError(reason)

    return fault


def unreported(reason: str) -> Fault:
    """The call is done, and said to have failed: a commit that may be durable."""

    async def fault(call: Call) -> Any:
        await call()
        raise sqlite3.OperationalError(reason)

    return fault


@dataclass(slots=True)
class Steps:
    """Calls to SQLite that were made; whether the one that was waited for came."""

    made: int = 0
    hit: bool = False


@contextmanager
def at_step(number: int, fault: Fault) -> Iterator[Steps]:
    """The call of that number from now on, whichever connection makes it, comes to `fault`. The first one is 1."""
    steps = Steps()

    async def turn(call: Call) -> Any:
        steps.made += 1
        if steps.made != number:
            return await call()
        steps.hit = True
        return await fault(call)

    with every_step(turn):
        yield steps


@contextmanager
def every_step(fault: Fault) -> Iterator[None]:
    """Every call from now on comes to `fault`."""
    execute: Any = aiosqlite.Connection._execute

    async def turn(self: aiosqlite.Connection, function: Any, *args: Any, **kwargs: Any) -> Any:
        return await fault(lambda: execute(self, function, *args, **kwargs))

    with patch.object(aiosqlite.Connection, "_execute", turn):
        yield


class GivenUp:
    """`await` runs the work, and cancels its task as it begins to wait for the n-th time.

    With `late` it is cancelled when that is there which it waited for, and before it learns of it.
    """

    def __init__(self, work: Coroutine[Any, Any, Any], number: int, *, late: bool) -> None:
        self.waits = 0
        self._work = work
        self._number = number
        self._late = late

    def __await__(self) -> Generator[Any, Any, Any]:
        task = asyncio.current_task()
        assert task is not None
        told: BaseException | None = None
        while True:
            try:
                awaited: Any = self._work.send(None) if told is None else self._work.throw(told)
            except StopIteration as end:
                return end.value
            self.waits += 1
            if self.waits == self._number:
                self._cancel(task, awaited)
            told = None
            try:
                yield awaited
            except BaseException as exc:  # noqa: BLE001 - the work is told of it
                told = exc

    def _cancel(self, task: asyncio.Task[Any], awaited: asyncio.Future[Any] | None) -> None:
        if self._late and awaited is not None:
            awaited.add_done_callback(lambda _: task.cancel())
        else:
            task.cancel()


@contextmanager
def file_bytes_max(size: int) -> Iterator[None]:
    """No file of this process grows beyond that: what is written across it is written in part, and then fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
