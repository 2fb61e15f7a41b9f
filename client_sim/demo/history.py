"""What the devices of the demo type: each one's edits, what each builds on, and when it was typed.

A history is played to its end, so that what the devices end with can be held against what it ends with. Of a long one
the last edits are played; what was there before is one edit of the first device, on which all others build.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import accumulate, pairwise
from pathlib import Path
from random import Random
from typing import Any, NamedTuple, TypeAlias

import msgpack

from client_sim.traces import Trace, TraceError, replay
from crdt.replica import Replica

TEXT_ROOT = "text"
NAMES = ("phone", "tablet", "laptop")

PAUSE_S = 5.0
"""Longer pauses than this are cut to it."""
TYPING_RATE = 4.0
"""Edits in an active second, for recordings without times."""
STRETCH_FRACTION = 1 / 24
"""Of a sequential history dealt out to several devices, each types about this much before the next one's turn."""

Clock: TypeAlias = tuple[int, ...]
"""How many edits of each device."""


class Edit(NamedTuple):
    """One op. `needs`: what its author had seen of each device. `due_s`: when it was typed, since the first one."""

    update: bytes
    needs: Clock
    due_s: float


class Place(NamedTuple):
    """An edit's device, and its number there from 0."""

    device: int
    number: int


@dataclass(frozen=True, slots=True)
class History:
    """All edits by device, and `order`, one in which everything comes after what it builds on."""

    name: str
    devices: tuple[str, ...]
    edits: tuple[tuple[Edit, ...], ...]
    order: tuple[Place, ...]
    has_opening: bool
    end_chars: int
    end_sha256: str

    @property
    def ends(self) -> Clock:
        return tuple(map(len, self.edits))

    def is_end(self, text: str) -> bool:
        """True if `text` is what the history ends with."""
        return len(text) == self.end_chars and sha256(text.encode()).hexdigest() == self.end_sha256

    def length_s(self) -> float:
        return max((edit.due_s for edits in self.edits for edit in edits), default=0.0)


def build(trace: Trace, edits: int, rng: Random) -> History:
    """The last `edits` edits of a trace, a sequential one dealt out. Raises TraceError."""
    if not trace.is_concurrent:
        trace = deal(trace, len(NAMES), max(1, round(min(edits, len(trace)) * STRETCH_FRACTION)), rng)
    updates = list(replay(trace, TEXT_ROOT))
    start = max(0, len(trace) - edits)
    count = max(len(NAMES), 1 + max(trace.agents, default=0))
    by_device: list[list[Edit]] = [[] for _ in range(count)]
    order: list[Place] = []
    before = [update for update in updates[:start] if update is not None]
    if before:
        by_device[0].append(Edit(Replica.load(before).state(), (0,) * count, 0.0))
        order.append(Place(0, 0))
    seen = [tuple(map(len, by_device))] * start
    for index, due_s in zip(range(start, len(trace)), due_times(trace.times_s[start:]), strict=True):
        agent, update = trace.agents[index], updates[index]
        needs = _join([*(seen[parent] for parent in trace.parents[index]), (int(bool(before)), *(0,) * (count - 1))])
        if needs[agent] != len(by_device[agent]):
            raise TraceError(f"{trace.name}: an agent did not know its own edit before transaction {index}")
        if update is not None:
            order.append(Place(agent, len(by_device[agent])))
            by_device[agent].append(Edit(update, needs, due_s))
        seen.append(_with_own(needs, agent, len(by_device[agent])))
    return History(
        trace.name, device_names(count), tuple(map(tuple, by_device)), tuple(order), bool(before),
        trace.end_chars, trace.end_sha256,
    )  # fmt: skip


def device_names(count: int) -> tuple[str, ...]:
    return (*NAMES, *(f"device-{number}" for number in range(len(NAMES) + 1, count + 1)))[:count]


def deal(trace: Trace, authors: int, stretch: int, rng: Random) -> Trace:
    """A sequential trace whose stretches, of one to twice `stretch` transactions, are another author's in turn."""
    agents = array("q")
    author = 0
    while len(agents) < len(trace):
        agents.extend([author] * rng.randint(stretch, 2 * stretch))
        author = (author + 1) % authors
    return replace(trace, agents=agents[: len(trace)])


def due_times(times_s: Sequence[int | None]) -> list[float]:
    """Seconds since the first transaction: pauses cut, those of one second spread over it, in the order given."""
    steps = [0.0]
    for earlier, later in pairwise(times_s):
        steps.append(1 / TYPING_RATE if earlier is None or later is None else min(PAUSE_S, max(0.0, later - earlier)))
    starts = list(accumulate(steps)) if times_s else []
    due: list[float] = []
    index = 0
    while index < len(starts):
        stop = index
        while stop < len(starts) and starts[stop] == starts[index]:
            stop += 1
        due += [starts[index] + part / (stop - index) for part in range(stop - index)]
        index = stop
    return due


def _join(clocks: Sequence[Clock]) -> Clock:
    return tuple(map(max, zip(*clocks, strict=True)))


def _with_own(clock: Clock, device: int, count: int) -> Clock:
    return (*clock[:device], count, *clock[device + 1 :])


# --- what can be said of a history


def concurrent_edits(history: History) -> int:
    """Edits for which another device has one that neither builds on it nor is built on by it."""
    return sum(_is_concurrent(history, place) for place in history.order)


def _is_concurrent(history: History, place: Place) -> bool:
    """Of each other device the first edit that the author had not seen decides: later ones have seen only more."""
    device, number = place
    needs = history.edits[device][number].needs
    return any(
        needs[other] < len(edits) and edits[needs[other]].needs[device] <= number
        for other, edits in enumerate(history.edits)
        if other != device
    )


def tail(history: History) -> Clock:
    """Where each device's last edits begin that build on no other device's last edits: all can be made offline."""
    at = {place: index for index, place in enumerate(history.order)}
    start, latest = len(history.order), -1
    for index in range(len(history.order) - 1, -1, -1):
        device, number = history.order[index]
        needs = history.edits[device][number].needs
        needed = [Place(other, count - 1) for other, count in enumerate(needs) if count and other != device]
        latest = max([latest, *(at[place] for place in needed)])
        if latest >= index:
            break
        start = index
    begins = [0] * len(history.devices)
    for device, _ in history.order[:start]:
        begins[device] += 1
    return tuple(begins)


def longest_stretch(history: History, first: float, last: float) -> Place:
    """Where a device can type longest alone, among the edits from the fraction `first` to `last` of the history."""
    count = len(history.order)
    places = history.order[int(count * first) : int(count * last)] or history.order[-1:]
    return max(places, key=lambda place: _alone(history.edits[place.device], place))


def _alone(edits: Sequence[Edit], place: Place) -> int:
    """How many edits, from this one on, can be made with what this one needs of others."""
    known = edits[place.number].needs
    count = 0
    for edit in edits[place.number :]:
        if _with_own(edit.needs, place.device, 0) != _with_own(known, place.device, 0):
            break
        count += 1
    return count


# --- for the devices' processes


def write_edits(path: Path, edits: Sequence[Edit]) -> None:
    path.write_bytes(msgpack.packb(edits))


def read_edits(path: Path) -> list[Edit]:
    packed: list[Any] = msgpack.unpackb(path.read_bytes())
    return [Edit(update, tuple(needs), due_s) for update, needs, due_s in packed]
