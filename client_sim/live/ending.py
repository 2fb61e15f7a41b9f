"""How a device's block ends."""

from __future__ import annotations

import asyncio


class DeviceEnded(RuntimeError):
    """The device is not inside its `with` block, or a callback raised and ended it: `__cause__` says what."""

    def __init__(self, message: str = "the device is not inside its block") -> None:
        super().__init__(message)


async def result_of(future: asyncio.Future[None]) -> None:
    """A task's way to wait for a future."""
    await future


def only_one(failure: BaseException) -> BaseException:
    """What a task failed with, if nothing else did: a group of one says no more than its one."""
    while isinstance(failure, BaseExceptionGroup) and len(failure.exceptions) == 1:
        failure = failure.exceptions[0]
    return failure
