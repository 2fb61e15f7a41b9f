"""The servers that are compared: how each is started, what it promises, and which language it speaks."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Protocol

from benchmarks import accounting
from benchmarks.figures import WorkloadFailed
from benchmarks.peers import dialects, packages
from benchmarks.server_process import SERVER_CPU, STOPS_WITHIN_S, server_process

STARTS_WITHIN_S = 30
ROOMY = {
    "SYNCLINE_SESSIONS_PER_USER": "256",
    "SYNCLINE_UPDATES_PER_S": "10000000",
    "SYNCLINE_BYTES_PER_S": "1GiB",
}
"""A hundred devices of one user, or one device as fast as it can, are more than Syncline takes by default. The peers
have no such limits."""


class Server(Protocol):
    """One that runs."""

    @property
    def host(self) -> str: ...
    @property
    def port(self) -> int: ...
    def cpu_s(self) -> float:
        """User and system time so far, of all its threads and processes."""
        ...

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        ...

    def token(self, user: str, device: str) -> str: ...


@dataclass(frozen=True, slots=True)
class Peer:
    """A kind of server. `start(folder)` starts one whose data is in `folder`; raises packages.NotInstalled."""

    name: str
    versions: str
    acknowledges: str
    """What an acknowledgement says, if there are any."""
    dialect: dialects.Dialect
    start: Callable[[Path], AbstractContextManager[Server]]


class PeerProcess:
    """A peer's server in a process of its own. None of them asks for a token."""

    host = "127.0.0.1"

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self._process = process
        self.port = port

    def cpu_s(self) -> float:
        return accounting.cpu_s(self._process.pid)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def token(self, user: str, device: str) -> str:
        return ""


@contextmanager
def _syncline(folder: Path) -> Iterator[Server]:
    with server_process(database=folder / "syncline.db", settings=ROOMY) as server:
        yield server


@contextmanager
def _y_websocket(folder: Path) -> Iterator[Server]:
    home = packages.node_folder("y-websocket", packages.Y_WEBSOCKET)
    port = _free_port()
    settings = {"HOST": "127.0.0.1", "PORT": str(port), "YPERSISTENCE": str(folder / "leveldb")}
    with _running(["node", "node_modules/@y/websocket-server/src/server.js"], home, settings, port, folder) as server:
        yield server


@contextmanager
def _hocuspocus(folder: Path) -> Iterator[Server]:
    home = packages.node_folder("hocuspocus", packages.HOCUSPOCUS)
    port = _free_port()
    settings = {"HOST": "127.0.0.1", "PORT": str(port), "DATABASE": str(folder / "hocuspocus.db")}
    with _running(["node", "hocuspocus.mjs"], home, settings, port, folder) as server:
        yield server


@contextmanager
def _pycrdt_websocket(folder: Path) -> Iterator[Server]:
    python = packages.python_of("pycrdt-websocket", packages.PYCRDT_WEBSOCKET)
    port = _free_port()
    script = packages.HERE / "pycrdt_server.py"
    command = [str(python), str(script), str(port), str(folder)]
    with _running(command, folder, {}, port, folder) as server:
        yield server


@contextmanager
def _running(
    command: list[str], home: Path, settings: Mapping[str, str], port: int, folder: Path
) -> Iterator[PeerProcess]:
    with (folder / "server.log").open("ab") as log:
        process = subprocess.Popen(
            command, cwd=home, env=os.environ | {"NODE_ENV": "production"} | dict(settings), stdout=log, stderr=log,
            preexec_fn=_onto_its_core,
        )  # fmt: skip
        try:
            _await_listening(process, port, folder / "server.log")
            yield PeerProcess(process, port)
        finally:
            _stop(process)


def _onto_its_core() -> None:
    """Before the program starts: every thread that it makes inherits it."""
    if (os.cpu_count() or 1) > 1:
        os.sched_setaffinity(0, {SERVER_CPU})


def _await_listening(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + STARTS_WITHIN_S
    while process.poll() is None and time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise WorkloadFailed(f"the server did not start: {log.read_text()[-400:]}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOPS_WITHIN_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _pins(wanted: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {pinned}" for name, pinned in wanted.items())


SYNCLINE = "Syncline"
PEERS = {
    "syncline": Peer(
        SYNCLINE,
        f"syncline {version('syncline')}, pycrdt {version('pycrdt')}, uvloop {version('uvloop')}",
        "synced to disk (SQLite, synchronous=FULL), before anyone else is sent it",
        dialects.Syncline(),
        _syncline,
    ),
    "y-websocket": Peer(
        "y-websocket",
        _pins(packages.Y_WEBSOCKET),
        "no acknowledgements; LevelDB is written behind the delivery, without a sync",
        dialects.Yjs(),
        _y_websocket,
    ),
    "hocuspocus": Peer(
        "Hocuspocus",
        _pins(packages.HOCUSPOCUS),
        "applied in memory; SQLite is written 2 to 10 s later",
        dialects.Hocuspocus(),
        _hocuspocus,
    ),
    "pycrdt-websocket": Peer(
        "pycrdt-websocket",
        _pins(packages.PYCRDT_WEBSOCKET),
        "no acknowledgements; SQLite is written behind the delivery",
        dialects.Yjs(),
        _pycrdt_websocket,
    ),
}
