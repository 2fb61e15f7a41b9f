"""`python -m benchmarks`: a server on one core, the generator on another, durable acknowledgements on."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import statistics
import sys
from collections.abc import Callable, Coroutine
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import uvloop
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks import check
from benchmarks.server_process import ServerProcess, server_process
from benchmarks.workloads.fanout import GENERATOR_BUSY, Measurement, paced, returning, saturated

CHECK = "check"
"""What `--only` calls the one that needs no server."""

Workload = Callable[[ServerProcess], Coroutine[Any, Any, Measurement]]


def workloads(seconds: float) -> dict[str, Workload]:
    """By the name that `--only` takes."""
    return {
        "saturated": lambda server: saturated(
            server, documents=50, devices=4, in_flight=4, seconds=seconds, updates_max=int(400 * seconds)
        ),
        "batched": lambda server: saturated(
            server, documents=50, devices=4, in_flight=4, seconds=seconds, updates_max=int(800 * seconds), batching=True
        ),
        "paced": lambda server: paced(server, documents=50, devices=4, updates_per_s=1000, seconds=seconds),
        "one-room": lambda server: saturated(
            server, documents=1, devices=100, in_flight=4, seconds=seconds, updates_max=int(400 * seconds)
        ),
        "merge": lambda server: returning(server, devices=10, edits=1000),
    }


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--only", action="append", choices=sorted((*workloads(1), CHECK)), help="this workload (repeatable)"
    )
    parser.add_argument("--runs", type=int, default=3, help="runs of each, in turn; medians are shown")
    parser.add_argument("--seconds", type=float, default=5.0, help="how long a run pushes")
    parser.add_argument("--json", type=Path, help="write every run and the machine to this file")
    options = parser.parse_args(arguments)
    if options.runs < 1 or options.seconds <= 0:
        parser.error("--runs and --seconds are more than zero")
    if (os.cpu_count() or 1) > 1:
        os.sched_setaffinity(0, {1})
    chosen = {name: run for name, run in workloads(options.seconds).items() if not options.only or name in options.only}
    runs = _run_all(chosen, options.runs)
    if runs:
        _show(runs)
    checks = [check.measured() for _ in range(options.runs)] if not options.only or CHECK in options.only else []
    if checks:
        Console().print(check.table(checks))
    if options.json:
        report = {"machine": _machine(), "runs": {name: [asdict(run) for run in made] for name, made in runs.items()}}
        report["runs"][CHECK] = [[asdict(each) for each in made] for made in checks]
        options.json.write_text(json.dumps(report, indent=1))
    return 0


def _run_all(chosen: dict[str, Workload], times: int) -> dict[str, list[Measurement]]:
    """Each workload against a server of its own, in turn, so that a machine that drifts drifts for all."""
    runs: dict[str, list[Measurement]] = {name: [] for name in chosen}
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("measuring", total=times * len(chosen))
        for _ in range(times):
            for name, workload in chosen.items():
                progress.update(task, description=name)
                with server_process(cpu=0) as server:
                    runs[name].append(uvloop.run(_alone(workload(server))))
                progress.advance(task)
    return runs


async def _alone(run: Coroutine[Any, Any, Measurement]) -> Measurement:
    return await asyncio.create_task(run)


def _show(runs: dict[str, list[Measurement]]) -> None:
    table = Table(title=f"Syncline {version('syncline')}, durable acknowledgements on, medians of runs")
    table.add_column("workload", no_wrap=True)
    for column in ("updates/s", "deliv./s", "CPU us/update", "ack p50, p99 ms", "delivery p50, p99 ms"):
        table.add_column(column, justify="right")
    busy = []
    for made in runs.values():
        table.add_row(
            made[0].workload,
            f"{_median(made, 'updates_per_s'):,.0f}",
            f"{_median(made, 'deliveries_per_s'):,.0f}",
            _spread([run.cpu_us_per_update for run in made]),
            f"{_median(made, 'ack_p50_ms'):.2f}, {_median(made, 'ack_p99_ms'):.2f}",
            "-"
            if made[0].delivery_p50_ms is None
            else f"{_median(made, 'delivery_p50_ms'):.2f}, {_median(made, 'delivery_p99_ms'):.2f}",
        )
        share = _median(made, "generator_cpu_share")
        if share > GENERATOR_BUSY:
            busy.append(f"{made[0].workload}: the generator took {share:.0%} of its core")
    console = Console()
    console.print(table)
    for line in busy:
        console.print(f"[yellow]{line}, and may be what was measured[/yellow]")


def _median(made: list[Measurement], figure: str) -> float:
    return float(statistics.median(getattr(run, figure) for run in made))


def _spread(values: list[float]) -> str:
    return f"{statistics.median(values):.1f} ({min(values):.1f}-{max(values):.1f})"


def _machine() -> dict[str, Any]:
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "packages": {name: version(name) for name in ("syncline", "pycrdt", "websockets", "uvloop", "sqlalchemy")},
    }


if __name__ == "__main__":
    sys.exit(main())
