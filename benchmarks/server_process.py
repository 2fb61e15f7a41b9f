"""A Syncline server in a process of its own, and what it costs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from benchmarks import accounting
from benchmarks.figures import WorkloadFailed
from server.tokens import mint

SECRET = "a secret for benchmarks, of no use elsewhere"
SERVER_CPU = 0
GENERATOR_CPU = 1
STOPS_WITHIN_S = 20


class ServerProcess:
    """A running server. What it costs comes from the kernel's accounting of it and its worker processes."""

    def __init__(self, process: subprocess.Popen[str], database: Path, host: str, port: int) -> None:
        self._process = process
        self.database = database
        self.host = host
        self.port = port

    @property
    def pid(self) -> int:
        return self._process.pid

    def cpu_s(self) -> float:
        """User and system time so far, all threads and workers."""
        return accounting.cpu_s(self.pid)

    def resident_bytes(self) -> int:
        return accounting.resident_bytes(self.pid)

    def peak_bytes(self) -> int:
        return accounting.peak_bytes(self.pid)

    def kill(self) -> None:
        """SIGKILL, as a crash is. Returns when it is gone."""
        self._process.kill()
        self._process.wait()

    def token(self, user: str, device: str) -> str:
        return mint(
            user, device, ttl_s=3600, secret=SECRET.encode(), audience="syncline", issuer="syncline-dev",
            now_s=time.time(), token_id=f"{user}.{device}",
        )  # fmt: skip


@contextmanager
def server_process(
    *,
    cpu: int | None = SERVER_CPU,
    database: Path | None = None,
    port: int = 0,
    settings: Mapping[str, str] | None = None,
) -> Iterator[ServerProcess]:
    """A server with durable acknowledgements on, on one core if the machine has several.

    It has a fresh SQLite file, or the one at `database`, which stays, and takes `settings` (`{"SYNCLINE_...": ...}`).
    """
    with tempfile.TemporaryDirectory(prefix="syncline-bench-") as folder:
        file = database or Path(folder) / "bench.db"
        environment = os.environ | {
            "SYNCLINE_JWT_SECRET": SECRET,
            "SYNCLINE_LOG_LEVEL": "warning",
            "SYNCLINE_DATABASE_URL": f"sqlite:///{file}",
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "server.cli", "serve", "--port", str(port)],
            env=environment | dict(settings or {}), stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            if cpu is not None and (os.cpu_count() or 1) > 1:
                os.sched_setaffinity(process.pid, {cpu})  # it has one thread yet; all that follow inherit it
            yield ServerProcess(process, file, *_address(process))
        finally:
            _stop(process)


def _stop(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(STOPS_WITHIN_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    assert process.stdout is not None
    process.stdout.close()


def _address(process: subprocess.Popen[str]) -> tuple[str, int]:
    assert process.stdout is not None
    for line in process.stdout:
        if found := re.search(r"wss?://([\d.]+):(\d+)", line):
            return found[1], int(found[2])
    raise WorkloadFailed("the server did not start")
