"""A report as people read it: a table a group, what to doubt, and what has changed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.table import Table

from benchmarks.compare import Change, Verdict
from benchmarks.figures import GENERATOR_BUSY, Spread
from benchmarks.report import Case, Report, cases

FIGURES_IN_A_ROW = 5
_COLOURS = {Verdict.BETTER: "green", Verdict.WORSE: "red", Verdict.SAME: "dim", Verdict.UNJUDGED: "dim"}


def show(report: Report, console: Console) -> None:
    """Every figure as the median of all runs, with the least and the most below it."""
    found = cases(report)
    for group in dict.fromkeys(case.group for case in found):
        for table in _group(group, [case for case in found if case.group == group]):
            console.print(table)
    for line in _notes(found):
        console.print(f"[dim]{line}[/dim]")
    for line in _doubts(report, found):
        console.print(f"[yellow]{line}[/yellow]")
    took_s = sum(map(sum, report.took_s.values()))
    console.print(f"[dim]{report.commit}, {report.machine['cpu']}; took {took_s / 60:.1f} minutes[/dim]")


def show_changes(changes: Sequence[Change], earlier: Report, console: Console) -> None:
    """The ratio of medians, and whether it is more than noise."""
    table = Table(title=f"Against {earlier.commit} of {earlier.started}", title_justify="left")
    for column in ("case", "figure", "earlier", "now", "ratio", ""):
        table.add_column(column, justify="right" if column in ("earlier", "now", "ratio") else "left")
    title = ""
    for change in changes:
        if change.title != title:
            table.add_section()
        ratio = change.ratio
        table.add_row(
            change.title if change.title != title else "",
            f"{change.now.name}, {change.now.unit}",
            _spread(change.earlier.spread),
            _spread(change.now.spread),
            "" if ratio is None else f"{ratio:.3f}",
            f"[{_COLOURS[change.verdict]}]{change.verdict}[/]",
        )
        title = change.title
    console.print(table)


def number(value: float) -> str:
    """Three digits that count, thousands set apart."""
    if value and abs(value) < 100:
        return f"{value:.3g}"
    return f"{value:,.0f}"


def _spread(spread: Spread) -> str:
    """The median, and in how wide a range the runs were."""
    if spread.least == spread.most:
        return number(spread.median)
    return f"{number(spread.median)}\n[dim]{number(spread.least)}-{number(spread.most)}[/dim]"


def _group(group: str, found: Sequence[Case]) -> Iterator[Table]:
    """Tables of all its cases with some of the figures each: no screen is wide enough for all."""
    columns = list(dict.fromkeys((figure.name, figure.unit) for case in found for figure in case.figures))
    for first in range(0, len(columns), FIGURES_IN_A_ROW):
        yield _table(group, found, columns[first : first + FIGURES_IN_A_ROW], generator=first == 0)


def _table(group: str, found: Sequence[Case], columns: Sequence[tuple[str, str]], *, generator: bool) -> Table:
    table = Table(title=group, title_justify="left")
    table.add_column("case", no_wrap=True)
    for name, unit in columns:
        table.add_column(f"{name}\n[dim]{unit}[/dim]", justify="right")
    generator = generator and any(case.generator_shares for case in found)
    if generator:
        table.add_column("generator\n[dim]of a core[/dim]", justify="right")
    for case in found:
        values = {(figure.name, figure.unit): _spread(figure.spread) for figure in case.figures}
        row = [values.get(column, "") for column in columns]
        if not any(row):
            continue
        share = f"{Spread.of(case.generator_shares).median:.0%}" if case.generator_shares else ""
        table.add_row(case.name, *row, *([share] if generator else []))
    return table


def _notes(found: Sequence[Case]) -> Iterator[str]:
    """What workloads say of their cases, those together of which they say the same."""
    names: dict[tuple[str, str], list[str]] = {}
    for case in found:
        if case.note:
            names.setdefault((case.workload, case.note), []).append(case.name)
    for (workload, note), which in names.items():
        yield f"{workload}, {' and '.join(which)}: {note}"


def _doubts(report: Report, found: Sequence[Case]) -> Iterator[str]:
    """What a reader has to know before believing a figure."""
    for case in found:
        if case.busy_runs:
            yield (
                f"{case.title}: the generator took more than {GENERATOR_BUSY:.0%} of its core in "
                f"{case.busy_runs} of {len(case.generator_shares)} runs, and may be what was measured"
            )
    for workload, failures in report.failures.items():
        yield from (f"{workload} FAILED: {failure}" for failure in failures)
    if report.scale.quick:
        yield "a smoke run: its figures mean nothing"
