"""Catch-up: a device has a part of a document's history and becomes current, on a warm and on a cold document.

One author wrote the history as devices do: the first 99 % in bulk, the rest as it was typed, an op and a log entry for
each edit. The server compacts as it does in production. Then another device of the same user comes back, with the
cursor and the state vector of where it left, and what it was sent is applied and compared.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from time import perf_counter as clock
from time import process_time

from benchmarks.figures import Better, Figure, Run, Scale, Workload, WorkloadFailed
from benchmarks.histories import ROOT, History, generated, recorded, slices, text_of
from benchmarks.pacing import QUIET_LOOKS, run, settled
from benchmarks.server_process import ServerProcess, server_process
from benchmarks.visitor import NOTHING, CaughtUp, Place, Visit, Visitor, visit
from crdt.protocol.frames import Cursor
from crdt.replica import Replica

SHARES = (0.0, 0.5, 0.9, 0.99, 0.999, 1.0)
TYPED_FROM = 0.99
BULK_OPS = 200
"""Ops in a PUSH of the bulk, which is one log entry."""
IN_FLIGHT = 8
SEEDING = {"SYNCLINE_UPDATES_PER_S": "10000000", "SYNCLINE_BYTES_PER_S": "1GiB"}
"""The author is not made to wait. What is measured runs with the defaults."""
USER, AUTHOR = "alice", "laptop"
OTHER = "other"
"""A document that the server opens before anything is measured."""
DEVICES = 20
"""Take turns, so that none uses more than its share."""

TARGETS = {
    0.0: "target: at most 0.5 of the v1 state, 15 ms of CPU warm (260,000 edits)",
    0.999: "target: at most 1.2 of the missing updates (260,000 edits)",
    1.0: "target: at most 250 bytes, 0.3 ms of CPU",
}


def workloads(scale: Scale) -> dict[str, Workload]:
    return {
        "recorded": lambda: _measured(scale, _recorded),
        "few-deletes": lambda: _measured(scale, _few_deletes),
        "many-deletes": lambda: _measured(scale, _many_deletes),
    }


def _recorded(scale: Scale) -> History:
    """The recorded history; where it is not at hand, or for a smoke run, a generated one with as many deletes."""
    found = None if scale.quick else recorded()
    return found or generated(scale.of(40_000, 800), 0.3)


def _few_deletes(scale: Scale) -> History:
    return generated(scale.of(20_000, 800), 0.01)


def _many_deletes(scale: Scale) -> History:
    return generated(scale.of(40_000, 800), 0.4)


@dataclass(frozen=True)
class Stored:
    """A history in a database, and where a device is that has the first so many of its edits."""

    history: History
    database: Path
    document: str
    places: dict[int, Place]
    states: dict[int, bytes]
    """The v1 state at each place."""

    @property
    def state(self) -> bytes:
        return self.states[len(self.history)]


_kept = ExitStack()
"""Databases are made once and kept as long as the process runs: catching up does not change a document."""


@cache
def _stored(histories: tuple[History, ...]) -> tuple[Stored, ...]:
    folder = _kept.enter_context(tempfile.TemporaryDirectory(prefix="syncline-catchup-"))
    database = Path(folder) / "histories.db"
    with server_process(database=database, settings=SEEDING) as server:
        return run(_write_all(server, histories))


async def _write_all(server: ServerProcess, histories: tuple[History, ...]) -> tuple[Stored, ...]:
    await _write(server, generated(100, 0.3), OTHER)
    made = [await _write(server, history, f"document-{number}") for number, history in enumerate(histories)]
    await settled(server)  # a compaction that is under way ends first
    return tuple(made)


async def _write(server: ServerProcess, history: History, document: str) -> Stored:
    task = Visit(document, NOTHING)
    author = await visit(server, server.token(USER, AUTHOR), AUTHOR, [task])
    epoch = (await task.caught_up).cursor.epoch
    replica = Replica()
    places, states = {0: NOTHING}, {0: replica.state()}
    start = 0
    for end in sorted({int(share * len(history)) for share in (*SHARES, TYPED_FROM)} - {0}):
        await _push(author, task, history, start, end)
        replica.apply(history.updates[start:end])
        places[end] = Place(Cursor(epoch, task.acked_seq), replica.state_vector_bytes())
        states[end] = replica.state()
        start = end
    author.close()
    await author.left
    return Stored(history, server.database, document, places, states)


async def _push(author: Visitor, task: Visit, history: History, start: int, end: int) -> None:
    ops = BULK_OPS if end <= TYPED_FROM * len(history) else 1
    in_flight = IN_FLIGHT if ops > 1 else 1
    for at, until in slices(start, end, ops):
        await task.acknowledged(at - (in_flight - 1) * ops)
        author.push(task, at + 1, history.updates[at:until])
    await task.acknowledged(end)


# --- coming back


@dataclass(frozen=True, slots=True)
class Return:
    """What one catch-up, or the mean of several, took."""

    answer: CaughtUp
    up_bytes: int
    down_bytes: int
    wire_bytes: int
    cpu_s: float
    seconds: float


def _measured(scale: Scale, choose: Callable[[Scale], History]) -> list[Run]:
    """Each share after a start of its own, so that the document is cold; a smoke run has one start for all."""
    every = (_recorded(scale), _few_deletes(scale), _many_deletes(scale)) if scale.quick else (choose(scale),)
    subject = next(made for made in _stored(every) if made.history is choose(scale))
    starts = [SHARES[-2:]] if scale.quick else [(share,) for share in SHARES]
    return [run for shares in starts for run in _after_a_start(subject, shares, scale)]


def _after_a_start(subject: Stored, shares: Sequence[float], scale: Scale) -> list[Run]:
    with server_process(database=subject.database) as server:

        async def come_back() -> list[Run]:
            await _returns(server, OTHER, NOTHING, 1)  # what a process does once is not the document's
            await settled(server, looks=scale.of(QUIET_LOOKS, 1))
            return [run for share in shares for run in await _cold_and_warm(server, subject, share, scale)]

        return run(come_back())


async def _cold_and_warm(server: ServerProcess, subject: Stored, share: float, scale: Scale) -> list[Run]:
    """The first return since the start of the server, and the mean of the next ones."""
    runs = []
    for name, times in (("cold", 1), ("warm", scale.of(500, 20) if share == 1.0 else scale.of(20, 2))):
        edits = int(share * len(subject.history))
        began, own_s = clock(), process_time()
        back = await _returns(server, subject.document, subject.places[edits], times)
        busy = (process_time() - own_s) / (clock() - began)
        check(subject, edits, back.answer)
        case = f"{subject.history.name}: {share:.1%} here, {name}"
        note = f"{back.answer.mode}; {TARGETS.get(share, 'no target')}"
        runs.append(Run(case, tuple(_figures(subject, edits, back)), busy, note))
    return runs


async def _returns(server: ServerProcess, document: str, place: Place, times: int) -> Return:
    names = [f"phone-{number % DEVICES}" for number in range(times)]
    tokens = {name: server.token(USER, name) for name in names}
    up = down = wire = 0
    seconds = 0.0
    cpu_s = server.cpu_s()
    for name in names:
        task = Visit(document, place)
        began = clock()
        visitor = await visit(server, tokens[name], name, [task])
        answer = await task.caught_up
        seconds += clock() - began
        visitor.close()
        await visitor.left
        up, down, wire = up + visitor.frame_bytes_up, down + visitor.frame_bytes_down, wire + visitor.wire_bytes
    cpu_s = server.cpu_s() - cpu_s
    return Return(answer, up // times, down // times, wire // times, cpu_s / times, seconds / times)


def check(subject: Stored, edits: int, answer: CaughtUp) -> None:
    """What the device had, with what it was sent, is the whole document."""
    head = subject.places[len(subject.history)].cursor
    if answer.cursor != head:
        raise WorkloadFailed(f"brought to {answer.cursor}, not to {head}")
    if text_of([subject.states[edits], *answer.updates]) != subject.history.text:
        raise WorkloadFailed(f"a device with {edits} edits has another text than was written, in {ROOT}")


def _figures(subject: Stored, edits: int, back: Return) -> Iterator[Figure]:
    yield Figure("frames up", back.up_bytes, "bytes")
    yield Figure("frames down", back.down_bytes, "bytes")
    yield Figure("frames", back.up_bytes + back.down_bytes, "bytes")
    yield Figure("on the wire, with token and upgrade", back.wire_bytes, "bytes")
    missing_bytes = sum(map(len, subject.history.updates[edits:]))
    if not edits:
        yield Figure("frames / v1 state", (back.up_bytes + back.down_bytes) / len(subject.state), "")
    elif missing_bytes:
        yield Figure("frames / missing updates", (back.up_bytes + back.down_bytes) / missing_bytes, "")
        yield Figure("missing updates", missing_bytes, "bytes", Better.NEITHER)
    yield Figure("server CPU", back.cpu_s * 1e3, "ms")
    yield Figure("time", back.seconds * 1e3, "ms")
