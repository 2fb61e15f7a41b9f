"""`python -m client_sim sim`: run seeds, say what was simulated, and show what broke."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from client_sim.errors import NotPossible
from client_sim.sim.history import Line
from client_sim.sim.plan import make
from client_sim.sim.run import Outcome, play_seed
from client_sim.sim.runner import Summary, outcomes
from client_sim.sim.shrink import Shrinker
from client_sim.sim.tally import rows

LINES_MAX = 120
"""Of a history, on the terminal."""
MESSAGE_MAX = 300
"""Characters of what broke, of each seed."""
BROKEN = 1


@dataclass(frozen=True, slots=True)
class Request:
    """What to run. `clock` is in seconds; without `minutes` all seeds are run."""

    seeds: int
    first: int
    profile: str
    minutes: float | None
    trace_out: Path | None
    report: Path | None
    clock: Callable[[], float]

    def repeat(self, seed: int) -> str:
        """The command that plays a seed of these again."""
        return f"python -m client_sim sim --seed {seed} --seeds 1 --profile {self.profile}"


@dataclass(frozen=True, slots=True)
class Shrunken:
    """The first run that broke a promise, and what is left of it."""

    seed: int
    outcome: Outcome
    actions: int


def run(console: Console, request: Request) -> int:
    """Run it; 0 if every promise held. Raises NotPossible, and OSError where files can not be written."""
    _prepare(request)
    summary, digests = Summary(), list[str]()
    for outcome in _watched(console, request):
        summary.add(outcome)
        digests.append(f"{outcome.seed} {outcome.digest}")
    _show(console, summary)
    shrunken = _explain(console, summary, request)
    if request.trace_out is not None:
        _write_trace(request, digests)
    if request.report is not None:
        console.print(f"wrote {_write_report(request, request.report, shrunken)}", highlight=False, soft_wrap=True)
    return BROKEN if summary.failures else 0


def _prepare(request: Request) -> None:
    """What would fail in the end fails now."""
    if request.report is not None:
        if find_spec("plotly") is None:
            raise NotPossible("--report needs plotly: pip install 'syncline[report]'")
        request.report.mkdir(parents=True, exist_ok=True)
    if request.trace_out is not None:
        request.trace_out.touch()


def _watched(console: Console, request: Request) -> Iterator[Outcome]:
    """The outcomes as they come. What breaks is told at once; where nobody watches, a line at each tenth is all."""
    end = None if request.minutes is None else request.clock() + 60 * request.minutes

    def goes_on() -> bool:
        return end is None or request.clock() < end

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    broken, tenth = 0, max(1, request.seeds // 10)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("seeds, 0 broken", total=request.seeds)
        cores = os.cpu_count() or 1
        for done, outcome in enumerate(outcomes(request.first, request.seeds, request.profile, cores, goes_on), 1):
            if outcome.failure is not None:
                broken += 1
                told = f"seed {outcome.seed} broke: {outcome.failure.message[:MESSAGE_MAX]}"
                console.print(told, style="red", highlight=False, markup=False, soft_wrap=True)
            if not console.is_terminal and done % tenth == 0 and done < request.seeds:
                console.print(f"{done:,} of {request.seeds:,} seeds, {broken} broken", highlight=False)
            progress.update(task, advance=1, description=f"seeds, {broken} broken")
            yield outcome


def _show(console: Console, summary: Summary) -> None:
    table = Table("simulated", "", title=f"{summary.seeds:,} seeds, {len(summary.failures)} broken")
    for title, text in rows(summary.days, summary.device_days, summary.counts):
        table.add_row(title, text)
    console.print(table)


def _explain(console: Console, summary: Summary, request: Request) -> Shrunken | None:
    """Of the first seed that broke a promise a history that is as short as it gets."""
    if not summary.failures or not summary.failures[0].digest:
        return None
    first = summary.failures[0]
    assert first.failure is not None
    shrinker = Shrinker(make(first.seed, request.profile), first.failure.promise)
    planned = len(shrinker.plan.actions)
    with console.status(f"Leaving out what seed {first.seed} does not need"):
        small = shrinker.shrink()
    left = len(shrinker.plan.actions)
    console.print(f"\nSeed {first.seed}, without what it does not need ({left} of {planned} actions are left):")
    lines = [line for line in small.lines if not line.repeats]
    if len(lines) > LINES_MAX:
        console.print(f"... {len(lines) - LINES_MAX} lines before; --trace-out and --report have them all")
    for line in lines[-LINES_MAX:]:
        console.print(_readable(line), highlight=False, markup=False, soft_wrap=True)
    failure = small.failure or first.failure
    console.print(f"Broken at {failure.at_s:.3f} s: {failure.message}", highlight=False, markup=False, soft_wrap=True)
    console.print(f"Repeat: {request.repeat(first.seed)}", highlight=False, markup=False, soft_wrap=True)
    return Shrunken(first.seed, small, left)


def _readable(line: Line) -> str:
    return f"{line.time_s:12.3f} s  {line.who:<14} {line.what} {line.detail}".rstrip()


def _write_trace(request: Request, digests: list[str]) -> None:
    """The digest of each seed; of one seed alone, its history too."""
    assert request.trace_out is not None
    lines = list(digests)
    if request.seeds == 1:
        lines += [_readable(line) for line in play_seed(request.first, request.profile, keep=True).lines]
    request.trace_out.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _write_report(request: Request, folder: Path, shrunken: Shrunken | None) -> Path:
    """A page about what broke first, or about the first seed."""
    from client_sim.sim import report  # what it needs is not there for everybody

    seed = shrunken.seed if shrunken else request.first
    subject = report.Subject(
        make(seed, request.profile),
        request.profile,
        request.repeat(seed),
        play_seed(seed, request.profile, keep=True),
        shrunken.outcome if shrunken else None,
        shrunken.actions if shrunken else 0,
    )
    return report.write(subject, folder)
