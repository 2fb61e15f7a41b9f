"""`python -m examples.notes`: the notes of whoever the token is for."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import jwt
import typer

from client_sim.pair import read_url
from examples.notes.app import NotesApp, Settings


def main(
    token: Annotated[str, typer.Option(envvar="NOTES_TOKEN", help="This device's token.")],
    url: Annotated[str, typer.Option(help="The server.")] = "ws://127.0.0.1:8787",
    store: Annotated[Path | None, typer.Option(help="Where notes are kept. Default: notes-DEVICE.db, here.")] = None,
) -> None:
    """Notes in a terminal, on as many devices as you like."""
    device = str(jwt.decode(token, options={"verify_signature": False})["did"])
    NotesApp(Settings(read_url(url), token, device, store or Path(f"notes-{device}.db"))).run()


if __name__ == "__main__":
    typer.run(main)
