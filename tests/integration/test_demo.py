"""`python -m client_sim`, as a user runs it: processes, sockets, files, kill -9."""

from __future__ import annotations

import gzip
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from client_sim.errors import NotPossible
from client_sim.pair import show
from client_sim.traces import FOLDER_VARIABLE, FORMAT, folder
from tests.server_fixture import make_token, running_server
from tests.support import wait_until

QUICK = ("--speed", "500", "--plain")
DEMO_S = 60.0
"""A short demo takes some ten seconds on two cores that nobody else uses."""
SIGNALS = (signal.SIGKILL, signal.SIGINT, *([signal.SIGTERM] if os.environ.get("SYNCLINE_SOAK") else []))
ALL_THE_SAME = "have the same values"


@contextmanager
def demo(*arguments: str, traces: Path | None = None) -> Iterator[subprocess.Popen[str]]:
    """The demo's process; gone at the end of the block."""
    environment = {name: value for name, value in os.environ.items() if name != FOLDER_VARIABLE}
    if traces is not None:
        environment[FOLDER_VARIABLE] = str(traces)
    command = [sys.executable, "-m", "client_sim", "demo", *QUICK, *arguments]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment) as process:
        try:
            yield process
        finally:
            process.kill()


def finished(process: subprocess.Popen[str]) -> str:
    """What it wrote until it ended."""
    written, complaints = process.communicate(timeout=DEMO_S)
    return written + complaints


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_running(pid: int) -> bool:
    """False too for what has ended and waits to be asked for its exit code."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_made_up_history_survives_everything() -> None:
    with demo("--edits", "240") as process:
        written = finished(process)
    assert process.returncode == 0, written
    assert ALL_THE_SAME in written
    assert re.search(r"(phone|tablet|laptop) is killed with -9", written)
    assert "the server is killed with -9" in written
    assert "everybody reconnects at once" in written
    acked = sum(int(row[2]) for row in re.findall(r"^(phone|tablet|laptop) +(\d+) +(\d+) ", written, re.MULTILINE))
    assert acked == 240


def test_a_recorded_history_survives_everything() -> None:
    traces = folder()
    if traces is None:
        pytest.skip(f"{FOLDER_VARIABLE} does not name a folder with recordings")
    with demo("--edits", "300", traces=traces) as process:
        written = finished(process)
    assert process.returncode == 0, written
    assert ALL_THE_SAME in written
    assert "clownschool" in written


def test_another_end_than_the_historys_is_a_failure(tmp_path: Path) -> None:
    text = "a sequential history, dealt out to three devices"
    columns = {
        "format": FORMAT,
        "name": "with a wrong end",
        "kind": "sequential",
        "end_len": len(text),
        "end_sha256": sha256(text.replace("three", "eight").encode()).hexdigest(),
        "txns": len(text),
        "pos_delta": [0] * len(text),
        "del": [0] * len(text),
        "ins_len": [1] * len(text),
        "ins_text": text,
    }
    recording = tmp_path / "recording.json.gz"
    recording.write_bytes(gzip.compress(json.dumps(columns).encode()))
    with demo("--trace", str(recording)) as process:
        written = finished(process)
    assert process.returncode == 1, written
    assert "NOT AS PROMISED: the database does not have the text that the history ends with" in written
    assert ALL_THE_SAME not in written


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("ending", SIGNALS, ids=lambda number: number.name)
async def test_nothing_is_left_running(tmp_path: Path, ending: signal.Signals) -> None:
    with demo("--edits", "2000", "--speed", "1", "--folder", str(tmp_path / "demo")) as process:
        await wait_until(lambda: len(children(process.pid)) == 4, within_s=20)
        started = children(process.pid)
        process.send_signal(ending)
        await wait_until(lambda: not any(map(is_running, started)), within_s=10)
        complaints = finished(process)
    assert process.returncode == (-ending if ending == signal.SIGKILL else 130)
    assert "Traceback" not in complaints


@pytest.mark.parametrize("arguments", [["--trace", "nowhere.json.gz"], ["--edits", "none"], ["--trace", __file__]])
def test_what_can_not_be_done_is_said_in_one_line(arguments: list[str]) -> None:
    with demo(*arguments) as process:
        written = finished(process)
    assert process.returncode == 2
    assert len(written.splitlines()) == 1


# --- pair


def listening_console() -> Console:
    return Console(file=StringIO(), width=200)


def told(console: Console) -> str:
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


async def test_a_pair_sees_each_other_again_and_again(tmp_path: Path) -> None:
    tokens = [make_token("alice", "phone"), make_token("alice", "laptop")]
    async with running_server(tmp_path) as server:
        for _ in range(2):
            console = listening_console()
            assert await show(console, server.url, tokens) == 0
    written = told(console)
    assert written.splitlines()[-1] == "both devices have the same text"
    assert "[phone]" in written
    assert not any(token in written for token in tokens)


async def test_a_server_that_refuses_is_named(tmp_path: Path) -> None:
    tokens = [make_token("alice", "phone"), make_token("alice", "laptop", aud="another")]
    async with running_server(tmp_path) as server:
        with pytest.raises(NotPossible, match="refuses: ") as refused:
            await show(listening_console(), server.url, tokens)
    assert not any(token in str(refused.value) for token in tokens)


async def test_a_server_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("client_sim.pair.CONNECT_S", 0.2)
    with pytest.raises(NotPossible, match="can not be reached"):
        await show(listening_console(), "ws://127.0.0.1:1", [make_token("alice", "phone"), make_token("alice", "tab")])


@pytest.mark.parametrize(
    ("tokens", "says"),
    [
        ([make_token("alice", "phone")], "two tokens"),
        ([make_token("alice", "phone"), "nonsense"], "second token"),
        ([make_token("alice", "phone"), make_token("bob", "laptop")], "two users"),
        ([make_token("alice", "phone"), make_token("alice", "phone")], "both tokens"),
    ],
)
async def test_tokens_that_make_no_pair_are_refused(tokens: list[str], says: str) -> None:
    with pytest.raises(NotPossible, match=says):
        await show(listening_console(), "ws://127.0.0.1:1", tokens)


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "127.0.0.1:1", "ws://"])
async def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(NotPossible, match="address"):
        await show(listening_console(), url, [make_token("alice", "phone"), make_token("alice", "laptop")])
