"""`python -m benchmarks peers`: Syncline and other sync servers in turn, on one core, with the generator on another."""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from collections.abc import Callable, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any

import uvloop
from rich.console import Console
from rich.table import Table

from benchmarks import harness
from benchmarks.figures import Better, Run, Scale, Spread, Workload, WorkloadFailed
from benchmarks.peers.durability import killed
from benchmarks.peers.fanout import SHAPES, fanout
from benchmarks.peers.packages import NotInstalled
from benchmarks.peers.reconnect import reconnected
from benchmarks.peers.servers import PEERS, Peer, Server
from benchmarks.report import Case, Measured, Report, cases
from benchmarks.tables import number

RANGES = 10_000
Measure = Callable[[Peer], Coroutine[Any, Any, Run]]


def main(arguments: list[str]) -> int:
    """Measure as the arguments say. The exit status: 0 if every run's result was right."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks peers", description=__doc__)
    parser.add_argument("--only", action="append", choices=measures(Scale()), help="this workload (repeatable)")
    parser.add_argument("--peer", action="append", choices=PEERS, help="this server beside Syncline (repeatable)")
    harness.add_options(parser)
    options = parser.parse_args(arguments)
    scale = harness.scale_of(parser, options)
    console = Console()
    peers = list(_ready(options.peer or list(PEERS), console))
    chosen = {
        f"{name}/{peer.name}": _workload(measure, peer)
        for name, measure in measures(scale).items()
        if not options.only or name in options.only
        for peer in peers
    }
    report = harness.measure(
        chosen,
        scale,
        runs=options.runs,
        command=harness.command_of(["peers", *arguments]),
        versions={peer.name: peer.versions for peer in peers},
    )
    status = harness.conclude(report, options)
    console.print(ratios(report))
    return status


def measures(scale: Scale) -> dict[str, Measure]:
    """By the name that `--only` takes."""
    found: dict[str, Measure] = {}
    for name, shape in SHAPES.items():
        smaller = shape if not scale.quick else shape.smaller()
        found[name] = lambda peer, shape=smaller: _served(  # type: ignore[misc]
            peer, lambda server: fanout(peer, server, shape, scale.seconds)
        )
    found["reconnect"] = lambda peer: _served(
        peer, lambda server: reconnected(peer, server, ranges=scale.of(RANGES, 500), times=scale.of(200, 3))
    )
    found["kill"] = lambda peer: killed(peer, scale.of(1000, 50), in_flight=4)
    found["kill-in-burst"] = lambda peer: killed(peer, scale.of(20_000, 500), in_flight=1000)
    return found


async def _served(peer: Peer, measure: Callable[[Server], Coroutine[Any, Any, Run]]) -> Run:
    """With a server of its own, on fresh files."""
    with tempfile.TemporaryDirectory(prefix="syncline-bench-") as folder, peer.start(Path(folder)) as server:
        return await measure(server)


def _workload(measure: Measure, peer: Peer) -> Workload:
    def run() -> tuple[Run]:
        try:
            return (uvloop.run(_alone(measure(peer))),)
        except OSError as exc:  # a connection was refused, closed or not answered
            raise WorkloadFailed(f"{peer.name}: {exc!r}") from exc

    return run


async def _alone(run: Coroutine[Any, Any, Run]) -> Run:
    return await asyncio.create_task(run)


def _ready(names: Sequence[str], console: Console) -> Iterator[Peer]:
    """Syncline and the peers of these names that can be installed, each started once."""
    for name in dict.fromkeys(["syncline", *names]):
        peer = PEERS[name]
        try:
            with tempfile.TemporaryDirectory(prefix="syncline-bench-") as folder, peer.start(Path(folder)):
                pass
        except NotInstalled as exc:
            console.print(f"[yellow]{peer.name} is left out: {exc}[/yellow]")
            continue
        console.print(f"{peer.name}: {peer.versions}")
        yield peer


def ratios(report: Report) -> Table:
    """Syncline's figure against each peer's of the same round: the median ratio, the least and the most.

    Green where Syncline was the better one in every round, red where the peer was.
    """
    found = {case.workload: case for case in cases(report)}
    ours = PEERS["syncline"].name
    theirs = [peer.name for peer in PEERS.values() if peer.name != ours]
    table = Table(title="Syncline / peer, rounds of the same run", title_justify="left")
    for column in ("workload", "figure", *theirs):
        table.add_column(column, justify="right" if column in theirs else "left", overflow="fold")
    for workload, case in found.items():
        group, _, name = workload.partition("/")
        for figure in case.figures if name == ours else ():
            cells = [_ratio(figure, found.get(f"{group}/{peer}")) for peer in theirs]
            if figure.better is not Better.NEITHER and any(cells):
                table.add_row(group, figure.name, *cells)
    return table


def _ratio(ours: Measured, peer: Case | None) -> str:
    """Nothing where a peer has no such figure, or where it is zero."""
    theirs = [figure for figure in peer.figures if figure.name == ours.name] if peer else []
    pairs = [pair for figure in theirs for pair in zip(ours.values, figure.values, strict=False)]
    if not pairs or not all(other for _, other in pairs):
        return ""
    spread = Spread.of([mine / other for mine, other in pairs])
    text = f"{number(spread.median)} ({number(spread.least)}-{number(spread.most)})"
    above, below = spread.least > 1, spread.most < 1
    better, worse = (above, below) if ours.better is Better.HIGHER else (below, above)
    return f"[green]{text}[/]" if better else f"[red]{text}[/]" if worse else text
