"""What SQL storage does, without a server: durable commits by size, compaction, and a document that is long edited."""

from __future__ import annotations

from functools import partial

from benchmarks.figures import Scale, Workload
from benchmarks.workloads._appending import Batch, appends
from benchmarks.workloads._compacting import compactions, long_history
from benchmarks.workloads._histories import EDITS

SIZES = (1, 10, 100, 1000)
QUICK_SIZES = (1, 100)
LOG_ENTRIES = 20_000
UPDATES_PER_ENTRY = 10
"""A device that types has some letters in each push."""
COMPACTED_ENTRIES = 2_000
"""The log of a document that is typed into is folded when it is so long."""


def workloads(scale: Scale) -> dict[str, Workload]:
    """The time is divided among the sizes of a batch."""
    sizes = QUICK_SIZES if scale.quick else SIZES
    seconds = scale.seconds / len(sizes)
    log_entries = scale.of(LOG_ENTRIES, 1_000)
    edits = scale.of(EDITS, 3_000)
    entries = scale.of(COMPACTED_ENTRIES, 200)
    return {
        "documents-a-commit": partial(appends, [Batch(size, 1) for size in sizes], seconds, log_entries),
        "entries-a-commit": partial(appends, [Batch(1, size) for size in sizes[1:]], seconds, log_entries),
        "compaction": partial(compactions, edits, entries),
        "long-history": partial(long_history, edits, scale.of(UPDATES_PER_ENTRY, 1)),
    }
