"""`python -m tests.fuzz`: does anything that a device may send harm a document, or this process?"""

from __future__ import annotations

import argparse
import sys

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from tests.fuzz.campaign import KINDS, Plan, Report, run

UPDATES, VECTORS, FRAMES = 100_000, 20_000, 20_000


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, help="stop after that (as many inputs as it takes, if none are given)")
    parser.add_argument("--seed", default="1", help="what all is drawn from: the same cases each time")
    parser.add_argument("--updates", type=int, help=f"how many to try ({UPDATES})")
    parser.add_argument("--vectors", type=int, help=f"state vectors ({VECTORS})")
    parser.add_argument("--frames", type=int, help=f"messages, half of them to a whole server ({FRAMES})")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    given = parser.parse_args(arguments)
    scale = 1 if given.minutes is None or any((given.updates, given.vectors, given.frames)) else 1_000
    plan = Plan(
        seed=given.seed,
        updates=UPDATES * scale if given.updates is None else given.updates,
        vectors=VECTORS * scale if given.vectors is None else given.vectors,
        frames=FRAMES * scale if given.frames is None else given.frames,
        seconds=given.minutes and given.minutes * 60,
        jobs=given.jobs,
    )
    console = Console()
    report = _watched(plan, console)
    _show(report, console)
    return 1 if report.discoveries else 0


def _watched(plan: Plan, console: Console) -> Report:
    columns = (TextColumn("{task.description:8}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        bars = {kind: progress.add_task(kind, total=int(plan.inputs(kind))) for kind in KINDS if plan.inputs(kind)}

        def show(report: Report) -> None:
            for kind, bar in bars.items():
                progress.update(bar, completed=report.tried[kind])

        return run(plan, show)


def _show(report: Report, console: Console) -> None:
    table = Table("cases of", "cases", "inputs", "outcome", "count")
    for kind, outcomes in report.outcomes.items():
        lines = outcomes.most_common()
        table.add_row(
            kind,
            f"{report.cases[kind]:,}",
            f"{report.tried[kind]:,}",
            "\n".join(name for name, _ in lines),
            "\n".join(f"{count:,}" for _, count in lines),
            end_section=True,
        )
    console.print(table)
    for discovery in report.discoveries.values():
        where = f"{discovery.task.seed}/{discovery.task.kind}/{discovery.task.number}"
        console.print(f"[red]{discovery.kind}[/] x {discovery.count} ({where}): {discovery.message[:300]}")
        console.print(f"  {discovery.file or 'not kept'}", soft_wrap=True)
    inputs = sum(report.tried.values())
    speed = inputs / max(report.seconds, 0.001)
    findings = sum(discovery.count for discovery in report.discoveries.values())
    console.print(f"{inputs:,} inputs in {report.seconds:.0f} s ({speed:.0f}/s): {findings} findings")


if __name__ == "__main__":
    sys.exit(main())
