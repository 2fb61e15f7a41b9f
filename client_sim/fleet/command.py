"""`python -m client_sim fleet`: which devices, where, for how long; and what came of it."""

from __future__ import annotations

import asyncio
import json
import os
import re
import resource
import secrets
import signal
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import uvloop
from rich.console import Console
from rich.table import Table

from client_sim.demo.processes import Processes, ServerProcess
from client_sim.fleet.figures import summary
from client_sim.fleet.plan import Plan
from client_sim.fleet.quantiles import percentile
from client_sim.fleet.request import Address, Request, StoreKind, check, try_server
from client_sim.fleet.run import Fleet, Outcome, View
from client_sim.fleet.view import named, open_view

SHARED_MEMORY = Path("/dev/shm")
PROBLEMS_SHOWN = 20
KEPT, BROKEN = 0, 1
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|)")
_UNITS_S = {"ms": 0.001, "s": 1.0, "": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


def read_duration(text: str) -> float:
    """Seconds of `90`, `90s`, `10m`, `1.5h`, `2d`. Raises ValueError."""
    found = _DURATION.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{text!r} is no duration: write it as 90s, 10m or 1.5h")
    return float(found[1]) * _UNITS_S[found[2]]


def run(console: Console, request: Request) -> int:
    """Perform it; 0 if all converged and nothing acknowledged was lost. Raises NotPossible, DemoFailed, OSError."""
    address = check(request)
    plan = request.plan
    _allow_files()
    with ExitStack() as stack:
        view = stack.enter_context(open_view(console, plan.users * plan.devices, plan.duration_s, plain=request.plain))
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="syncline-fleet-"))
        stores = None if request.store is StoreKind.MEMORY else stack.enter_context(_store_folder())
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            outcome = runner.run(_perform(address, replace(plan, stores=stores), Path(folder), view))
    figures = summary(outcome.figures, outcome.spent, outcome.verdict, _about(request), outcome.run_s)
    _show(console, outcome, figures)
    if request.json is not None:
        request.json.write_text(json.dumps(figures, indent=1), encoding="utf-8")
    if request.report is not None:
        from client_sim.fleet import page  # what it needs is not there for everybody

        request.report.write_text(page.page(plan, outcome, figures), encoding="utf-8")
        console.print(f"wrote {request.report}", highlight=False, soft_wrap=True)
    return BROKEN if outcome.verdict.problems else KEPT


def _allow_files() -> None:
    """As many open files as the system allows: a device has a socket and the files of its store."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


@contextmanager
def _store_folder() -> Iterator[Path]:
    """Where syncing costs nothing, if there is such a place: every real device has a disk of its own, and these share
    one, and the thread that would wait for it."""
    shared = SHARED_MEMORY if SHARED_MEMORY.is_dir() and os.access(SHARED_MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="syncline-fleet-", dir=shared) as folder:
        yield Path(folder)


async def _perform(address: Address | None, plan: Plan, folder: Path, view: View) -> Outcome:
    """SIGTERM ends it as Ctrl-C does: with everything cleared away."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        if address is None:
            return await _perform_alone(plan, folder, view)
        await try_server(address)
        return await Fleet(plan, address.url, address.secret, view).perform()
    except ExceptionGroup as group:
        raise _first(group) from group


async def _perform_alone(plan: Plan, folder: Path, view: View) -> Outcome:
    """With a server of its own."""
    secret = secrets.token_hex(32)
    async with Processes() as processes:
        server = ServerProcess(processes, folder, secret)
        await server.start()
        outcome = await Fleet(plan, server.url, secret, view, server).perform()
        await server.stop()
        return outcome


def _first(failure: Exception) -> Exception:
    """What failed first; the rest was ended for it."""
    while isinstance(failure, ExceptionGroup):
        failure = failure.exceptions[0]
    return failure


def _about(request: Request) -> Mapping[str, Any]:
    plan = request.plan
    return {
        "command": request.command, "users": plan.users, "devices_of_each": plan.devices, "profile": plan.profile.name,
        "throughput": request.recorded, "duration_s": plan.duration_s, "speed": plan.speed, "seed": plan.seed,
        "policy": plan.policy, "latency_s": plan.latency_s,
        "bursts_s": list(plan.bursts_s), "restart_at_s": plan.restart_at_s, "old_stores": plan.old_stores,
        "radio": plan.profile.radio.name, "energy": f"a model, not a measurement. {plan.profile.radio.source}",
    }  # fmt: skip


def _show(console: Console, outcome: Outcome, figures: Mapping[str, Any]) -> None:
    times = Table("seconds", "count", "p50", "p95", "p99", "longest", box=None)
    for title, timed in named(outcome.figures):
        _add_times(times, title, [item.seconds for item in timed])
    _add_times(times, "age of the oldest pending edit", outcome.figures.ages)
    console.print(times)
    hour, total = figures["per_device_hour"], figures["total"]

    def say(text: str, style: str = "") -> None:
        console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)

    say(
        f"an hour of a device with its app open: {hour['bytes_up']:,.0f} B up, {hour['bytes_down']:,.0f} B down, radio"
        f" awake {hour['radio_awake_s']:,.0f} s in {hour['radio_wakeups']:,.0f} wake-ups (a model: see --report)"
    )
    say(
        f"{total['edits']:,} edits, {total['lives']:,} starts of the app, {total['kills']:,} kills,"
        f" {total['connections']:,} connections, {total['failures']:,} of {total['attempts']:,} attempts failed,"
        f" {total['resent']:,} ops sent again"
    )
    say(f"catch-ups: {_told(figures['catch_ups'])}; errors: {_told(figures['errors'])}")
    verdict = outcome.verdict
    for problem in verdict.problems[:PROBLEMS_SHOWN]:
        say(f"NOT AS PROMISED: {problem}", "bold red")
    if (left := len(verdict.problems) - PROBLEMS_SHOWN) > 0:
        say(f"and {left} more", "bold red")
    if not verdict.problems:
        say(
            f"All {verdict.devices:,} devices have what the server has, {verdict.converged_s:.1f} s after they came"
            f" online, in {verdict.documents:,} documents: nothing is pending, nothing acknowledged is lost.",
            "bold green",
        )


def _add_times(table: Table, title: str, seconds: Sequence[float]) -> None:
    ordered = sorted(seconds)
    shown = (percentile(ordered, share) for share in (0.5, 0.95, 0.99, 1.0))
    table.add_row(title, f"{len(ordered):,}", *("-" if value is None else f"{value:.2f}" for value in shown))


def _told(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items()) or "none"
