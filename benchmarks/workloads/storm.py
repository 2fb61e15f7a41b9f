"""Reconnect storm: a server restarts, and its devices come back within a second, each a few edits behind.

Every device has a document of its own user's, which another device edited meanwhile, and brings edits of its own that
it made offline. It goes by what the server says: who is sent away comes back when it was told to. At the end every
document is read again by a device that has nothing, and has all that anybody wrote.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from time import perf_counter as clock
from time import process_time

from benchmarks.figures import Better, Figure, Run, Scale, Workload, WorkloadFailed
from benchmarks.histories import generated, insertion, text_of
from benchmarks.metrics import Peaks, watched
from benchmarks.pacing import each, run
from benchmarks.percentiles import percentile
from benchmarks.server_process import ServerProcess, server_process
from benchmarks.visitor import NOTHING, Place, TurnedAway, Visit, visit
from crdt.protocol.frames import Cursor
from crdt.replica import Replica

DEVICES = 2_000
WITHIN_S = 1.0
BASE_EDITS = 300
"""In each document before its device went offline: some 4 KiB of log."""
EDITS_BEHIND = 5
OFFLINE_EDITS = 2
DOCUMENT, PHONE, LAPTOP = "main", "phone", "laptop"
AT_ONCE = 32
"""Devices that seed, and that look at the end."""
BACKOFF_S = (0.5, 1.5)
"""Where a connection was lost without a word, the next try comes after a time between these."""
GIVES_UP_S = 120.0
LOOK_S = 0.25
TARGET = "target: all current within 5 s"


def workloads(scale: Scale) -> dict[str, Workload]:
    return {"restart": lambda: [_storm(scale.of(DEVICES, 30))]}


@dataclass(frozen=True, slots=True)
class Script:
    """What happens in each document: a common base, then the laptop's edits, and the phone's on top of the base."""

    base: tuple[bytes, ...]
    behind: tuple[bytes, ...]
    offline: tuple[bytes, ...]
    base_vector: bytes
    text: str


@cache
def _script() -> Script:
    base = generated(BASE_EDITS, 0.1).updates
    behind = _typed(base, "laptop ", EDITS_BEHIND, client_id=1)
    offline = _typed(base, "phone ", OFFLINE_EDITS, client_id=2)
    vector = Replica.load(base).state_vector_bytes()
    return Script(base, behind, offline, vector, text_of([*base, *behind, *offline]))


def _typed(base: Sequence[bytes], word: str, edits: int, client_id: int) -> tuple[bytes, ...]:
    replica = Replica.load(base, client_id)
    made = [replica.edit(insertion(0, f"{word}{number} ")) for number in range(edits)]
    return tuple(update for update in made if update is not None)


# --- before the storm


@dataclass(frozen=True, slots=True)
class Seeded:
    """A folder with the database, and where each phone left."""

    folder: Path
    places: dict[str, Place]


_kept = ExitStack()


@cache
def _seeded(devices: int) -> Seeded:
    """Made once in a process; runs work on copies."""
    folder = Path(_kept.enter_context(tempfile.TemporaryDirectory(prefix="syncline-storm-")))
    users = [f"user-{number}" for number in range(devices)]
    with server_process(database=folder / "storm.db") as server:
        return Seeded(folder, run(_seed(server, users)))


async def _seed(server: ServerProcess, users: Sequence[str]) -> dict[str, Place]:
    places: dict[str, Place] = {}

    async def write(user: str) -> None:
        script, task = _script(), Visit(DOCUMENT, NOTHING)
        laptop = await visit(server, server.token(user, LAPTOP), LAPTOP, [task])
        opened = await task.caught_up
        laptop.push(task, 1, script.base)
        await task.acknowledged(len(script.base))
        places[user] = Place(Cursor(opened.cursor.epoch, task.acked_seq), script.base_vector)
        laptop.push(task, len(script.base) + 1, script.behind)
        await task.acknowledged(len(script.base) + len(script.behind))
        laptop.close()
        await laptop.left

    await each(users, write, AT_ONCE)
    return places


# --- the storm


@dataclass(slots=True)
class Ledger:
    """What the devices went through. A device is current when it has all, and its own edits are acknowledged."""

    current_s: list[float] = field(default_factory=list)
    """From a device's first try."""
    sent_away: int = 0
    lost: int = 0
    frame_bytes: int = 0


def _storm(devices: int) -> Run:
    seeded = _seeded(devices)
    with tempfile.TemporaryDirectory(prefix="syncline-storm-") as copy:
        shutil.copytree(seeded.folder, copy, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.sock", "*.lock"))
        with server_process(database=Path(copy) / "storm.db") as server:
            return run(_all_return(server, seeded.places))


async def _all_return(server: ServerProcess, places: dict[str, Place]) -> Run:
    tokens = {user: server.token(user, PHONE) for user in places}
    ledger, peaks, rng = Ledger(), Peaks(), random.Random(0)
    before_bytes, cpu_s, own_s, start = server.resident_bytes(), server.cpu_s(), process_time(), clock()
    async with watched(server, peaks, LOOK_S):
        async with asyncio.TaskGroup() as tasks:
            for user, place in places.items():
                comes_at = start + rng.random() * WITHIN_S
                tasks.create_task(
                    come_back_until_current(server, tokens[user], place, comes_at, ledger, random.Random(user))
                )
        seconds, cpu_s, own_s = clock() - start, server.cpu_s() - cpu_s, process_time() - own_s
    peak_bytes = server.peak_bytes()
    await each(places, lambda user: _check(server, user), AT_ONCE)
    figures = (
        Figure("until all are current", seconds, "s"),
        Figure("a device, p50", percentile(ledger.current_s, 0.50), "s"),
        Figure("a device, p99", percentile(ledger.current_s, 0.99), "s"),
        Figure("peak memory", peak_bytes / (1 << 20), "MiB"),
        Figure("memory before", before_bytes / (1 << 20), "MiB"),
        Figure("sent away", ledger.sent_away, "times"),
        Figure("lost without a word", ledger.lost, "times"),
        Figure("server CPU", cpu_s / len(places) * 1e3, "ms/device"),
        Figure("frames", ledger.frame_bytes / len(places), "bytes/device"),
        Figure("HELLOs waiting, most seen", peaks["syncline_hellos_waiting"], "", Better.NEITHER),
        Figure("documents waiting to be loaded, most seen", peaks["syncline_loads_waiting"], "", Better.NEITHER),
        Figure("waiting for a commit, most seen", peaks["syncline_queued_bytes"] / 1024, "KiB", Better.NEITHER),
    )
    return Run(f"{len(places):,} devices within {WITHIN_S:g} s", figures, own_s / seconds, TARGET)


async def come_back_until_current(
    server: ServerProcess, token: str, place: Place, comes_at: float, ledger: Ledger, rng: random.Random
) -> None:
    """One phone, until it is current."""
    await asyncio.sleep(comes_at - clock())
    start = clock()
    while clock() - start < GIVES_UP_S:
        try:
            await come_back(server, token, place, ledger)
        except TurnedAway as away:
            if away.retry_after_s is None:
                raise WorkloadFailed(f"a device is not to come back: {away}") from away
            ledger.sent_away += 1
            await asyncio.sleep(away.retry_after_s)
        except OSError:
            ledger.lost += 1
            await asyncio.sleep(rng.uniform(*BACKOFF_S))
        else:
            ledger.current_s.append(clock() - start)
            return
    raise WorkloadFailed(f"a device was not let in for {GIVES_UP_S:g} s")


async def come_back(server: ServerProcess, token: str, place: Place, ledger: Ledger) -> None:
    script, task = _script(), Visit(DOCUMENT, place)
    phone = await visit(server, token, PHONE, [task])
    answer = await task.caught_up
    if answer.updates != script.behind[: len(answer.updates)] or len(answer.updates) != EDITS_BEHIND:
        raise WorkloadFailed(f"a device was sent {len(answer.updates)} updates instead of {EDITS_BEHIND}")
    phone.push(task, answer.acked_op + 1, script.offline[answer.acked_op :])
    await task.acknowledged(len(script.offline))
    ledger.frame_bytes += phone.frame_bytes
    phone.close()
    await phone.left


async def _check(server: ServerProcess, user: str) -> None:
    task = Visit(DOCUMENT, NOTHING)
    witness = await visit(server, server.token(user, "witness"), "witness", [task])
    if text_of((await task.caught_up).updates) != _script().text:
        raise WorkloadFailed(f"{user}'s document is not what was written")
    witness.close()
    await witness.left
