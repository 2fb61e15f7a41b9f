"""What a server says of itself at /metrics."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from benchmarks.server_process import ServerProcess

_REQUEST = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


async def read_metrics(server: ServerProcess) -> dict[str, float]:
    """Every sample by its name, labels included as they are written. Raises OSError."""
    reader, writer = await asyncio.open_connection(server.host, server.port)
    writer.write(_REQUEST)
    body = (await reader.read()).decode().partition("\r\n\r\n")[2]
    writer.close()
    samples = (line.rpartition(" ") for line in body.splitlines() if " " in line and not line.startswith("#"))
    return {name: float(value) for name, _, value in samples}


@asynccontextmanager
async def watched(
    server: ServerProcess, look: Callable[[dict[str, float]], None], every_s: float
) -> AsyncIterator[None]:
    """Have `look` see the metrics now and then, as long as the body runs, and once at its end."""

    async def keep_looking() -> None:
        while True:
            look(await read_metrics(server))
            await asyncio.sleep(every_s)

    async with asyncio.TaskGroup() as tasks:
        looking = tasks.create_task(keep_looking())
        yield
        looking.cancel()
    look(await read_metrics(server))


class Peaks:
    """The most that was seen of each sample."""

    def __init__(self) -> None:
        self._most: dict[str, float] = {}

    def __call__(self, samples: dict[str, float]) -> None:
        for name, value in samples.items():
            self._most[name] = max(value, self._most.get(name, value))

    def __getitem__(self, name: str) -> float:
        return self._most[name]
