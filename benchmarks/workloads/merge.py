"""What merging costs: in one replica, along the merges of a recorded history, and when devices return to a server."""

from __future__ import annotations

from functools import partial

from benchmarks.figures import Scale, Workload
from benchmarks.workloads._crdt_suite import EDITS, b1, b2, b3
from benchmarks.workloads._histories import EDITS as HISTORY_EDITS
from benchmarks.workloads._merging import along_merges, b4
from benchmarks.workloads._returning import QUICK_SHAPES, SHAPES, returning


def workloads(scale: Scale) -> dict[str, Workload]:
    suite_edits = scale.of(EDITS, 100)
    history_edits = scale.of(HISTORY_EDITS, 500)
    return {
        "b1": partial(b1, suite_edits),
        "b2": partial(b2, suite_edits),
        "b3": partial(b3, suite_edits),
        "b4": partial(b4, history_edits),
        "along-merges": partial(along_merges, history_edits),
        "returning": partial(returning, QUICK_SHAPES if scale.quick else SHAPES),
    }
