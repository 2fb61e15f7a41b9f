"""Power cuts under load: the disk keeps what was synced, and of the rest what it likes."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import pytest

from client_sim.core.status import State
from client_sim.live import AsyncDevice, AsyncDocument, Roots
from crdt.replica import Replica
from crdt.values import Values
from server.core.records import StoredDocument
from tests.crash.power.disk import Disk, Fate, beside, build_library
from tests.crash.power.server import PoweredServer, powered_server
from tests.integration.server_peers import Hasty, check_gapless, converged, new_device, stored
from tests.support import wait_until

SOAK = bool(os.environ.get("SYNCLINE_SOAK"))
SEEDS = range(20261122, 20261127) if SOAK else [20261122]
CUTS = 10 if SOAK else 3
"""For each seed. Documents that have grown large slow everything down."""
DEVICES = ("phone", "laptop", "tablet")
DOCUMENTS = ("main", "notes")
PENDING_MAX = 6
ACKNOWLEDGED_MAX = 200 if SOAK else 60
"""By then, at the latest, the next cut comes."""
STEPS_MAX = 10 * ACKNOWLEDGED_MAX
STARTING_STEPS = 4
"""What a server does to the disk of a store that is there, before it serves."""
MAKING_STEPS = 70
"""What it does, about, to make one."""
CHECKPOINT_PAGES = 40
"""The write-ahead log is copied into the database, and begun again, in nearly every life."""
ARGUMENTS = ("--compaction-entries-min", "5", "--compaction-entries-max", "15", "--compaction-rest-s", "0.001")
WITHIN_S = 30.0
OFFLINE = (State.OFFLINE, State.CONNECTING)
LOST = "acknowledged, and lost"


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_library(tmp_path_factory.mktemp("library"))


@pytest.mark.parametrize("seed", SEEDS)
async def test_power_cuts_lose_nothing_acknowledged(tmp_path: Path, library: Path, seed: int) -> None:
    figures = await endure_power_cuts(tmp_path, library, seed, {"wal_autocheckpoint": CHECKPOINT_PAGES})
    print(f"{figures}, {len(figures.snapshots)} snapshots")  # noqa: T201 - what was tried
    assert figures.snapshots, "nothing was compacted"


@pytest.mark.parametrize("seed", SEEDS)
async def test_the_same_without_a_sync_at_each_commit_is_found_out(tmp_path: Path, library: Path, seed: int) -> None:
    pragmas = {"wal_autocheckpoint": CHECKPOINT_PAGES, "synchronous": "NORMAL"}
    with pytest.raises(AssertionError, match=LOST):
        await endure_power_cuts(tmp_path, library, seed, pragmas)


async def test_a_store_that_was_being_made_is_made_in_the_end(tmp_path: Path, library: Path) -> None:
    rng = Random(20261122)
    async with powered_server(tmp_path, library) as server:
        for steps in range(1, MAKING_STEPS, 1 if SOAK else 40):
            for fate in Fate if SOAK else (Fate.PICKED,):
                for file in beside(server.database):
                    file.unlink()
                await server.start(steps=steps)
                await server.cut_power(fate, rng)
                await server.start()
                await server.cut_power(Fate.LOST, rng)
                assert (await stored(server.database, "alice/main")).head_seq == 0


TWO_FILES = """
import os, sys
database, folder = sys.argv[1], os.open(os.path.dirname(sys.argv[1]), os.O_RDONLY)
for name, is_named in ((database, True), (database + "-wal", False)):
    file = os.open(name, os.O_RDWR | os.O_CREAT)
    os.pwrite(file, b"synced", 0)
    os.fsync(file)
    if is_named:
        os.fsync(folder)
    os.pwrite(file, b"SYN", 0)
    os.ftruncate(file, 4)
"""


def test_a_disk_keeps_what_was_synced_and_of_the_rest_what_its_fate_is(tmp_path: Path, library: Path) -> None:
    database, wal = tmp_path / "small.db", tmp_path / "small.db-wal"
    disk = Disk(database, tmp_path / "journal")
    environment = os.environ | disk.environment | {"LD_PRELOAD": str(library)}
    subprocess.run([sys.executable, "-c", TWO_FILES, str(database)], env=environment, check=True)
    disk.replay()
    assert disk.records == 9
    disk.cut(Fate.LOST, Random(1))
    assert database.read_bytes() == b"synced"
    assert not wal.exists(), "a file whose folder was not synced has no name"
    disk.cut(Fate.KEPT, Random(1))
    assert database.read_bytes() == wal.read_bytes() == b"SYNc"
    in_order = {b"synced", b"Synced", b"SYnced", b"SYNced", b"SYNc"}
    for fate, possible in ((Fate.CUT_SHORT, in_order), (Fate.PICKED, in_order | {b"sync", b"Sync", b"SYnc"})):
        left = set()
        for seed in range(500):
            disk.cut(fate, Random(seed))
            left.add(database.read_bytes())
        assert left == possible


@dataclass
class Figures:
    """What was tried."""

    cuts: int = 0
    cut_while_starting: int = 0
    acknowledged: int = 0
    snapshots: set[tuple[int, int]] = field(default_factory=set, repr=False)
    """Document and seq of those that were on the disk after a cut."""
    disk_steps: int = 0
    unsynced_bytes: int = 0
    """That were on no disk yet at the cuts."""
    fates: dict[str, int] = field(default_factory=lambda: {fate.value: 0 for fate in Fate})

    def note(self, fate: Fate, disk: Disk) -> None:
        self.cuts += 1
        self.fates[fate.value] += 1
        self.disk_steps += disk.records
        self.unsynced_bytes += disk.unsynced_bytes

    def note_snapshots(self, documents: list[StoredDocument]) -> None:
        self.snapshots |= {(n, found.snapshot.seq) for n, found in enumerate(documents) if found.snapshot}


async def endure_power_cuts(folder: Path, library: Path, seed: int, pragmas: Mapping[str, object]) -> Figures:
    """A server that is cut off at any moment, and three devices that type all the while."""
    rng, figures = Random(seed), Figures()
    async with powered_server(folder, library, arguments=ARGUMENTS, pragmas=pragmas) as server:
        await server.start()
        async with typists(server.url, rng) as people:
            while figures.cuts < CUTS:
                await _work(server, people, rng.randint(0, ACKNOWLEDGED_MAX))
                await _cut(server, people, rng, figures)
                steps = rng.choice((0, 0, rng.randint(1, STARTING_STEPS), rng.randint(1, STEPS_MAX)))
                await server.start(steps=steps if figures.cuts < CUTS else 0)
                figures.cut_while_starting += server.has_ended
                for person in people:
                    person.device.reconnect()
            await _settle(server, people)
            figures.acknowledged = sum(person.acknowledged for person in people)
    return figures


class Person:
    """Types numbered edits on a device, as many ahead of the server as it likes."""

    def __init__(self, device: AsyncDevice, documents: list[AsyncDocument], rng: Random) -> None:
        self.device = device
        self.documents = documents
        self.made = dict.fromkeys(DOCUMENTS, 0)
        self._rng = rng
        self._typing = asyncio.create_task(self._type())

    @property
    def acknowledged(self) -> int:
        return sum(self.acknowledged_of(document) for document in self.documents)

    def acknowledged_of(self, document: AsyncDocument) -> int:
        return self.made[document.name] - document.pending.count

    async def stop(self) -> None:
        self._typing.cancel()
        with suppress(asyncio.CancelledError):
            await self._typing

    async def _type(self) -> None:
        while True:
            document = self._rng.choice(self.documents)
            self.made[document.name] += 1
            number = self.made[document.name]
            document.edit(lambda roots: self._change(roots, number))  # noqa: B023 - it runs now
            pending_max = self._rng.randint(1, PENDING_MAX)
            await self.device.wait(lambda: sum(d.pending.count for d in self.documents) < pending_max)  # noqa: B023

    def _change(self, roots: Roots, number: int) -> None:
        roots.map("last")[self.device.name] = number
        roots.array("items").append(f"{self.device.name}-{number}")
        body = roots.text("body")
        body.insert(self._rng.randint(0, len(body)), "typed ")


@asynccontextmanager
async def typists(url: str, rng: Random) -> AsyncIterator[list[Person]]:
    async with AsyncExitStack() as stack:
        people = []
        for name in DEVICES:
            device = await stack.enter_async_context(new_device(url, name, rng=Hasty(rng.random())))
            person = Person(device, [await device.open(name) for name in DOCUMENTS], Random(rng.random()))
            stack.push_async_callback(person.stop)
            people.append(person)
        yield people


async def _work(server: PoweredServer, people: list[Person], edits: int) -> None:
    """Let so many edits be acknowledged, if the server lives to do so."""

    def count() -> int:
        return sum(person.acknowledged for person in people)

    target = count() + edits
    await wait_until(lambda: server.has_ended or count() >= target, WITHIN_S)


async def _cut(server: PoweredServer, people: list[Person], rng: Random, figures: Figures) -> None:
    fate = rng.choice(list(Fate))
    disk = await server.cut_power(fate, rng)
    figures.note(fate, disk)
    for person in people:
        await person.device.wait(lambda p=person: p.device.status.state in OFFLINE, WITHIN_S)  # type: ignore[misc]
    documents = await _check_disk(server, people)
    figures.note_snapshots(documents)


async def _check_disk(server: PoweredServer, people: list[Person]) -> list[StoredDocument]:
    """Everything that anybody was told of is on it. A copy is looked at, so that the server finds it as it was left."""
    with TemporaryDirectory(dir=server.database.parent) as folder:
        for file in beside(server.database):
            shutil.copy(file, folder)
        database = Path(folder) / server.database.name
        with closing(sqlite3.connect(database)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        documents = [await stored(database, f"alice/{name}") for name in DOCUMENTS]
    for index, document in enumerate(documents):
        check_gapless(document)
        kept = _last_edits(document)
        told = {person.device.name: person.acknowledged_of(person.documents[index]) for person in people}
        for person in people:
            shown = person.documents[index].values().get("last", {})
            told |= {name: max(told[name], shown.get(name, 0)) for name in DEVICES if name != person.device.name}
        lost = {name: (kept.get(name, 0), number) for name, number in told.items() if kept.get(name, 0) < number}
        assert not lost, f"{LOST}: {lost}"
    return documents


def _last_edits(document: StoredDocument) -> Values:
    """The number of each device's last edit. Ops tell less: edits that waited were merged."""
    last: Values = Replica.load(document.state_updates()).values().get("last", {})
    return last


async def _settle(server: PoweredServer, people: list[Person]) -> None:
    """All that was typed arrives, once; a device that has nothing gets what the others have."""
    for person in people:
        await person.stop()
    async with new_device(server.url, "new") as fresh:
        for index, name in enumerate(DOCUMENTS):
            copies = [person.documents[index] for person in people]
            await wait_until(lambda: not any(copy.pending for copy in copies), WITHIN_S)  # noqa: B023
            await converged(*copies, await fresh.open(name))
            values = copies[0].values()
            expected = [f"{p.device.name}-{n}" for p in people for n in range(1, p.made[name] + 1)]
            assert sorted(values.get("items", [])) == sorted(expected), "each edit once"
    assert all(person.device.counters.heals == 0 for person in people), "no device knew more than the server"
