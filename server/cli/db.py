"""`syncline db`: the store as a whole."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from server.cli.options import takes_settings
from server.cli.store import ask_server, database_of
from server.config import StoreSettings
from server.runtime.operations import OperationRefused
from server.storage import database_file
from server.storage.backup import backup as back_up
from server.storage.backup import restore as put_back
from server.storage.lock import DatabaseInUse, database_lock
from server.storage.schema import upgrade as upgrade_schema

app = typer.Typer(help="The store as a whole: schema, backups.", rich_markup_mode=None)


@app.command()
@takes_settings(StoreSettings)
def upgrade(settings: StoreSettings) -> int:
    """Bring the database up to this program's schema. No server may run; `serve` does the same as it starts."""
    with database_lock(database_of(settings)):
        asyncio.run(upgrade_schema(settings.database_url))
    typer.echo("the schema is up to date")
    return 0


@app.command()
@takes_settings(StoreSettings)
def backup(
    settings: StoreSettings, target: Annotated[Path, typer.Argument(help="A file that is not there yet.")]
) -> int:
    """Copy all that is committed to a file and check the copy. A server that runs goes on meanwhile."""
    database = database_of(settings)
    try:
        with database_lock(database):
            asyncio.run(back_up(database, target.absolute()))
    except DatabaseInUse as in_use:
        ask_server(in_use, database, "backup", target=str(target.absolute()))
    typer.echo(f"backed up to {target}")
    return 0


@app.command()
@takes_settings(StoreSettings)
def restore(
    settings: StoreSettings,
    source: Annotated[Path, typer.Argument(help="A file that `db backup` wrote.")],
    replace: Annotated[bool, typer.Option("--replace", help="Let go of the database that is there now.")] = False,
) -> int:
    """Put a backup in the database's place. No server may run. Devices then push what the backup lacks."""
    database = database_file(settings.database_url)
    assert database is not None, "settings take SQLite only"
    if database.exists() and not replace:
        raise OperationRefused(f"{database} is there, and would be gone: say --replace if that is meant")
    is_taken_over = put_back(source, database)
    typer.echo(f"restored {database}; every document has begun a new epoch")
    if not is_taken_over:
        typer.echo("Devices are shut out as the backup says: revoke again those that were shut out since.")
    return 0
