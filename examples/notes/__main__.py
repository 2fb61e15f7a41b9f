"""`python -m examples.notes`: the notes of whoever the token is for.

Exit codes: 0 left by its user; 1 it could not be, and standard error says why.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from typer.exceptions import TyperException

from client_sim.errors import NotPossible
from client_sim.pair import read_url
from examples.account import read_device
from examples.notes.app import NotesApp, Settings

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def notes(
    token: Annotated[str, typer.Option(envvar="NOTES_TOKEN", help="This device's token.")],
    url: Annotated[str, typer.Option(help="The server.")] = "ws://127.0.0.1:8787",
    store: Annotated[
        Path | None, typer.Option(dir_okay=False, help="Where notes are kept. Default: notes-DEVICE.db, here.")
    ] = None,
) -> None:
    """Notes in a terminal, on as many devices as you like."""
    device = read_device(token)
    problem = NotesApp(Settings(read_url(url), token, device, store or Path(f"notes-{device}.db"))).run()
    if problem is not None:
        raise NotPossible(problem)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the app with these arguments (`sys.argv` by default); the exit code."""
    try:
        return typer.main.get_command(app).main(arguments, "notes", standalone_mode=False) or 0
    except NotPossible as exc:
        typer.echo(f"notes: {exc}", err=True)
    except TyperException as exc:
        typer.echo(f"notes: {exc.format_message()} Try --help.", err=True)
    return 1


if __name__ == "__main__":
    sys.exit(main())
