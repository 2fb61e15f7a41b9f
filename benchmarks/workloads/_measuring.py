"""What workloads without a server are measured with: CPU time and heap of this process, and checks of results."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, TypeVar

from benchmarks.figures import Better, Figure, WorkloadFailed
from crdt.replica import Replica

T = TypeVar("T")


def expect(condition: object, otherwise: str) -> None:
    """Raises WorkloadFailed, with what is wrong, unless the condition holds."""
    if not condition:
        raise WorkloadFailed(otherwise)


def timed(work: Callable[[], T]) -> tuple[T, float]:
    """What `work` gives, and the CPU seconds that it took: what a machine with nothing else to do would take."""
    start_s = time.process_time()
    made = work()
    return made, time.process_time() - start_s


def heap_bytes() -> int | None:
    """What is allocated of the C heap, where the CRDT library keeps documents; None where that cannot be asked."""
    mallinfo = _mallinfo()
    if mallinfo is None:
        return None
    info = mallinfo()
    return int(info.uordblks + info.hblkhd)


class _MallocInfo(ctypes.Structure):
    """`struct mallinfo2` of glibc 2.33 and later, mallinfo(3)."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost",
        )
    ]  # fmt: skip


@cache
def _mallinfo() -> Any | None:
    function = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if function is not None:
        function.restype = _MallocInfo
    return function


def ms(name: str, seconds: float) -> Figure:
    return Figure(name, seconds * 1000, "ms")


def kib(name: str, size: float, better: Better = Better.LOWER) -> Figure:
    return Figure(name, size / 1024, "KiB", better)


def document_figures(replica: Replica) -> list[Figure]:
    """What a finished document costs to encode, to keep and to load again. Raises WorkloadFailed."""
    state, encode_s = timed(replica.state)
    before = heap_bytes()
    loaded, parse_s = timed(lambda: Replica.load([state]))
    after = heap_bytes()
    expect_converged([replica, loaded])
    memory = [] if before is None or after is None else [kib("memory", after - before)]
    return [ms("encode", encode_s), kib("document", len(state)), ms("parse", parse_s), *memory]


def average_update(updates: Sequence[bytes]) -> Figure:
    return Figure("average update", sum(map(len, updates)) / len(updates), "bytes")


def expect_converged(replicas: Sequence[Replica]) -> None:
    """Raises WorkloadFailed unless all have the same edits and the same values."""
    digests = [replica.digest() for replica in replicas]
    expect(digests.count(digests[0]) == len(digests), "replicas with the same updates differ")
