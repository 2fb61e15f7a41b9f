"""`python -m examples.todo_cli add "buy milk"`: every command works without a network, and syncs if there is one.

Exit codes: 0 done; 1 it could not be done, and standard error says why.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from typer.exceptions import TyperException

from client_sim import (
    AsyncDevice,
    AsyncDocument,
    Blocked,
    EditTooBig,
    Problem,
    StoreDamaged,
    StoreError,
    StoreRefused,
    explain,
)
from client_sim.errors import NotPossible
from client_sim.pair import read_url
from examples.account import read_device
from examples.todo_cli import tasks

MOMENT_S = 2.0
"""What a command gives the network before it goes on without it."""
SYNC_S = 15.0
MOMENT_BYTES = 1 << 20

app = typer.Typer(help="A to-do list that needs no network.", add_completion=False, pretty_exceptions_enable=False)


@dataclass(frozen=True, slots=True)
class Settings:
    url: str
    token: str
    device: str
    store: Path


@app.callback()
def settings(
    context: typer.Context,
    token: Annotated[str, typer.Option(envvar="TODO_TOKEN", help="This device's token.")],
    url: Annotated[str, typer.Option(envvar="TODO_URL", help="The server.")] = "ws://127.0.0.1:8787",
    store: Annotated[
        Path, typer.Option(envvar="TODO_STORE", dir_okay=False, help="Where this device keeps all.")
    ] = Path("todo.db"),
) -> None:
    """A to-do list that needs no network."""
    context.obj = Settings(read_url(url), token, read_device(token), store)


@app.command()
def add(context: typer.Context, text: str) -> None:
    """Add a task."""
    _change(context, lambda document: tasks.add(document, text), f"added: {text}")


@app.command()
def done(context: typer.Context, number: int) -> None:
    """Tick a task off."""
    _change(context, lambda document: tasks.set_done(document, number, done=True), f"done: task {number}")


@app.command()
def undo(context: typer.Context, number: int) -> None:
    """Take the tick away."""
    _change(context, lambda document: tasks.set_done(document, number, done=False), f"open again: task {number}")


@app.command()
def remove(context: typer.Context, number: int) -> None:
    """Remove a task."""
    _change(context, lambda document: tasks.remove(document, number), f"removed: task {number}")


@app.command(name="list")
def show(context: typer.Context) -> None:
    """Show all tasks, as this device has them."""
    asyncio.run(_show(context.obj))


@app.command()
def sync(context: typer.Context) -> None:
    """Wait until everything is on the server, and what others did is here."""
    asyncio.run(_sync(context.obj))


def _change(context: typer.Context, change: Callable[[AsyncDocument], object], told: str) -> None:
    asyncio.run(_apply(context.obj, change, told))


# --- on a loop


async def _apply(settings: Settings, change: Callable[[AsyncDocument], object], told: str) -> None:
    """The change is durable here before anything is said; then the network gets a moment."""
    async with _device(settings) as (device, document):
        change(document)
        typer.echo(told)
        await device.background_sync(MOMENT_S, MOMENT_BYTES)
        if pending := device.pending:
            typer.echo(f"(not on the server yet: {pending.count} edits wait on this device)")


async def _show(settings: Settings) -> None:
    async with _device(settings) as (device, document):
        for number, task in enumerate(tasks.tasks(document), 1):
            typer.echo(f"{number:3} [{'x' if task.done else ' '}] {task.text}")
        if pending := device.pending:
            typer.echo(f"({pending.count} edits wait on this device; the oldest for {pending.age_s:.0f} s)")


async def _sync(settings: Settings) -> None:
    async with _device(settings) as (device, document):
        try:
            await document.wait_current(SYNC_S)
        except Blocked as exc:
            raise NotPossible(_why(exc.status.reason)) from exc
        except TimeoutError as exc:
            raise NotPossible(
                f"{_why(device.status.reason)} {device.pending.count} edits wait on this device."
            ) from exc
        typer.echo(f"all {len(tasks.tasks(document))} tasks are on the server")


def _why(reason: str | None) -> str:
    if reason is None:
        return "It takes longer than expected."
    what = explain(reason)
    return f"{what.what} {what.advice}"


@asynccontextmanager
async def _device(settings: Settings) -> AsyncIterator[tuple[AsyncDevice, AsyncDocument]]:
    """This device with the user's document, read from its own store. Raises NotPossible if that can not be."""
    problems: list[Problem] = []
    try:
        async with AsyncDevice(
            settings.url, token=settings.token, device=settings.device, store=settings.store, on_error=problems.append
        ) as device:
            yield device, await device.open("main")
    except (StoreError, StoreRefused, StoreDamaged) as exc:
        raise NotPossible(f"what this device keeps can not be used now: {exc}") from exc
    except EditTooBig as exc:
        raise NotPossible(f"this is too long for one task: {exc}") from exc
    finally:
        for problem in problems:
            typer.echo(f"(note: {problem.message or problem.code})", err=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command (of `sys.argv` by default); the exit code."""
    try:
        return typer.main.get_command(app).main(arguments, "todo", standalone_mode=False) or 0
    except (NotPossible, tasks.UnknownTask) as exc:
        typer.echo(f"todo: {exc}", err=True)
    except (KeyboardInterrupt, typer.Abort):
        typer.echo("todo: interrupted; what was said to be done is done", err=True)
    except TyperException as exc:
        typer.echo(f"todo: {exc.format_message()} Try --help.", err=True)
    return 1


if __name__ == "__main__":
    sys.exit(main())
