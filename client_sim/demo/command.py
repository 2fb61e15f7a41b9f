"""`python -m client_sim demo`: which history, where, how fast; and the result."""

from __future__ import annotations

import asyncio
import signal
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from random import Random

from rich.console import Console

from client_sim.demo.board import final_table, open_board
from client_sim.demo.director import PLAY_S, Director, Outcome
from client_sim.demo.generated import generate
from client_sim.demo.history import History, build
from client_sim.traces import Trace, folder, load, trace_files

FAVOURITE = "clownschool.concurrent.json.gz"
"""Three people at once, where there are recordings."""

KEPT, BROKEN = 0, 1


def run(
    console: Console,
    *,
    trace: Path | None,
    edits: int,
    seed: int,
    keep_in: Path | None,
    speed: float | None,
    plain: bool,
) -> int:
    """Perform the demo; the exit code. Raises TraceError, OSError, DemoFailed and KeyboardInterrupt."""
    began = time.monotonic()
    history = build(choose(trace, edits, seed), edits, Random(seed))
    speed = speed or max(1.0, history.length_s() / PLAY_S)
    with ExitStack() as stack:
        if keep_in is None:
            keep_in = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="syncline-demo-")))
        else:
            keep_in.mkdir(parents=True)
        board = stack.enter_context(open_board(console, plain=plain))
        board.say(introduction(history, speed))
        outcome = asyncio.run(_perform(Director(history, keep_in.absolute(), board, seed=seed, speed=speed)))
    write_outcome(console, history, outcome, time.monotonic() - began)
    return BROKEN if outcome.problems else KEPT


def choose(trace: Path | None, edits: int, seed: int) -> Trace:
    """The recording that was named, else one of the folder of recordings, else a history made up."""
    if trace is None and (recordings := folder()) is not None:
        found = trace_files(recordings)
        trace = next((path for path in found if path.name == FAVOURITE), found[-1] if found else None)
    return generate(edits, seed) if trace is None else load(trace)


async def _perform(director: Director) -> Outcome:
    """SIGTERM ends it as Ctrl-C does: with everything cleared away."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        return await director.perform()
    except asyncio.CancelledError as exc:
        raise KeyboardInterrupt from exc


def introduction(history: History, speed: float) -> str:
    count = len(history.order) - history.has_opening
    which = f"the last {count:,} edits" if history.has_opening else f"all {count:,} edits"
    return f"{which} of {history.name!r}, {len(history.devices)} devices, typed {speed:.3g} times as fast as it was"


def write_outcome(console: Console, history: History, outcome: Outcome, took_s: float) -> None:
    def say(text: str, style: str = "") -> None:
        console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)

    console.print(final_table(outcome.rows))
    say(
        f"{outcome.concurrent:,} of {len(history.order):,} edits were concurrent with another device's: in the history"
        " neither author had seen the other's edit. All were merged."
    )
    say(
        f"{outcome.offline_at_end:,} edits were typed while everybody was offline; {outcome.convergence_s:.2f} s after"
        " the reconnect all devices had everything."
    )
    if history.has_opening:
        say(f"(The text as it was before is one more edit of {history.devices[0]}.)")
    for problem in outcome.problems:
        say(f"NOT AS PROMISED: {problem}", "bold red")
    if not outcome.problems:
        say(
            f"All devices and the database, replayed from its file with all checksums compared, have the same values:"
            f" {history.end_chars:,} characters, the text that the history itself ends with.",
            "bold green",
        )
    say(f"({took_s:.0f} s)")
