"""Runs workloads in turn, and shows, keeps, draws and compares what they report."""

from __future__ import annotations

import argparse
import gc
import os
import resource
import shlex
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.compare import changes
from benchmarks.figures import Scale, Workload, WorkloadFailed
from benchmarks.report import Report
from benchmarks.server_process import GENERATOR_CPU
from benchmarks.tables import show, show_changes

RUNS = 3
QUICK_S = 0.2
FILE_WIDTH = 120
"""Of tables that nobody looks at yet, in characters."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """What every command that measures takes."""
    parser.add_argument("--runs", type=int, help=f"runs of each workload, in turn: {RUNS}, or 1 when quick")
    parser.add_argument("--seconds", type=float, default=Scale().seconds, help="how long a run pushes")
    parser.add_argument("--quick", action="store_true", help="a smoke run: everything once and tiny, no measurement")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every run, the machine and the versions")
    parser.add_argument("--plots", type=Path, metavar="DIR", help="draw a PNG a group")
    parser.add_argument("--compare", type=_earlier, metavar="EARLIER.json", help="with what an earlier --json has")


def scale_of(parser: argparse.ArgumentParser, options: argparse.Namespace) -> Scale:
    """What the options ask for, or the end of the program."""
    if options.runs is None:
        options.runs = 1 if options.quick else RUNS
    if options.runs < 1 or options.seconds <= 0:
        parser.error("--runs and --seconds are more than zero")
    return Scale(QUICK_S, quick=True) if options.quick else Scale(options.seconds)


def command_of(arguments: Sequence[str]) -> str:
    """What repeats a session."""
    return shlex.join(["python", "-m", "benchmarks", *arguments])


def measure(
    chosen: Mapping[str, Workload], scale: Scale, *, runs: int, command: str, versions: Mapping[str, str] | None = None
) -> Report:
    """Each workload `runs` times, in turn, so that a machine that drifts drifts for all.

    This process stays on the generator's core from here on. `versions` are of what takes part beside Syncline.
    """
    _settle()
    report = Report.begun(command, scale, versions or {})
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("measuring", total=runs * len(chosen))
        for _ in range(runs):
            for name, workload in chosen.items():
                progress.update(task, description=name)
                run_once(name, workload, report)
                progress.advance(task)
    return report


def conclude(report: Report, options: argparse.Namespace) -> int:
    """Show, keep, draw and compare it, as the options say. The exit status: 0 if no run failed."""
    console = Console()
    if not console.is_terminal:
        console.width = FILE_WIDTH
    show(report, console)
    if options.json:
        report.write(options.json)
    if options.plots:
        from benchmarks.plots import draw  # the library takes half a second to import

        console.print("drawn:", ", ".join(map(str, draw(report, options.plots))))
    if options.compare:
        show_changes(list(changes(options.compare, report)), options.compare, console)
    return 1 if report.failures else 0


def _earlier(text: str) -> Report:
    try:
        return Report.read(Path(text))
    except (OSError, ValueError, TypeError, KeyError) as exc:
        raise argparse.ArgumentTypeError(f"{text} is no report of these benchmarks: {exc}") from exc


def run_once(name: str, workload: Workload, report: Report) -> None:
    """Add one run to the report: what it measured, or what was wrong with its result."""
    gc.collect()
    start = time.perf_counter()
    try:
        made = tuple(workload())
    except (WorkloadFailed, ConnectionError) as exc:
        report.failures.setdefault(name, []).append(str(exc))
    else:
        report.runs.setdefault(name, []).append(made)
    report.took_s.setdefault(name, []).append(time.perf_counter() - start)


def _settle() -> None:
    """On the generator's core, with as many open files as the machine allows."""
    if (os.cpu_count() or 1) > 1:
        os.sched_setaffinity(0, {GENERATOR_CPU})
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
