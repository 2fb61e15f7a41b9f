"""An editing history made up, with the rhythm of real typing: for whoever has no recordings.

Devices are offline at times, and all of them at the end. Who is online has seen what the others who are online had
typed by the second before. The figures are those of recorded histories, and of phones on the move.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from hashlib import sha256
from heapq import merge
from itertools import count
from math import log
from random import Random

from client_sim.traces import Author, Patch, Trace
from crdt.replica import Replica

SESSION_EDITS = 320.0
"""Edits of one author in a session: the median. Recordings have 171 to 630."""
SESSION_S = (360.0, 2400.0)
"""Length of a session: median and 90th percentile. Recordings have 3 to 12 and 28 to 64 minutes."""
AWAY_S = (3600.0, 20 * 3600.0)
"""Between sessions. Recordings have 0.2 to 3.6 and 1 to 75 hours."""
EDITS_A_SECOND = 3.0, 7.7
"""In a second in which the author types. Recordings have a median of 2 to 5, a 95th percentile of 8 to 11."""
EDITS_A_SECOND_MAX = 27
OUTAGE_S = (10.0, 240.0)
"""Offline on the move: median 8 to 13 s, 90th percentile 4 min."""
BETWEEN_OUTAGES_S = 900.0

LAST_OFFLINE = 0.05
"""This fraction of all edits comes last, when every device is offline."""

P90 = 1.2816
"""Where the standard normal distribution has its 90th percentile."""

WORDS = (
    "the a we you they write read keep lose send find mend open close on off under over after before every no some "
    "train tunnel phone note list garden letter river window café Straße naïve 😀 ✓ morning evening, again. so that"
)
"""Words to type, in no language's order."""


def generate(edits: int, seed: int, authors: int = 3) -> Trace:
    """A concurrent history of so many transactions, one patch each: the same one for the same seed."""
    rng = Random(seed)
    writers = [_Writer(number, Random(rng.getrandbits(64))) for number in range(authors)]
    story = _Story(writers, offline_from=int(edits * (1 - LAST_OFFLINE)))
    meetings = list(_meetings(rng, authors, edits))
    seconds = merge(*(_active_seconds(writers[number], meetings, number) for number in range(authors)))
    for second, number, typed in seconds:
        story.type(writers[number], second, min(typed, edits - len(story.updates)))
        if len(story.updates) == edits:
            break
    return story.trace(f"generated, seed {seed}")


def _lognormal(rng: Random, median: float, p90: float) -> float:
    return rng.lognormvariate(log(median), log(p90 / median) / P90)


def _meetings(rng: Random, authors: int, edits: int) -> Iterator[tuple[int, list[int]]]:
    """When all begin to type, and how many seconds each goes on; more than enough for `edits`."""
    start = 0
    for _ in range(10 + edits):
        lengths = [1 + int(_lognormal(rng, *SESSION_S)) for _ in range(authors)]
        yield start, lengths
        start += max(lengths) + int(_lognormal(rng, *AWAY_S))


def _active_seconds(
    writer: _Writer, meetings: list[tuple[int, list[int]]], number: int
) -> Iterator[tuple[int, int, int]]:
    """(second, author, edits in it), ascending."""
    rng = writer.rng
    for start, lengths in meetings:
        left = max(1, round(_lognormal(rng, SESSION_EDITS, 2 * SESSION_EDITS)))
        typed: list[int] = []
        while left > 0:
            typed.append(min(left, EDITS_A_SECOND_MAX, max(1, round(_lognormal(rng, *EDITS_A_SECOND)))))
            left -= typed[-1]
        length = max(lengths[number], len(typed))
        seconds = sorted(rng.sample(range(length), len(typed)))
        yield from ((start + second, number, edits) for second, edits in zip(seconds, typed, strict=True))


class _Writer:
    """One author: its replica, its cursor, when it is offline, and what the others can have of it."""

    def __init__(self, number: int, rng: Random) -> None:
        self.number = number
        self.rng = rng
        self.author = Author(number + 1)
        self.made: list[int] = []
        """Its transactions' indexes."""
        self.published = 0
        self.seen: dict[int, int] = {}
        """How many transactions of each other author are in its replica."""
        self.parents: tuple[int, ...] = ()
        self._second = -1
        self._made_before = 0
        self._cursor = 0
        self._word = ""
        self._outages = self._draw_outages()
        self._outage = next(self._outages)

    def _draw_outages(self) -> Iterator[tuple[float, float]]:
        end = 0.0
        for _ in count():
            start = end + self.rng.expovariate(1 / BETWEEN_OUTAGES_S)
            end = start + _lognormal(self.rng, *OUTAGE_S)
            yield start, end

    def is_online(self, second: int) -> bool:
        """Seconds must not go back."""
        while second >= self._outage[1]:
            self._outage = next(self._outages)
        return second < self._outage[0]

    def publish(self, second: int) -> None:
        """Online: what it made before this second can be had by others."""
        self.published = len(self.made) if self._second < second else self._made_before

    def begin(self, second: int) -> None:
        self._second, self._made_before = second, len(self.made)

    def next_patch(self) -> Patch:
        """Typing, with steps back; now and then somewhere else."""
        length = len(self.author)
        self._cursor = min(self._cursor, length)
        if not self._word:
            if self.rng.random() < 0.08:
                self._cursor = self.rng.randint(0, length)
            self._word = self.rng.choice(WORDS.split()) + ("\n" if self.rng.random() < 0.05 else " ")
        if self._cursor and self.rng.random() < 0.15:
            self._cursor -= 1
            return Patch(self._cursor, 1, "")
        size = len(self._word) if self.rng.random() < 0.02 else 1
        typed, self._word = self._word[:size], self._word[size:]
        self._cursor += size
        return Patch(self._cursor - size, 0, typed)


class _Story:
    """The transactions so far."""

    def __init__(self, writers: list[_Writer], offline_from: int) -> None:
        self.updates: list[bytes] = []
        self._writers = writers
        self._offline_from = offline_from
        self._patches: list[Patch] = []
        self._agents = array("q")
        self._parents: list[tuple[int, ...]] = []
        self._times_s: list[int | None] = []

    def type(self, writer: _Writer, second: int, edits: int) -> None:
        if len(self.updates) < self._offline_from:
            online = [other for other in self._writers if other.is_online(second)]
            for other in online:
                other.publish(second)
            if writer in online:
                self._catch_up(writer)
        writer.begin(second)
        for _ in range(edits):
            self._add(writer, second)

    def _catch_up(self, writer: _Writer) -> None:
        unseen: list[int] = []
        for other in self._writers:
            known = writer.seen.get(other.number, 0)
            if other is not writer and other.published > known:
                unseen += other.made[known : other.published]
                writer.seen[other.number] = other.published
                writer.parents += (other.made[other.published - 1],)
        writer.author.merge(self.updates[index] for index in sorted(unseen))

    def _add(self, writer: _Writer, second: int) -> None:
        patch = writer.next_patch()
        update = writer.author.write([patch])
        assert update is not None, "every patch changes something"
        index = len(self.updates)
        self.updates.append(update)
        self._patches.append(patch)
        self._agents.append(writer.number)
        self._parents.append(writer.parents)
        self._times_s.append(second)
        writer.made.append(index)
        writer.parents = (index,)

    def trace(self, name: str) -> Trace:
        text = str(Replica.load(self.updates).values().get("text", ""))
        return Trace(
            name=name,
            positions=array("q", (patch.at for patch in self._patches)),
            deletes=array("q", (patch.delete for patch in self._patches)),
            inserts=[patch.insert for patch in self._patches],
            patch_counts=array("q", [1]) * len(self._patches),
            agents=self._agents,
            parents=self._parents,
            times_s=self._times_s,
            is_concurrent=True,
            end_chars=len(text),
            end_sha256=sha256(text.encode()).hexdigest(),
        )
