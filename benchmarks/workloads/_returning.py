"""Devices that were offline come back to a server all at once, each with what it wrote meanwhile.

The time is that of the devices: from when the first connects until each has all that all of them wrote. Each keeps to
the protocol's advice on how much to have in flight. A device that is held back for its share of the server waits for
it here as well, so a long burst may show the limit on one device's rate.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, partial

import uvloop

from benchmarks.figures import Better, Figure, Run, WorkloadFailed
from benchmarks.server_process import ServerProcess, server_process
from benchmarks.visitor import NOTHING, Place, TurnedAway, Visit, Visitor, caught_up, visit
from benchmarks.workloads._edits import TEXT, change_text, word
from benchmarks.workloads._measuring import expect, expect_converged, kib
from benchmarks.workloads._stored import stored_bytes
from client_sim.traces import Patch
from crdt.protocol import frames
from crdt.protocol.frames import Cursor
from crdt.replica import Replica

USER = "user"
DOCUMENT = "main"
OPS_IN_FLIGHT = 256
"""docs/PROTOCOL.md, Pushing."""
WITHIN_S = 180.0
"""A run that takes longer has failed."""
POLL_S = 0.001
LOADED_MAX = 10
"""Of so many devices the replicas are compared; that all went through every entry of the log is checked of each."""


@dataclass(frozen=True, slots=True)
class Shape:
    """How many devices return, and how many edits each has."""

    devices: int
    edits: int

    def __str__(self) -> str:
        return f"{self.devices} devices return with {self.edits:,} edits each"


SHAPES = (Shape(2, 10_000), Shape(10, 2_000), Shape(50, 400), Shape(200, 100))
QUICK_SHAPES = (Shape(4, 50),)


@dataclass(frozen=True, slots=True)
class Offline:
    """What one device wrote, what it inserted, and its state vector since."""

    updates: tuple[bytes, ...]
    text: str
    state_vector: bytes


class Return(Visit):
    """A device's document since it came back. `head_seq`: it has the log up to there."""

    def __init__(self, written: Offline) -> None:
        super().__init__(DOCUMENT, Place(None, written.state_vector))
        self.written = written
        self.received: list[bytes] = []
        self.head_seq = 0

    def replica(self) -> Replica:
        """All that it has."""
        return Replica.load([*self.written.updates, *self.received])

    def take(self, frame: frames.ServerFrame) -> None:
        """Go on by one entry of the log, if the frame is one. Raises WorkloadFailed where one was left out."""
        match frame:
            case frames.Delta(seq=seq, updates=updates):
                self.received.extend(updates)
            case frames.Ack(seq=seq) if seq:
                pass
            case _:
                return
        expect(seq == self.head_seq + 1, f"entry {seq} came after entry {self.head_seq}")
        self._at(seq, self.place.cursor)

    def _current(self, opened: frames.Opened, updates: tuple[bytes, ...]) -> None:
        self.received.extend(updates)
        self._at(opened.cursor.seq, opened.cursor)
        super()._current(opened, updates)

    def _at(self, seq: int, cursor: Cursor | None) -> None:
        self.head_seq = seq
        if cursor is not None:
            self.place = Place(Cursor(cursor.epoch, seq), self.place.state_vector)


def returning(shapes: Sequence[Shape]) -> list[Run]:
    """Each against a server of its own. Raises WorkloadFailed."""
    return [_returning(shape) for shape in shapes]


def _returning(shape: Shape) -> Run:
    written = [offline(shape.edits, number) for number in range(shape.devices)]
    with server_process(settings={"SYNCLINE_SESSIONS_PER_USER": str(shape.devices + 1)}) as server:
        return uvloop.run(_run(shape, server, written))


@cache
def offline(edits: int, seed: int) -> Offline:
    """Letters typed one by one, in words here and there."""
    rng = random.Random(seed)
    replica = Replica(client_id=rng.getrandbits(32))
    updates = []
    text = word(rng, edits, edits)
    at = 0
    for length, char in enumerate(text):
        at = rng.randint(0, length) if rng.random() < 0.1 else at
        update = replica.edit(partial(change_text, patches=[Patch(at, 0, char)]))
        assert update is not None
        updates.append(update)
        at += 1
    return Offline(tuple(updates), text, replica.state_vector_bytes())


async def _run(shape: Shape, server: ServerProcess, written: Sequence[Offline]) -> Run:
    visitors: list[Visitor] = []
    try:
        async with asyncio.timeout(WITHIN_S):
            return await _measured(shape, server, written, visitors)
    except (TurnedAway, OSError) as exc:
        raise WorkloadFailed(f"{shape}: one did not come back: {exc!r}") from exc
    finally:
        for visitor in visitors:
            visitor.close()
        await asyncio.gather(*(visitor.left for visitor in visitors))


async def _measured(shape: Shape, server: ServerProcess, written: Sequence[Offline], visitors: list[Visitor]) -> Run:
    """All who connect are added to `visitors`."""
    returns = [Return(each) for each in written]
    start, cpu_s, own_s = time.perf_counter(), server.cpu_s(), time.process_time()
    await asyncio.gather(*(_come_back(server, f"device{n}", each, visitors) for n, each in enumerate(returns)))
    await _until_current(returns)
    seconds, cpu_s = time.perf_counter() - start, server.cpu_s() - cpu_s
    share = (time.process_time() - own_s) / seconds
    peak_bytes = server.peak_bytes()
    await _check(server, returns, visitors)
    updates = shape.devices * shape.edits
    figures = (
        Figure("until all are current", seconds, "s"),
        Figure("server CPU", cpu_s / updates * 1e6, "us/update"),
        kib("sent up", sum(visitor.frame_bytes_up for visitor in visitors)),
        kib("sent down", sum(visitor.frame_bytes_down for visitor in visitors)),
        kib("stored", stored_bytes(server.database)),
        Figure("log entries", returns[0].head_seq, "", Better.NEITHER),
        Figure("peak memory", peak_bytes / 2**20, "MiB"),
    )
    return Run(str(shape), figures, share)


async def _come_back(server: ServerProcess, name: str, each: Return, visitors: list[Visitor]) -> None:
    """Connect, catch up, and push until all is acknowledged; what others wrote goes on coming in."""
    visitor = await visit(server, server.token(USER, name), name)
    visitors.append(visitor)
    visitor.on_frame = each.take
    await visitor.open(each)
    updates = each.written.updates
    for first in range(0, len(updates), OPS_IN_FLIGHT):
        visitor.push(each, first + 1, updates[first : first + OPS_IN_FLIGHT])
        await each.acknowledged(min(first + OPS_IN_FLIGHT, len(updates)))


async def _until_current(returns: Sequence[Return]) -> None:
    """All is acknowledged, so the log ends where the device ends that is farthest."""
    while len({each.head_seq for each in returns}) > 1:  # noqa: ASYNC110 - each has its own connection to tell it
        await asyncio.sleep(POLL_S)


async def _check(server: ServerProcess, returns: Sequence[Return], visitors: list[Visitor]) -> None:
    """A newcomer gets what all have written, and so have the devices."""
    newcomer = await visit(server, server.token(USER, "newcomer"), "newcomer", [Visit(DOCUMENT, NOTHING)])
    visitors.append(newcomer)
    [answer] = await caught_up(newcomer)
    stored = Replica.load(answer.updates)
    letters = Counter("".join(each.written.text for each in returns))
    expect(Counter(stored.values()[TEXT]) == letters, "the document is not what was written")
    expect(answer.cursor.seq == returns[0].head_seq, "the log goes on after its last entry")
    step = max(1, len(returns) // LOADED_MAX)
    expect_converged([stored, *(each.replica() for each in returns[::step])])
