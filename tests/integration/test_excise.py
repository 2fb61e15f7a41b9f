"""A stolen device: `doc attribute` and `doc excise`, on the file and on a running server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from crdt.ids import DeviceId, DocumentId
from crdt.replica import Replica
from server.core.auth import Authority
from server.core.options import CoreOptions
from server.core.records import LogEntry
from server.runtime.control import ControlServer, control_path
from server.runtime.driver import Driver
from server.runtime.operations import Operations
from server.runtime.telemetry import Telemetry
from server.storage import open_storage
from tests.contract.storage_support import TIME_MS, entry, put
from tests.integration.test_cli import Cli, cli, folder
from tests.unit.crdt.documents import Change, mapping, text

__all__ = ["cli", "folder"]

ALICE = DocumentId("alice", "main")
PHONE, LAPTOP = DeviceId("alice", "phone"), DeviceId("alice", "laptop")
HOUR_MS = 3_600_000
STOLEN_AT = "2023-11-15T00:00"
EXCISE = ("doc", "excise", "alice/main", "--device", "phone", "--since", STOLEN_AT)

EDITS: tuple[tuple[DeviceId, Change], ...] = (
    (LAPTOP, lambda doc: text(doc).insert(0, "Dear Bob, hello")),
    (LAPTOP, lambda doc: mapping(doc).__setitem__("colour", "red")),
    (PHONE, lambda doc: text(doc).insert(15, "!")),
    (PHONE, lambda doc: text(doc).__delitem__(slice(5, 8))),
    (PHONE, lambda doc: text(doc).insert(5, "Eve")),
    (PHONE, lambda doc: mapping(doc).__setitem__("colour", "black")),
)
STOLEN = 3
"""The first edit of the thief."""


def log() -> list[LogEntry]:
    """The edits, each seen by all; the thief's begin at STOLEN_AT."""
    replicas = {LAPTOP: Replica(1), PHONE: Replica(2)}
    made = []
    for index, (device, change) in enumerate(EDITS):
        update = replicas[device].edit(change)
        assert update is not None
        for other, replica in replicas.items():
            replica.apply([update] if other != device else [])
        time_ms = TIME_MS + (10 * HOUR_MS if index >= STOLEN else 0)
        made.append(entry(index + 1, update, device)._replace(time_ms=time_ms))
    return made


@pytest.fixture
def store(folder: Path) -> Path:
    async def make() -> None:
        async with open_storage(f"sqlite+aiosqlite:///{folder}/syncline.db") as storage:
            await put(storage, ALICE, *log())

    asyncio.run(make())
    return folder / "syncline.db"


@asynccontextmanager
async def serving(database: Path) -> AsyncIterator[Driver]:
    """The part of a server that commands talk to."""
    async with (
        open_storage(f"sqlite+aiosqlite:///{database}") as storage,
        Driver.running(storage, Authority((), "", ""), CoreOptions(), Telemetry()) as driver,
    ):
        operations = Operations(storage, driver.import_update, database, driver.worker.run)
        async with ControlServer(control_path(database), operations):
            yield driver
        await driver.drain()


def values(cli: Cli) -> Any:
    return cli("doc", "show", "alice/main").json


def test_the_table_says_who_wrote_what_and_when(store: Path, cli: Cli) -> None:
    out = cli("doc", "attribute", "alice/main", "--text").out
    assert "alice/laptop" in out
    assert "2023-11-15 08:13:20" in out
    assert '"text": "Eve!"' in out
    since = cli("doc", "attribute", "alice/main", "--since", STOLEN_AT, "--json").json["rows"]
    assert [(row["device"], row["ops"], row["inserted"], row["deleted"]) for row in since] == [("alice/phone", 3, 4, 4)]
    assert cli("doc", "attribute", "alice/main", "--device", "laptop", "--json").json["rows"][0]["inserted"] == 16


def test_a_dry_run_shows_what_would_be_done_and_does_nothing(store: Path, cli: Cli) -> None:
    before = values(cli)
    out = cli(*EXCISE, "--dry-run").out
    assert "text, after 'Dear ':\n  - 'Eve'\n  + 'Bob'\n" in out
    assert "map.colour:\n  - 'black'\n  + 'red'\n" in out
    assert "Nothing is written" in out
    assert (values(cli), cli("doc", "list", "--json").json[0]["head_seq"]) == (before, 6)


def test_a_devices_edits_go_once_and_only_those_since_then(store: Path, cli: Cli) -> None:
    assert "alice/main: log entry 7" in cli(*EXCISE).out
    assert values(cli) == {"map": {"colour": "red"}, "text": "Dear Bob, hello!"}
    assert "nothing to take out" in cli(*EXCISE).out
    assert cli("doc", "list", "--json").json[0]["head_seq"] == 7
    assert cli("doc", "verify").code == 0


def test_what_was_compacted_away_is_told_of(store: Path, cli: Cli) -> None:
    cli("doc", "compact")
    Path("more.bin").write_bytes(more := Replica(9).edit(lambda doc: text(doc, "more").insert(0, "x")) or b"")
    assert more
    cli("doc", "import", "alice/main", "more.bin")
    cli("doc", "compact")
    report = cli(*EXCISE, "--json").json
    assert [(row["lost"], row["ranges"]) for row in report["lost"]] == [(4, [[1, 5, 8], [1, 15, 16]])]
    assert values(cli) == {"more": "x", "text": "Dear , hello!"}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("doc excise alice/main --device phone --since soon", "'soon' is no time"),
        ("doc excise alice/main --device alice/x/y --since 1h", "is not a device"),
        ("doc excise bob/main --device phone --since 1h", "there is no document bob/main"),
        ("doc attribute bob/main", "there is no document bob/main"),
    ],
)
def test_what_can_not_be_done_is_said_in_a_line(store: Path, cli: Cli, arguments: str, says: str) -> None:
    assert says in cli(*arguments.split()).complaint


async def test_a_running_server_takes_it_out_in_its_worker(store: Path, cli: Cli) -> None:
    async with serving(store):
        outcome = await asyncio.to_thread(cli, *EXCISE, "--json")
        assert outcome.json["seq"] == 7
        shown = await asyncio.to_thread(cli, "doc", "show", "alice/main")
    assert shown.json == {"map": {"colour": "red"}, "text": "Dear Bob, hello!"}
    assert await asyncio.to_thread(values, cli) == shown.json
