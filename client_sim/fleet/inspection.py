"""What the server has, as a device sees it that is new."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from client_sim.fleet.habits import VISITS
from client_sim.fleet.phone import DOCUMENT
from client_sim.live import AsyncDevice, Blocked
from client_sim.live.tokens import TokenSource
from crdt.update import StateVector

NAME = "inspector"
AT_ONCE = 16
READ_S = 30.0


@dataclass(frozen=True, slots=True)
class Found:
    """A document of the server."""

    values: Mapping[str, Any]
    version: StateVector

    @property
    def visits(self) -> list[str]:
        return list(self.values.get(VISITS, ()))


async def inspect(url: str, users: Iterable[str], source: Callable[[str], TokenSource]) -> dict[str, Found | None]:
    """By user; None where it did not come within READ_S."""
    free = asyncio.Semaphore(AT_ONCE)

    async def read(user: str) -> Found | None:
        async with free:
            return await _read(url, source(user))

    async with asyncio.TaskGroup() as group:
        reading = {user: group.create_task(read(user)) for user in users}
    return {user: task.result() for user, task in reading.items()}


async def _read(url: str, token: TokenSource) -> Found | None:
    async with AsyncDevice(url, token=token, device=NAME) as device:
        document = await device.open(DOCUMENT)
        try:
            await document.wait_current(READ_S)
        except (TimeoutError, Blocked):
            return None
        return Found(document.values(), document.version())
