"""The processes of the demo: none outlives this one, and each is ended by its own id."""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from client_sim.core.status import State
from client_sim.demo.words import RECONNECT, Report, Tally, Task
from crdt.protocol.frames import PATH

START_S = 20.0
STOP_S = 20.0
LOG_POLL_S = 0.02
KILLED = "killed"

_PR_SET_PDEATHSIG: Final = 1
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


class DemoFailed(Exception):
    """The demo can not go on. The text is for the user."""


def _die_with_parent() -> None:
    """In the child: SIGKILL when the parent is gone, however it went. Elsewhere than on Linux the pipe's end does."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class Processes:
    """Starts processes, and at the end of the block kills those that still run."""

    def __init__(self) -> None:
        self._started: list[Process] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for process in self._started:
            kill(process)
        for process in self._started:
            await process.wait()

    async def start(
        self, module: str, *arguments: str, log: Path, environment: Mapping[str, str] | None = None, piped: bool = False
    ) -> Process:
        """`python -m module`, in a session of its own, so that Ctrl-C is this process's to handle.

        `log` gets what it writes; with `piped` what it writes to standard output can be read instead, and it to.
        """
        with log.open("wb") as file:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", module, *arguments,
                stdin=PIPE, stdout=PIPE if piped else file, stderr=file,
                env=environment, start_new_session=True, preexec_fn=_die_with_parent,
            )  # fmt: skip
        self._started.append(process)
        return process


def kill(process: Process) -> None:
    """SIGKILL, if it still runs."""
    if process.returncode is None:
        process.kill()


def last_line(log: Path) -> str:
    """What a process said last, but for the frames that are drawn around nested errors."""
    lines = [line.strip(" |") for line in log.read_text(encoding="utf-8", errors="replace").splitlines()]
    return next((line for line in reversed(lines) if any(map(str.isalnum, line))), "it wrote nothing")


def clean_environment(**settings: str) -> dict[str, str]:
    """This process's environment, but of Syncline's settings only these."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SYNCLINE_")}
    return kept | {f"SYNCLINE_{name.upper()}": value for name, value in settings.items()}


class ServerProcess:
    """`syncline serve` on a file of its own: started, killed, started again on the same port."""

    def __init__(self, processes: Processes, folder: Path, secret: str) -> None:
        self.database_url = f"sqlite:///{folder / 'server.db'}"
        self.url = ""
        self.is_up = False
        self.starts = 0
        self._processes = processes
        self._folder = folder
        self._environment = clean_environment(
            jwt_secret=secret, database_url=self.database_url, log_format="json", log_level="info"
        )
        self._port = 0
        self._process: Process | None = None

    async def start(self) -> None:
        """Returns when devices can connect. Raises DemoFailed."""
        self.starts += 1
        log = self._folder / f"server-{self.starts}.log"
        self._process = await self._processes.start(
            "server.cli", "serve", "--host", "127.0.0.1", "--port", str(self._port),
            log=log, environment=self._environment,
        )  # fmt: skip
        try:
            async with asyncio.timeout(START_S):
                while (address := _listening(log)) is None:
                    if self._process.returncode is not None:
                        raise DemoFailed(f"the server did not start: {last_line(log)}")
                    await asyncio.sleep(LOG_POLL_S)
        except TimeoutError as exc:
            raise DemoFailed(f"the server did not start within {START_S:g} s") from exc
        host, self._port = address
        self.url = f"ws://{host}:{self._port}{PATH}"
        self.is_up = True

    async def kill(self) -> None:
        """SIGKILL: what it did not write is lost."""
        assert self._process is not None
        kill(self._process)
        self.is_up = False
        await self._process.wait()

    async def stop(self) -> None:
        """SIGTERM. Raises DemoFailed if it did not end well."""
        assert self._process is not None
        self._process.terminate()
        try:
            code = await asyncio.wait_for(self._process.wait(), STOP_S)
        except TimeoutError as exc:
            raise DemoFailed(f"the server did not stop within {STOP_S:g} s") from exc
        self.is_up = False
        if code:
            raise DemoFailed(f"the server ended with exit code {code}")

    async def ask(self, *command: str) -> bytes:
        """What `syncline ...` writes about this server's database. Raises DemoFailed unless it ends with 0."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "server.cli", *command, "--database-url", self.database_url,
            stdin=asyncio.subprocess.DEVNULL, stdout=PIPE, stderr=PIPE, env=clean_environment(),
            preexec_fn=_die_with_parent,
        )  # fmt: skip
        try:
            written, complaint = await process.communicate()
        finally:
            kill(process)
        if process.returncode:
            said = (complaint or written).decode(errors="replace").strip()
            raise DemoFailed(f"`syncline {' '.join(command)}` ended with {process.returncode}: {said}")
        return written


def _listening(log: Path) -> tuple[str, int] | None:
    """The address that a server's log says."""
    for line in log.read_text(encoding="utf-8").splitlines():
        try:
            entry = json.loads(line)
        except ValueError:  # a line that is being written
            continue
        if isinstance(entry, dict) and entry.get("event") == "listening":
            return entry["host"], entry["port"]
    return None


class DeviceProcess:
    """A device's lives, one after the other on one store. `report` is the last one; `tally` is of all lives."""

    def __init__(self, processes: Processes, folder: Path, task: Task) -> None:
        self.task = task
        self.report = Report()
        self.lives = 0
        self._processes = processes
        self._folder = folder
        self._earlier = Tally()
        self._process: Process | None = None
        self._ended = asyncio.Event()
        self._was_killed = False

    @property
    def name(self) -> str:
        return self.task.device

    @property
    def tally(self) -> Tally:
        return self._earlier + self.report.tally

    async def run(self) -> None:
        """One life, from start to end. Raises DemoFailed if it ended as it should not."""
        self.lives += 1
        self._ended.clear()
        log = self._folder / f"{self.name}-{self.lives}.log"
        self._process = process = await self._processes.start("client_sim.demo.typist", log=log, piped=True)
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(self.task.line())
        while line := await process.stdout.readline():
            if line.endswith(b"\n"):  # else it was killed as it wrote
                self._hear(line)
        code = await process.wait()
        if self._was_killed:
            self._was_killed = False
            self._earlier = self.tally
            self.report = Report(KILLED, self.report.typed, self.report.pending)
        elif code:
            raise DemoFailed(f"{self.name} ended with exit code {code}: {last_line(log)}")
        self._ended.set()

    def _hear(self, line: bytes) -> None:
        before, self.report = self.report, Report.read(line)
        if self.report.typed < before.typed:
            raise DemoFailed(f"{self.name} had {before.typed} edits in its store, and now {self.report.typed}")
        if self.report.state.startswith(State.BLOCKED):
            raise DemoFailed(f"{self.name} is {self.report.state}")

    async def kill(self) -> None:
        """SIGKILL in the middle of whatever it does; returns when it is gone."""
        assert self._process is not None
        self._was_killed = True
        kill(self._process)
        await self._ended.wait()

    def reconnect(self) -> None:
        """Come back from the last time offline."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(RECONNECT.encode() + b"\n")

    async def dismiss(self) -> None:
        """Let it end: there is nothing more to do."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._ended.wait()
