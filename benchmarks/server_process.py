"""A Syncline server in a process of its own, and what it costs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from server.tokens import mint

SECRET = "a secret for benchmarks, of no use elsewhere"
TICK_S = 1 / os.sysconf("SC_CLK_TCK")


class ServerProcess:
    """A running server. `cpu_s` comes from the kernel's accounting of the process."""

    def __init__(self, process: subprocess.Popen[str], host: str, port: int) -> None:
        self._process = process
        self.host = host
        self.port = port

    def cpu_s(self) -> float:
        """User and system time so far, all threads."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) * TICK_S

    def token(self, user: str, device: str) -> str:
        return mint(
            user, device, ttl_s=3600, secret=SECRET.encode(), audience="syncline", issuer="syncline-dev",
            now_s=time.time(), token_id=f"{user}.{device}",
        )  # fmt: skip


@contextmanager
def server_process(*, cpu: int | None = 0) -> Iterator[ServerProcess]:
    """A server on a fresh SQLite file and a free port, on one core if the machine has several."""
    with tempfile.TemporaryDirectory(prefix="syncline-bench-") as folder:
        database = Path(folder) / "bench.db"
        environment = os.environ | {
            "SYNCLINE_JWT_SECRET": SECRET,
            "SYNCLINE_LOG_LEVEL": "warning",
            "SYNCLINE_DATABASE_URL": f"sqlite:///{database}",
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "server.cli", "serve", "--port", "0"],
            env=environment, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            host, port = _address(process)
            if cpu is not None and (os.cpu_count() or 1) > 1:
                _pin(process.pid, cpu)
            yield ServerProcess(process, host, port)
        finally:
            process.terminate()
            try:
                process.wait(20)
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
    raise RuntimeError("the server did not start")


def _pin(pid: int, cpu: int) -> None:
    for thread in os.listdir(f"/proc/{pid}/task"):
        os.sched_setaffinity(int(thread), {cpu})
