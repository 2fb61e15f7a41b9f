"""`python -m benchmarks`: a server on one core, the generator on another, durable acknowledgements on."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from benchmarks import harness
from benchmarks.figures import Scale, Workload
from benchmarks.workloads import GROUPS, workloads_of


def main(arguments: Sequence[str]) -> int:
    """Measure as the arguments say. The exit status: 0 if every run's result was right."""
    if arguments[:1] == ["peers"]:
        from benchmarks.peers.command import main as measure_peers  # nobody else needs what they need

        return measure_peers(list(arguments[1:]))
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        epilog="benchmarks/README.md says what each does. `peers` measures other servers beside this one.",
    )
    parser.add_argument("--only", action="append", metavar="NAME", help="a group, a workload or a part of its name")
    parser.add_argument("--list", action="store_true", help="name all workloads")
    harness.add_options(parser)
    options = parser.parse_args(arguments)
    scale = harness.scale_of(parser, options)
    chosen = _chosen(options.only or (), scale)
    if not chosen:
        parser.error("no workload is called that: --list names them")
    if options.list:
        print("\n".join(chosen))
        return 0
    command = harness.command_of(arguments)
    return harness.conclude(harness.measure(chosen, scale, runs=options.runs, command=command), options)


def _chosen(only: Sequence[str], scale: Scale) -> dict[str, Workload]:
    """Those that are named, or all. Groups that cannot be among them are not even imported."""
    groups = dict.fromkeys(name.partition("/")[0] for name in only)
    if not only or not groups.keys() <= set(GROUPS):
        groups = dict.fromkeys(GROUPS)
    known = {f"{group}/{name}": each for group in groups for name, each in workloads_of(group, scale).items()}
    if not only:
        return known
    wanted = {name for text in only for name in _named(text, known)}
    return {name: each for name, each in known.items() if name in wanted}


def _named(text: str, known: dict[str, Workload]) -> list[str]:
    """What a word on the command line means: the workload or group of that name, else all with it in their names."""
    exact = [name for name in known if text in (name, name.partition("/")[0])]
    return exact or [name for name in known if text in name]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
