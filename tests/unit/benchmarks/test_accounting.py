"""CPU and memory of processes, from the kernel's accounting."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks import accounting

BURN = "import time\nwhile time.process_time() < 0.2: pass\n"
WAIT = "import sys\nprint('ready', flush=True)\nsys.stdin.read()\n"
TICKS_S = 0.02
"""Children that have ended count in ticks of the kernel's clock."""


def child(code: str) -> str:
    """A program that runs this one, and ends with it."""
    return f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {code!r}], check=True)\n"


@contextmanager
def running(code: str) -> Iterator[int]:
    """A process that has written a line; those that still wait then end with the block."""
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with process:
        assert process.stdout is not None
        assert process.stdout.readline()
        yield process.pid


ASK_ITSELF = """
import os, time
from benchmarks import accounting
print(time.process_time(), accounting.cpu_s(os.getpid()), time.process_time())
"""


def test_own_cpu_is_what_the_process_says_itself() -> None:
    said = subprocess.run([sys.executable, "-c", ASK_ITSELF], check=True, capture_output=True, text=True).stdout
    before_s, counted_s, after_s = map(float, said.split())
    assert before_s - TICKS_S <= counted_s <= after_s + TICKS_S


def test_a_child_counts_while_it_lives() -> None:
    with running(child(BURN + WAIT)) as pid:
        [_, young] = accounting.tree(pid)
        assert accounting.cpu_s(pid) >= 0.2
        assert accounting.resident_bytes(pid) > accounting.resident_bytes(young)
        assert accounting.peak_bytes(pid) > accounting.peak_bytes(young)


def test_a_child_counts_when_it_has_ended() -> None:
    with running(child(BURN) + WAIT) as pid:
        assert list(accounting.tree(pid)) == [pid]
        assert accounting.cpu_s(pid) >= 0.2 - TICKS_S


def test_the_peak_outlives_what_made_it() -> None:
    with running("kept = b'x' * (100 << 20)\ndel kept\n" + WAIT) as pid:
        assert accounting.peak_bytes(pid) > 100 << 20
        assert accounting.resident_bytes(pid) < 100 << 20


def test_a_process_that_is_gone_costs_nothing() -> None:
    with running(WAIT) as pid:
        pass
    assert accounting.cpu_s(pid) == 0
    assert accounting.resident_bytes(pid) == 0
