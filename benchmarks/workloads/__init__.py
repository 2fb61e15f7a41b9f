"""The workloads, a module a group. Each module has `workloads(scale)`, which names what it can measure.

A module is imported when one of its workloads is asked for: what a group needs costs the others nothing.
"""

from __future__ import annotations

from importlib import import_module

from benchmarks.figures import Scale, Workload

GROUPS = ("fanout", "merge", "catchup", "storm", "connections", "storage", "hot", "devices", "checks")
"""In the order in which they run and are shown."""


def workloads_of(group: str, scale: Scale) -> dict[str, Workload]:
    """What the module of that name can measure, by the name that follows `group/` on the command line."""
    found: dict[str, Workload] = import_module(f"{__name__}.{group}").workloads(scale)
    return found
