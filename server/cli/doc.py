"""`syncline doc`: look at documents, take them out, put them in, check and compact them."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress

from server.cli.excision import attribute, excise
from server.cli.options import AsJson, takes_settings
from server.cli.store import operations_on, perform
from server.cli.table import print_table
from server.config import StoreSettings

DAMAGE_FOUND = 1
"""The exit code of a check that did not find everything in order."""

app = typer.Typer(help="Look at documents, take them out, put them in, check and compact them.", rich_markup_mode=None)

Document = Annotated[str, typer.Argument(help="owner/name", metavar="DOCUMENT", show_default=False)]
Documents = Annotated[
    list[str] | None, typer.Argument(help="owner/name ...; all if none is given.", show_default=False)
]
StdFile = Annotated[Path, typer.Argument(help="A file; - is standard input or output.", show_default=False)]

_STDIO = Path("-")


@app.command("list")
@takes_settings(StoreSettings)
def list_documents(
    settings: StoreSettings,
    quarantined: Annotated[bool, typer.Option("--quarantined", help="Those alone that can not be loaded.")] = False,
    as_json: AsJson = False,
) -> int:
    """All documents, with the sizes of what is stored of them; why, of those that are quarantined."""
    infos = [info for info in perform(settings, "list") if info["quarantine"] or not quarantined]
    if as_json:
        typer.echo(json.dumps(infos))
        return 0
    columns = ["document", "head_seq", "log_entries", "log_bytes", "snapshot_seq", "snapshot_bytes"]
    if any(info["quarantine"] for info in infos):
        columns.append("quarantine")
    print_table(columns, [[info[column] for column in columns] for info in infos])
    return 0


@app.command()
@takes_settings(StoreSettings)
def release(settings: StoreSettings, document: Document) -> int:
    """Let a quarantined document be opened again, once it is mended: `verify` tells."""
    was_quarantined = perform(settings, "release", document=document)
    typer.echo(f"{document}: {'released' if was_quarantined else 'was not quarantined'}")
    return 0


@app.command()
@takes_settings(StoreSettings)
def show(settings: StoreSettings, document: Document, as_json: AsJson = False) -> int:
    """A document's values."""
    values: bytes = perform(settings, "show", document=document)
    typer.echo(values if as_json else json.dumps(json.loads(values), indent=2, ensure_ascii=False))
    return 0


@app.command()
@takes_settings(StoreSettings)
def export(settings: StoreSettings, document: Document, file: StdFile) -> int:
    """Write a document as one Yjs v1 update to a file that is not there yet."""
    state: bytes = perform(settings, "export", document=document)
    if file == _STDIO:
        typer.echo(state, nl=False)
        return 0
    with file.open("xb") as opened:
        opened.write(state)
    return 0


@app.command("import")
@takes_settings(StoreSettings)
def import_update(settings: StoreSettings, document: Document, file: StdFile) -> int:
    """Put a Yjs v1 update into a document; devices get it as they would another device's edit."""
    update = sys.stdin.buffer.read() if file == _STDIO else file.read_bytes()
    seq = perform(settings, "import", document=document, update=update)
    typer.echo(f"{document}: log entry {seq}" if seq else f"{document}: it has all of that already")
    return 0


@app.command()
@takes_settings(StoreSettings)
def verify(settings: StoreSettings, documents: Documents = None, as_json: AsJson = False) -> int:
    """Read documents and rebuild them in several ways. Exit code 1 if anything is not as it should be."""
    reports = asyncio.run(_each(settings, "verify", documents))
    return _print_reports(reports, ("document", "head_seq", "problem"), as_json=as_json)


@app.command()
@takes_settings(StoreSettings)
def compact(settings: StoreSettings, documents: Documents = None, as_json: AsJson = False) -> int:
    """Fold logs into snapshots now. Exit code 1 if a document could not be compacted."""
    reports = asyncio.run(_each(settings, "compact", documents))
    return _print_reports(reports, ("document", "snapshot_bytes", "problem"), as_json=as_json)


app.command()(attribute)
app.command()(excise)


async def _each(settings: StoreSettings, command: str, documents: list[str] | None) -> list[dict[str, Any]]:
    """The reports on these documents, or on all; with a progress bar where a person sees it."""
    console = Console(stderr=True)
    async with operations_on(settings) as perform:
        names = documents or [info["document"] for info in await perform("list")]
        with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
            return [await perform(command, document=name) for name in progress.track(names, description=command)]


def _print_reports(reports: list[dict[str, Any]], columns: tuple[str, ...], *, as_json: bool) -> int:
    if as_json:
        typer.echo(json.dumps(reports))
    else:
        print_table(columns, [[report[column] for column in columns] for report in reports])
    return DAMAGE_FOUND if any(report["problem"] for report in reports) else 0
