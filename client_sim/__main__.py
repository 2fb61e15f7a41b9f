"""`python -m client_sim`: `pair` shows two devices on a server that runs, `demo` a server and devices under fire, `sim`
thousands of device-days in virtual time.

Exit codes: 0 all was as promised; 1 it was not; 2 it could not be done, and standard error has one line that says why.
"""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from typer.exceptions import TyperException

from client_sim import pair as pairs
from client_sim.core.pacing import Policy
from client_sim.demo import command
from client_sim.demo.processes import DemoFailed
from client_sim.errors import NotPossible
from client_sim.fleet import command as fleets
from client_sim.fleet.capacity import RecordingError, read_recording
from client_sim.fleet.plan import Plan
from client_sim.fleet.profiles import PROFILES as NETWORKS
from client_sim.fleet.request import SECRET_VARIABLE, Request, StoreKind
from client_sim.sim import command as simulation
from client_sim.sim.weather import PROFILES
from client_sim.traces import TraceError

NOT_AS_PROMISED = 1
NOT_DONE = 2
INTERRUPTED = 130

app = typer.Typer(
    help="Simulated devices against real servers.",
    rich_markup_mode=None,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command (of `sys.argv` by default); the exit code."""
    try:
        return typer.main.get_command(app).main(arguments, "python -m client_sim", standalone_mode=False) or 0
    except (KeyboardInterrupt, typer.Abort):
        return _end("interrupted", INTERRUPTED)
    except DemoFailed as exc:
        return _end(str(exc), NOT_AS_PROMISED)
    except TyperException as exc:
        return _end(f"{exc.format_message()} Try --help.", NOT_DONE)
    except (NotPossible, RecordingError, TraceError, OSError) as exc:
        return _end(str(exc), NOT_DONE)


@app.command()
def pair(
    url: Annotated[str, typer.Option(help="The server: ws:// or wss://, and its address.")],
    token: Annotated[list[str], typer.Option(help="A device's token. Give two, of one user.")],
) -> int:
    """Connect two devices, let them type into the user's document, and show how each sees the other."""
    return pairs.run(_console(), url, token)


@app.command()
def demo(
    trace: Annotated[
        Path | None, typer.Option(help="A recorded history to play. Default: one of SYNCLINE_TRACES, or one made up.")
    ] = None,
    edits: Annotated[int, typer.Option(help="How many of its last edits to play.", min=1)] = 6000,
    seed: Annotated[int, typer.Option(help="For what is left to chance.")] = 1,
    folder: Annotated[
        Path | None, typer.Option(help="A folder to make, and leave stores and logs in. Default: a temporary one.")
    ] = None,
    speed: Annotated[
        float | None, typer.Option(help="How much faster than it was typed. Default: about a minute for all.", min=1e-6)
    ] = None,
    plain: Annotated[bool, typer.Option("--plain", help="Lines, and no live picture.")] = False,
) -> int:
    """Play an editing history on three devices and a server, through lost connections and kill -9, and compare."""
    return command.run(_console(), trace=trace, edits=edits, seed=seed, keep_in=folder, speed=speed, plain=plain)


@app.command()
def sim(
    seeds: Annotated[int, typer.Option(help="How many runs.", min=1)] = 300,
    seed: Annotated[int, typer.Option(help="The first run's seed; the others follow.")] = 1,
    minutes: Annotated[float | None, typer.Option(help="Begin no run after so many.", min=0)] = None,
    profile: Annotated[str, typer.Option(help=f"Which faults there are: {', '.join(PROFILES)}.")] = "swarm",
    trace_out: Annotated[Path | None, typer.Option(help="A file for the digests, or one seed's history.")] = None,
    report: Annotated[
        Path | None, typer.Option(help="A folder for timelines: of the first seed, or of what broke.")
    ] = None,
) -> int:
    """Try to break the promises: real hubs and devices in virtual time, with every fault there is."""
    if profile not in PROFILES:
        raise typer.BadParameter(f"there is no profile {profile!r}")
    request = simulation.Request(seeds, seed, profile, minutes, trace_out, report, time.monotonic)
    return simulation.run(_console(), request)


def _seconds(value: str | float) -> float:
    """Defaults come here too, which are numbers."""
    try:
        return fleets.read_duration(str(value))
    except ValueError as exc:
        raise typer.BadParameter(str(exc)) from exc


def _time(text: str) -> Any:
    """An option that is a time."""
    return typer.Option(help=text, parser=_seconds, metavar="TIME")


@app.command()
def fleet(
    users: Annotated[int, typer.Option(help="How many users.", min=1)] = 20,
    devices: Annotated[int, typer.Option(help="How many devices each of them has.", min=1)] = 3,
    profile: Annotated[str, typer.Option(help=f"The network of all: {', '.join(NETWORKS)}.")] = "lte",
    throughput: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            help="A recording in place of its rates: mahimahi, seconds and Mbit/s, or HSDPA.",
        ),
    ] = None,
    duration: Annotated[float, _time("How long: 90s, 10m.")] = 60.0,
    speed: Annotated[float, typer.Option(help="How much faster people come and go.", min=1e-3)] = 20.0,
    burst: Annotated[list[float] | None, _time("When everybody is notified; more than once, if you like.")] = None,
    restart_at: Annotated[float | None, _time("When the server is killed with -9, and started again.")] = None,
    server: Annotated[str | None, typer.Option(help="A server's address. Default: one of the fleet's own.")] = None,
    secret_file: Annotated[
        Path | None, typer.Option(help=f"That server's HS256 secret. Default: {SECRET_VARIABLE}.")
    ] = None,
    policy: Annotated[Policy | None, typer.Option(help="How devices send edits; theirs, if none is given.")] = None,
    latency: Annotated[float | None, _time("How long an edit may wait for others, by that policy.")] = None,
    store: Annotated[StoreKind, typer.Option(help="Where devices keep what they have.")] = StoreKind.SQLITE,
    old_stores: Annotated[float, typer.Option(help="The share of stores of an older format.", min=0, max=1)] = 0.1,
    budget: Annotated[float, _time("What all have in the end to converge.")] = 90.0,
    seed: Annotated[int, typer.Option(help="For what is left to chance.")] = 1,
    report: Annotated[Path | None, typer.Option(help="A file for a page with plots.")] = None,
    json: Annotated[Path | None, typer.Option(help="A file for all figures.")] = None,
    plain: Annotated[bool, typer.Option("--plain", help="Lines, and no live picture.")] = False,
) -> int:
    """Let many devices live on real networks, with a real server, and see what their users would."""
    if profile not in NETWORKS:
        raise typer.BadParameter(f"there is no {profile!r}: there are {', '.join(NETWORKS)}", param_hint="'--profile'")
    recording = None if throughput is None else read_recording(throughput)
    plan = Plan(
        users, devices, NETWORKS[profile], duration, speed, seed, recording, bursts_s=tuple(burst or ()),
        restart_at_s=restart_at, policy=policy, latency_s=latency, old_stores=old_stores, budget_s=budget,
    )  # fmt: skip
    recorded = None if throughput is None else throughput.name
    command = shlex.join(["python", "-m", "client_sim", *sys.argv[1:]])
    request = Request(plan, server, secret_file, report, json, plain, store, recorded, command)
    return fleets.run(_console(), request)


def _console() -> Console:
    """Where nobody sees it a terminal's width is no measure."""
    console = Console()
    if not console.is_terminal:
        console.width = 200
    return console


def _end(text: str, code: int) -> int:
    typer.echo(f"client_sim: {' '.join(text.split())}", err=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
