"""Long editing histories: recorded ones where SYNCLINE_TRACES names their folder, else some that are made up."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import islice

from benchmarks import histories
from benchmarks.workloads._edits import TEXT, change_text, word
from benchmarks.workloads._measuring import expect
from client_sim import traces
from client_sim.traces import Author, GapText, Patch, Trace
from crdt.replica import Replica

RECORDED = "automerge-paper"
"""The paper whose writing Martin Kleppmann recorded: B4 of crdt-benchmarks."""
EDITS = 259_778
"""In that recording."""
NOT_RECORDED = f"made up: {traces.FOLDER_VARIABLE} does not name a folder with the recording"

MADE_UP_EDITS = 20_000
"""At most, of a concurrent history."""
AUTHORS = 3
EDITS_PER_ROUND = 20
"""Of each author of a made-up concurrent history, before it sees what the others did."""


@dataclass(frozen=True, slots=True)
class History:
    """One author's edits of a text, in UTF-8 bytes, and what comes of them. `note` says what it is, if not recorded."""

    name: str
    edits: list[list[Patch]]
    text: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class ConcurrentHistory:
    """Several authors' updates, each with its author and the ones it was made on top of. `text` comes of them."""

    name: str
    updates: list[bytes]
    authors: Sequence[int]
    parents: list[tuple[int, ...]]
    text: str
    note: str = ""


@cache
def history(edits_max: int) -> History:
    """The recorded one, or one that is made up; the first `edits_max` edits of it. Raises TraceError."""
    trace = _recorded()
    text = GapText()
    recorded = trace.transactions() if trace else _typed()
    edits = [[text.replace(patch) for patch in patches] for patches in islice(recorded, edits_max)]
    if trace and len(edits) == len(trace):
        trace.check(str(text))
    name = f"{'recorded' if trace else 'made-up'} history, {len(edits):,} edits"
    return History(name, edits, str(text), "" if trace else NOT_RECORDED)


@cache
def history_updates(edits_max: int) -> tuple[bytes, ...]:
    """The updates of that history, each made by an edit of its own. The whole of it takes many seconds."""
    if edits_max >= EDITS and (whole := histories.recorded()):
        return whole.updates
    replica = Replica(client_id=1)
    made = (replica.edit(partial(change_text, patches=patches)) for patches in history(edits_max).edits)
    return tuple(update for update in made if update is not None)


@cache
def concurrent_histories(edits_max: int) -> tuple[ConcurrentHistory, ...]:
    """All that were recorded, or one that is made up; the first `edits_max` edits of each. Raises TraceError."""
    folder = traces.folder()
    files = [file for file in traces.trace_files(folder) if ".concurrent." in file.name] if folder else []
    found = tuple(_replayed(traces.load(file), edits_max) for file in files)
    return found or (_written(edits_max),)


def _recorded() -> Trace | None:
    folder = traces.folder()
    file = folder / f"{RECORDED}.sequential.json.gz" if folder else None
    return traces.load(file) if file and file.exists() else None


def _typed() -> Iterator[list[Patch]]:
    """Somebody writes: types on for a while, takes some of it back, now and then goes to another place."""
    rng = random.Random(4)
    at = chars = edits = 0
    while edits < EDITS:
        if rng.random() < 0.1:
            at = rng.randint(0, chars)
        typed = rng.randint(5, 40)
        deleted = min(rng.randint(0, 15), at + typed)
        for _ in range(typed):
            yield [Patch(at, 0, word(rng, 1, 1))]
            at += 1
        for _ in range(deleted):
            at -= 1
            yield [Patch(at, 1, "")]
        chars += typed - deleted
        edits += typed + deleted


def _replayed(trace: Trace, edits_max: int) -> ConcurrentHistory:
    made = list(islice(traces.replay(trace), edits_max))
    updates = [update for update in made if update is not None]
    expect(len(updates) == len(made), f"an edit of {trace.name} changes nothing, and others may be made on top of it")
    text: str = Replica.load(updates).values()[TEXT]
    if len(made) == len(trace):
        trace.check(text)
    name = f"recorded history {trace.name}, {len(made):,} edits"
    return ConcurrentHistory(name, updates, trace.agents[: len(made)], trace.parents[: len(made)], text)


def _written(edits_max: int) -> ConcurrentHistory:
    """Authors type for themselves, all see all, and so on: every word has others that were written at the same time."""
    rng = random.Random(5)
    authors = [Author(number + 1) for number in range(AUTHORS)]
    updates: list[bytes] = []
    agents: list[int] = []
    parents: list[tuple[int, ...]] = []
    seen = 0
    while len(updates) < min(edits_max, MADE_UP_EDITS):
        heads = tuple(range(seen + EDITS_PER_ROUND - 1, len(updates), EDITS_PER_ROUND))
        news = list(enumerate(updates[seen:], seen))
        seen = len(updates)
        for agent, author in enumerate(authors):
            author.merge(update for index, update in news if agents[index] != agent)
            at = rng.randint(0, len(author))
            for number in range(EDITS_PER_ROUND):
                parents.append((len(updates) - 1,) if number else heads)
                agents.append(agent)
                updates.append(_wrote(author, Patch(at + number, 0, word(rng, 1, 1))))
    text: str = Replica.load(updates).values()[TEXT]
    expect(len(text) == len(updates), "a letter is lost")
    name = f"made-up concurrent history, {len(updates):,} edits"
    return ConcurrentHistory(name, updates, agents, parents, text, NOT_RECORDED)


def _wrote(author: Author, patch: Patch) -> bytes:
    update = author.write([patch])
    assert update is not None
    return update
