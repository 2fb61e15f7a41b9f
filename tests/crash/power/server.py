"""A server on a disk that can lose its power."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from random import Random

from tests.crash.power import host
from tests.crash.power.disk import Disk, Fate
from tests.log_watch import told
from tests.server_fixture import SECRET
from tests.support import wait_until

WITHIN_S = 30.0
_LISTENS = re.compile(r"listens on ws://127\.0\.0\.1:(\d+)/")


class PoweredServer:
    """`syncline serve` on `folder/syncline.db`, with `pragmas` of SQLite other than it would set."""

    def __init__(
        self, process: Process, folder: Path, arguments: tuple[str, ...], pragmas: Mapping[str, object]
    ) -> None:
        self.database = folder / "syncline.db"
        self.log = folder / "server.log"
        self.port = 0
        self._host = process
        self._folder = folder
        self._arguments = arguments
        self._pragmas = dict(pragmas)
        self._pid: int | None = None
        self._disk: Disk | None = None

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/v1/sync"

    @property
    def has_ended(self) -> bool:
        return self._pid is None or not Path(f"/proc/{self._pid}").exists()

    async def start(self, *, steps: int = 0) -> None:
        """Returns when devices can connect, or when it has ended: after so many `steps` of its disk, if not 0."""
        assert self._disk is None
        journal, output = self._folder / "disk.journal", self._folder / "server.out"
        for file in (journal, output):
            file.unlink(missing_ok=True)
        self._disk = Disk(self.database, journal, steps=steps)
        arguments = ("serve", "--port", str(self.port), *self._arguments)
        order = host.Order(arguments, self._environment, str(output), str(self.log), self._pragmas)
        assert self._host.stdin is not None
        self._host.stdin.write(f"{json.dumps(order)}\n".encode())
        self._pid = int(await self._line())
        await wait_until(lambda: self.has_ended or self._listens(output), WITHIN_S)
        assert steps or not self.has_ended, self.log.read_text()

    def _listens(self, output: Path) -> bool:
        found = _LISTENS.search(output.read_text()) if output.exists() else None
        self.port = int(found[1]) if found else self.port
        return found is not None

    async def cut_power(self, fate: Fate, rng: Random) -> Disk:
        """End it, if it has not ended by itself, and leave on the disk what such a cut leaves."""
        assert self._disk is not None
        await self.kill()
        disk, self._disk = self._disk, None
        disk.replay()
        disk.cut(fate, rng)
        return disk

    async def kill(self) -> None:
        if self._pid is not None:
            with suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
            assert await self._line() == host.ENDED
            self._pid = None

    @property
    def _environment(self) -> dict[str, str]:
        assert self._disk is not None
        return self._disk.environment | {
            "SYNCLINE_JWT_SECRET": SECRET,
            "SYNCLINE_DATABASE_URL": f"sqlite:///{self.database}",
            "SYNCLINE_LOG_FORMAT": "json",
            "SYNCLINE_LOG_LEVEL": "debug",
        }

    async def _line(self) -> str:
        assert self._host.stdout is not None
        async with asyncio.timeout(WITHIN_S):
            line = (await self._host.stdout.readline()).decode().rstrip()
        assert line, self.log.read_text()
        return line


@asynccontextmanager
async def powered_server(
    folder: Path, library: Path, *, arguments: tuple[str, ...] = (), pragmas: Mapping[str, object] | None = None
) -> AsyncIterator[PoweredServer]:
    """A server that has not been started; none runs at the end."""
    environment = os.environ | {"LD_PRELOAD": str(library)}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", host.__name__, stdin=PIPE, stdout=PIPE, env=environment
    )
    server = PoweredServer(process, folder, arguments, pragmas or {})
    try:
        yield server
    finally:
        await server.kill()
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()
    log = server.log.read_text()
    assert not told(log), told(log)
