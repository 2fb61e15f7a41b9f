"""`syncline import`: move in with the documents of another Yjs server."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Final, TypeAlias

import typer
from rich.console import Console
from rich.progress import Progress

from crdt.errors import PeerError, ReplicaBroken
from crdt.ids import DocumentId
from crdt.replica import Replica
from crdt.update import STRUCTS_MAX, Layout, StateVector, parts, reach, read_update
from server.cli.options import AsJson, takes_settings
from server.cli.sources import Kind, Source, opened
from server.cli.store import operations_on
from server.cli.table import print_table
from server.config import BadSetting, StoreSettings
from server.runtime.operations import OperationRefused

SOME_REFUSED: Final = 1
"""The exit code where not all documents came over."""

PART_STRUCTS: Final = STRUCTS_MAX // 2
PART_BYTES: Final = 512 << 10
"""Documents go in by updates of about this size, as a server takes from devices by default."""

Put: TypeAlias = Callable[[str, bytes], Awaitable[int]]
"""Imports an update into a document: the seq of its entry, or 0 if it changed nothing. Raises OperationRefused."""


@dataclass(slots=True)
class Moved:
    """What became of a document of the other store: why it was refused, or what of it is missing, if that is so."""

    name: str
    document: str | None
    updates: int = 0
    bytes: int = 0
    entry: int = 0
    refused: str | None = None
    missing: str | None = None


@takes_settings(StoreSettings)
def import_store(
    settings: StoreSettings,
    file: Annotated[Path, typer.Argument(help="The store: a file, of LevelDB a folder.", show_default=False)],
    kind: Annotated[Kind, typer.Option("--from", help="Who wrote it.", show_default=False)],
    owner: Annotated[str, typer.Option(help="Whose documents they become that name no owner.", metavar="USER")] = "",
    prefix: Annotated[str, typer.Option(help="What to put in front of documents' names.", metavar="TEXT")] = "",
    renamed: Annotated[
        list[str] | None, typer.Option("--map", help="old=[owner/]name: another name for one.", show_default=False)
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Read and check all of it, and write nothing.")] = False,
    as_json: AsJson = False,
) -> int:
    """Take over the documents of another Yjs server. To do it again brings what is new. Exit code 1: some refused."""
    with opened(kind, file) as source:
        moved = _targets(source, owner, prefix, _read_renames(renamed or ()))
        asyncio.run(_dry_run(source, moved) if dry_run else _move(source, moved, settings))
    if as_json:
        typer.echo(json.dumps(list(map(asdict, moved))))
    else:
        _print(moved, dry_run=dry_run)
    return SOME_REFUSED if any(one.refused or one.missing for one in moved) else 0


# --- names


def _read_renames(texts: Iterable[str]) -> dict[str, str]:
    """Raises BadSetting."""
    renames = {}
    for text in texts:
        old, equals, new = text.rpartition("=")
        if not (equals and old and new):
            raise BadSetting(f"--map {text}: write old=name or old=owner/name")
        renames[old] = new
    return renames


def _targets(source: Source, owner: str, prefix: str, renames: Mapping[str, str]) -> list[Moved]:
    """Which document each becomes. Raises OperationRefused, BadSetting."""
    names = source.names()
    if unknown := [name for name in renames if name not in names]:
        raise BadSetting(f"--map: there is no {unknown[0]!r} in the store")
    moved = [_target(name, renames.get(name) or _prefixed(source.room(name), prefix), owner) for name in names]
    taken = Counter(one.document for one in moved)
    for one in moved:
        if one.document is not None and taken[one.document] > 1:
            one.refused = "another becomes the same document: give one of them a name with --map"
    return moved


def _prefixed(room: str, prefix: str) -> str:
    owner, slash, name = room.rpartition("/")
    return f"{owner}{slash}{prefix}{name}"


def _target(name: str, room: str, owner: str) -> Moved:
    try:
        return Moved(name, str(DocumentId.parse(room, owner or None)))
    except ValueError as exc:
        return Moved(name, None, refused=str(exc))


# --- documents


async def _move(source: Source, moved: list[Moved], settings: StoreSettings) -> None:
    async with operations_on(settings) as perform:

        async def put(document: str, update: bytes) -> int:
            seq: int = await perform("import", document=document, update=update)
            return seq

        await _each(source, moved, put)


async def _dry_run(source: Source, moved: list[Moved]) -> None:
    async def nothing(document: str, update: bytes) -> int:
        return 0

    await _each(source, moved, nothing)


async def _each(source: Source, moved: list[Moved], put: Put) -> None:
    """With a progress bar where a person sees it."""
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        for one in progress.track(moved, description="import"):
            if one.refused is None:
                await _take(source, one, put)


async def _take(source: Source, one: Moved, put: Put) -> None:
    """Check the whole document, and then put it in."""
    assert one.document is not None
    updates = source.updates(one.name)
    one.updates, one.bytes = len(updates), sum(map(len, updates))
    try:
        pieces, one.missing = checked(updates)
        for piece in pieces:
            one.entry = await put(one.document, piece) or one.entry
    except ReplicaBroken as exc:
        one.refused = f"what is stored is no Yjs v1 update: {exc}"
    except PeerError as exc:
        one.refused = exc.message
    except OperationRefused as exc:
        one.refused = str(exc)


def checked(updates: Sequence[bytes]) -> tuple[list[bytes], str | None]:
    """The document that these make, in updates that a server takes; and what is missing of it, if anything is.

    Where updates build on one that is not there, Yjs holds them back, and so does this.
    Raises PeerError, ReplicaBroken.
    """
    pieces = list(parts(Replica.load(updates).state(), PART_STRUCTS, PART_BYTES))
    layout = Layout()
    known: StateVector = {}
    for piece in pieces:
        update = read_update(piece, bounded=True)
        layout.admit(update, known)
        update.advance(known)
    held_back = {client for update in updates for client, end in reach(update).items() if end > known.get(client, 0)}
    return pieces, f"edits of {len(held_back)} clients lack what they build on" if held_back else None


# --- for people


def _print(moved: list[Moved], *, dry_run: bool) -> None:
    rows = [[one.name, one.document, one.updates, one.bytes, _said(one, dry_run=dry_run)] for one in moved]
    print_table(("name", "document", "updates", "bytes", "result"), rows)
    if dry_run:
        typer.echo("Nothing is written: this was a dry run")


def _said(one: Moved, *, dry_run: bool) -> str:
    if one.refused is not None:
        return f"REFUSED: {one.refused}"
    done = "in order" if dry_run else f"log entry {one.entry}" if one.entry else "nothing new"
    return f"{done}, but {one.missing}" if one.missing else done
