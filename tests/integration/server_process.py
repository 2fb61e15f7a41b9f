"""Real processes: a server that is started, killed and started again on one file and port; and the command line.

They are forked from a process that has everything imported, which takes milliseconds instead of seconds.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any

from server.cli import main
from server.runtime.worker import PRELOADED
from tests.integration import crash_points
from tests.log_watch import told
from tests.server_fixture import SECRET
from tests.support import wait_until

START_S = 20.0
STOP_S = 20.0

PROCESSES: ForkServerContext = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(
    [*PRELOADED, "pytest", "server.cli.app", "tests.integration.crash_points", "tests.integration.device_process"]
)


def command(
    arguments: tuple[str, ...], environment: Mapping[str, str], output: Path, errors: Path, crash: str | None
) -> None:
    """What a process does: a command line, its output in files, with a crash prepared if one is named."""
    for path, descriptor in ((output, 1), (errors, 2)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), descriptor)
    for name in [name for name in os.environ if name.startswith("SYNCLINE_")]:
        del os.environ[name]
    os.environ.update(environment)
    _forget_the_parents_tracker()
    if crash is not None:
        crash_points.prepare(crash)
    sys.exit(main(arguments))


def _forget_the_parents_tracker() -> None:
    """What a killed process leaves behind is then told in its own log, not at the end of the tests."""
    tracker: Any = resource_tracker
    tracker._resource_tracker._fd = tracker._resource_tracker._pid = None


class ServerProcess:
    """`syncline serve` on `folder/syncline.db`."""

    def __init__(self, folder: Path, *, log_level: str = "debug", arguments: tuple[str, ...] = ()) -> None:
        self.database = folder / "syncline.db"
        self.log = folder / "server.log"
        self.port = 0
        self.trigger = folder / "crash"
        """A prepared crash happens only once this file is there."""
        self.environment = {
            "SYNCLINE_JWT_SECRET": SECRET,
            "SYNCLINE_DATABASE_URL": f"sqlite:///{self.database}",
            "SYNCLINE_LOG_FORMAT": "json",
            "SYNCLINE_LOG_LEVEL": log_level,
        }
        self._arguments = arguments
        self._folder = folder
        self._starts = self._commands = 0
        self._process: ForkServerProcess | None = None

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/v1/sync"

    @property
    def http(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.is_alive()

    @property
    def pid(self) -> int:
        """Of the running process."""
        assert self._process is not None
        assert self._process.pid is not None
        return self._process.pid

    @property
    def address(self) -> tuple[str, int]:
        return "127.0.0.1", self.port

    @property
    def resident_bytes(self) -> int:
        """The memory of the running process."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) << 10

    async def start(self, *, crash: str | None = None) -> None:
        """Returns when devices can connect. `crash` names one of `crash_points`."""
        assert not self.is_running
        self._starts += 1
        self.trigger.unlink(missing_ok=True)
        output = self._folder / f"server-{self._starts}.out"
        arguments = ("serve", "--port", str(self.port), *self._arguments)
        named = f"{crash}:{self.trigger}" if crash else None
        self._process = PROCESSES.Process(target=command, args=(arguments, self.environment, output, self.log, named))
        await asyncio.to_thread(self._process.start)
        await wait_until(lambda: not self.is_running or self._announced(output), START_S)
        found = self._announced(output)
        assert found, self.log.read_text()
        self.port = int(found[1])

    @staticmethod
    def _announced(output: Path) -> re.Match[str] | None:
        return re.search(r"listens on ws://127\.0\.0\.1:(\d+)/", output.read_text()) if output.exists() else None

    def logs(self) -> list[str]:
        """What the server and all commands wrote to standard error."""
        return [file.read_text() for file in (self.log, *self._folder.glob("command-*.err"))]

    def arm(self) -> None:
        """From now on the prepared crash happens."""
        self.trigger.touch()

    async def kill(self) -> None:
        """As a power cut would end it, but for the disk."""
        assert self._process is not None
        assert self._process.pid is not None
        os.kill(self._process.pid, signal.SIGKILL)
        assert await self.exited() == -signal.SIGKILL

    def terminate(self) -> None:
        """Ask it to end."""
        assert self._process is not None
        self._process.terminate()

    async def exited(self, within_s: float = STOP_S) -> int:
        """Wait for the end; the exit code, negative for a signal."""
        process, self._process = self._process, None
        assert process is not None
        await asyncio.to_thread(process.join, within_s)
        code = process.exitcode
        if code is None:
            process.kill()
            await asyncio.to_thread(process.join)
        process.close()
        assert code is not None, "the server did not end"
        return code

    async def cli(self, *arguments: str) -> Outcome:
        """Run a command on the server's store, in a process of its own."""
        self._commands += 1
        output, errors = (self._folder / f"command-{self._commands}.{kind}" for kind in ("out", "err"))
        process = PROCESSES.Process(target=command, args=(arguments, self.environment, output, errors, None))
        await asyncio.to_thread(process.start)
        await asyncio.to_thread(process.join)
        code = process.exitcode
        process.close()
        assert code is not None
        return Outcome(code, output.read_text(), errors.read_text())


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


@asynccontextmanager
async def server_process(
    folder: Path, *, log_level: str = "debug", arguments: tuple[str, ...] = (), crash: str | None = None
) -> AsyncIterator[ServerProcess]:
    """A server that runs; none runs at the end."""
    server = ServerProcess(folder, log_level=log_level, arguments=arguments)
    await server.start(crash=crash)
    try:
        yield server
    finally:
        if server.is_running:
            await server.kill()
    for log in server.logs():
        assert not told(log), told(log)
