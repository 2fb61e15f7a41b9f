"""`python -m client_sim sim`: run seeds, say what was simulated, and show what broke."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from client_sim.sim.history import Line
from client_sim.sim.plan import make
from client_sim.sim.run import Outcome, play_seed
from client_sim.sim.runner import Summary, outcomes
from client_sim.sim.shrink import Shrinker

LINES_MAX = 120
"""Of a history, on the terminal."""
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


def run(console: Console, request: Request) -> int:
    """Run it; 0 if every promise held."""
    end = None if request.minutes is None else request.clock() + 60 * request.minutes

    def goes_on() -> bool:
        return end is None or request.clock() < end

    summary, digests = Summary(), list[str]()
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("seeds", total=request.seeds)
        for outcome in outcomes(request.first, request.seeds, request.profile, os.cpu_count() or 1, goes_on):
            summary.add(outcome)
            digests.append(f"{outcome.seed} {outcome.digest}")
            progress.update(task, advance=1, description=f"seeds, {len(summary.failures)} broken")
    _show(console, summary)
    broken = _explain(console, summary, request)
    if request.trace_out is not None:
        _write_trace(request, digests)
    if request.report is not None:
        from client_sim.sim import report

        shown = broken or [play_seed(request.first, request.profile, keep=True)]
        for path in report.write(shown, request.report):
            console.print(f"wrote {path}")
    return BROKEN if summary.failures else 0


def _show(console: Console, summary: Summary) -> None:
    counts = summary.counts
    table = Table("simulated", "", title=f"{summary.seeds} seeds, {len(summary.failures)} broken")
    table.add_row("device-days", f"{summary.device_days:,.0f}")
    table.add_row("edits, acknowledged, log entries", _numbers(counts, "edits", "acknowledged", "entries"))
    table.add_row("connections", _numbers(counts, "connections"))
    for title, prefix in (("catch-ups", "catch-up "), ("hostile inputs", "hostile "), ("refusals", "told ")):
        found = {name.removeprefix(prefix): counts[name] for name in sorted(counts) if name.startswith(prefix)}
        table.add_row(title, f"{sum(found.values()):,}: {', '.join(f'{name} {found[name]:,}' for name in found)}")
    for title, names in _FAULTS.items():
        table.add_row(title, ", ".join(f"{name} {counts[name]:,}" for name in names if counts[name]))
    console.print(table)


_FAULTS = {
    "of the network": ("cut", "half-open", "slow reader", "reader overfull", "network off"),
    "of servers": ("crash", "crashed", "drain", "overtaken", "set the server's clock"),
    "of the database": ("failed", "disk full", "compacted", "new epoch", "restore from backup", "set the store back",
                        "imported"),
    "of devices": ("kill", "kill, last write lost", "restore an older store", "reinstall", "cloned",
                   "problem device_forked", "edit not stored"),
    "of access": ("revoke", "wiped", "change grants", "problem token_expired", "problem bad_token"),
}  # fmt: skip


def _numbers(counts: dict[str, int], *names: str) -> str:
    return ", ".join(f"{counts[name]:,}" for name in names)


def _explain(console: Console, summary: Summary, request: Request) -> list[Outcome]:
    """Each broken seed, and of the first one a history that is as short as it gets."""
    for outcome in summary.failures:
        assert outcome.failure is not None
        console.print(f"[red]seed {outcome.seed}[/]: {outcome.failure.message}", highlight=False, markup=True)
    if not summary.failures or not summary.failures[0].digest:
        return []
    first = summary.failures[0]
    assert first.failure is not None
    shrinker = Shrinker(make(first.seed, request.profile), first.failure.promise)
    small = shrinker.shrink()
    console.print(f"\nSeed {first.seed}, without what it does not need ({len(shrinker.plan.actions)} actions):")
    for line in small.lines[-LINES_MAX:]:
        console.print(_readable(line), highlight=False, markup=False, soft_wrap=True)
    console.print(f"Broken: {(small.failure or first.failure).message}", highlight=False, markup=False)
    console.print(f"Repeat: python -m client_sim sim --seed {first.seed} --seeds 1 --profile {request.profile}")
    return [small, play_seed(first.seed, request.profile, keep=True)]


def _readable(line: Line) -> str:
    return f"{line.time_s:12.3f} s  {line.who:<14} {line.what} {line.detail}".rstrip()


def _write_trace(request: Request, digests: list[str]) -> None:
    """The digest of each seed; of one seed alone, its history too."""
    assert request.trace_out is not None
    lines = list(digests)
    if request.seeds == 1:
        lines += [_readable(line) for line in play_seed(request.first, request.profile, keep=True).lines]
    request.trace_out.write_text("\n".join(lines) + "\n", encoding="utf-8")
