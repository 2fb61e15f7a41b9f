"""What a process and its children cost, from the kernel's accounting."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_SCHEDULED = 2


def cpu_s(pid: int) -> float:
    """User and system time of a process so far: all its threads, its children, theirs, and those that have ended.

    In nanoseconds for what lives, and in the kernel's ticks (usually 10 ms) for children that have ended.
    """
    return sum(_alone_s(each) for each in tree(pid))


def tree(pid: int) -> Iterator[int]:
    """A process and all that descends from it."""
    yield pid
    for task in _entries(f"/proc/{pid}/task"):
        for child in _read(f"/proc/{pid}/task/{task}/children").split():
            yield from tree(int(child))


def resident_bytes(pid: int) -> int:
    """Memory of a process and its children that is in RAM now; shared pages count once for each."""
    return sum(_status_bytes(each, "VmRSS") for each in tree(pid))


def peak_bytes(pid: int) -> int:
    """The most that was ever resident of a process, and of its children that still live, each at its own time."""
    return sum(_status_bytes(each, "VmHWM") for each in tree(pid))


def _alone_s(pid: int) -> float:
    try:
        own_s = time.clock_gettime(_clock_of(pid))
    except OSError:  # it ended since it was listed: its parent has its time now
        return 0.0
    fields = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return own_s + sum(map(int, fields[13:15])) * TICK_S


def _clock_of(pid: int) -> int:
    """The clock of a process's CPU time, as clock_getcpuclockid(3) makes its number."""
    return (~pid << 3) | _SCHEDULED


def _status_bytes(pid: int, name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB", _read(f"/proc/{pid}/status"), re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def _entries(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
