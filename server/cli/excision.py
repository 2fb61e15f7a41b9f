"""`syncline doc attribute` and `syncline doc excise`: who wrote what, and taking a stolen device's edits out again."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Annotated, Any, Final

import typer

from server.cli.options import AsJson, takes_settings
from server.cli.store import perform
from server.cli.table import print_table
from server.cli.times import NEVER_MS, read_time_ms, show_time
from server.config import StoreSettings

TIMES: Final = "2026-01-31T12:00, in UTC unless it says otherwise; or so long ago: 90m, 2h, 3d."
DEVICES: Final = "A device: user/name, or the name alone of one of the document's owner."

ATTRIBUTION_COLUMNS: Final = ("device", "from", "to", "entries", "ops", "inserted", "deleted", "")
SHOWN_CHARS: Final = 400
"""Of a text that goes or comes back; --json has all of it."""


@takes_settings(StoreSettings)
def attribute(
    settings: StoreSettings,
    document: Annotated[str, typer.Argument(help="owner/name", metavar="DOCUMENT", show_default=False)],
    since: Annotated[str | None, typer.Option(help=f"Only what was written since then. {TIMES}")] = None,
    device: Annotated[str, typer.Option(help=DEVICES)] = "",
    text: Annotated[bool, typer.Option("--text", help="Also what of it is still to be seen.")] = False,
    as_json: AsJson = False,
) -> int:
    """Who wrote what, and when. Inserted and deleted are counts of characters, list elements and map values."""
    since_ms = read_time_ms(since, time.time()) if since else 0
    report = perform(settings, "attribute", document=document, device=device, since_ms=since_ms, text=text)
    if as_json:
        typer.echo(json.dumps(report))
        return 0
    print_table(ATTRIBUTION_COLUMNS, [attributed(row) for row in report["rows"]])
    for line in attribution_lines(report):
        typer.echo(line)
    return 0


@takes_settings(StoreSettings)
def excise(
    settings: StoreSettings,
    document: Annotated[str, typer.Argument(help="owner/name", metavar="DOCUMENT", show_default=False)],
    device: Annotated[str, typer.Option(help=DEVICES, show_default=False)],
    since: Annotated[str, typer.Option(help=f"Its edits since then. {TIMES}", show_default=False)],
    until: Annotated[str | None, typer.Option(help="Its edits before then; by default to the end.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what it would do, and write nothing.")] = False,
    as_json: AsJson = False,
) -> int:
    """Take a device's edits out: what it inserted goes, what it deleted comes back. It is an edit like any other."""
    now_s = time.time()
    since_ms, until_ms = read_time_ms(since, now_s), read_time_ms(until, now_s) if until else NEVER_MS
    asked = {"document": document, "device": device, "since_ms": since_ms, "until_ms": until_ms, "dry_run": dry_run}
    report = perform(settings, "excise", **asked)
    if as_json:
        typer.echo(json.dumps(report))
        return 0
    for line in excision_lines(report, dry_run=dry_run):
        typer.echo(line)
    return 0


# --- in lines for people


def attributed(row: dict[str, Any]) -> list[Any]:
    """A row under ATTRIBUTION_COLUMNS."""
    entries = str(row["first_seq"]) if row["first_seq"] == row["last_seq"] else f"{row['first_seq']}-{row['last_seq']}"
    times = (show_time(row["first_ms"]), show_time(row["last_ms"]))
    notes = ["given back after a loss"] if row["heal"] else []
    notes += [] if row["complete"] else ["not all could be read"]
    return [row["device"], *times, entries, row["ops"], row["inserted"], row["deleted"], ", ".join(notes)]


def attribution_lines(report: dict[str, Any]) -> Iterator[str]:
    """What follows the table."""
    yield from _unknown(report)
    for visible in report.get("visible", ()):
        yield f"\n{visible['device']} wrote, and it is still to be seen:"
        yield json.dumps(visible["values"], indent=2, ensure_ascii=False)


def excision_lines(report: dict[str, Any], *, dry_run: bool) -> Iterator[str]:
    """What an excision does to a document, and what it can not do."""
    for change in report["changes"]:
        yield from _change(change)
    device = report["device"]
    yield f"{device}: {report['ops']} ops, which inserted {report['inserted']} and deleted {report['deleted']}"
    yield f"Of what it inserted, {report['goes']} {'would go' if dry_run else 'went'}"
    yield f"Of what it deleted, {report['comes_back']} {'would come back' if dry_run else 'came back'}"
    yield from _remarks(report)
    yield from _unknown(report)
    if report["seq"] is not None:
        yield f"{report['document']}: log entry {report['seq']}"
    elif dry_run and (report["goes"] or report["comes_back"]):
        yield "Nothing is written: this was a dry run"
    else:
        yield f"There is nothing to take out of {report['document']}"


def _change(change: dict[str, str | None]) -> Iterator[str]:
    context = change["after"]
    yield f"{change['at']}, after {context!r}:" if context else f"{change['at']}:"
    if (removed := change["removed"]) is not None:
        yield typer.style(f"  - {_shown(removed)}", fg="red")
    if (added := change["added"]) is not None:
        yield typer.style(f"  + {_shown(added)}", fg="green")


def _shown(text: str) -> str:
    left_out = len(text) - SHOWN_CHARS
    return repr(text) if left_out <= 0 else f"{text[:SHOWN_CHARS]!r} and {left_out} more"


def _remarks(report: dict[str, Any]) -> Iterator[str]:
    if report["stays_deleted"]:
        yield f"{report['stays_deleted']} that it deleted stay deleted, for others deleted them too"
    if report["stays_away"]:
        yield f"{report['stays_away']} do not come back: their key was set since, or what they were in is gone"
    for part in report["goes_too"]:
        yield f"{part['units']} of {part['device'] or 'an operator'} go too: they are within what goes"
    for row in report["lost"]:
        yield f"LOST: {row['lost']} that it deleted {_when(row)}: compacted, so it is gone: {row['ranges']}"
    for row in report["unclear"]:
        yield f"LEFT AS IT IS: {row['inserted']} inserted and {row['deleted']} deleted {_when(row)}: {_reason(row)}"


def _when(row: dict[str, Any]) -> str:
    return f"{show_time(row['first_ms'])} to {show_time(row['last_ms'])} (entries {row['first_seq']}-{row['last_seq']})"


def _reason(row: dict[str, Any]) -> str:
    if row["heal"]:
        return "given back after a loss, whoever wrote it"
    if not row["complete"]:
        return "not all of it could be read"
    return "compacted, and partly outside of the times asked for; take the whole of it, or nothing"


def _unknown(report: dict[str, Any]) -> Iterator[str]:
    if report["unknown_seqs"]:
        yield f"Of entries 1 to {report['unknown_seqs']} it is not known who wrote them: they were compacted too early"
