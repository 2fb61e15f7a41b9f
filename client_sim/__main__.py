"""`python -m client_sim`: `pair` shows two devices on a server that runs, `demo` a server and devices under fire, `sim`
thousands of device-days in virtual time.

Exit codes: 0 all was as promised; 1 it was not; 2 it could not be done, and standard error has one line that says why.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from typer.exceptions import TyperException

from client_sim import pair as pairs
from client_sim.demo import command
from client_sim.demo.processes import DemoFailed
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
    except (pairs.NotPossible, simulation.NotPossible, TraceError, OSError) as exc:
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
