"""What one device's network is like, moment by moment: drawn ahead as far as somebody asks, and then it stays so."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import replace
from math import inf
from operator import attrgetter
from typing import NamedTuple

from client_sim.core.ports import Randomness
from client_sim.fleet.capacity import Capacity
from client_sim.fleet.profiles import BREAKS, Profile, Reach, Trouble

PACKET_BYTES = 1400
RETRANSMIT_S = 0.2
"""TCP waits at least so long, and the time of a round trip, before it sends a lost packet again."""


class Spell(NamedTuple):
    """From `start_s` up to `end_s`, which may be infinite."""

    start_s: float
    end_s: float
    reach: Reach


_start = attrgetter("start_s")


class Course:
    """Times are seconds since the start of the run. `speed` compresses what people do."""

    def __init__(self, profile: Profile, rng: Randomness, speed: float = 1.0) -> None:
        self._rng = rng
        self._speed = speed
        self._spells: list[Spell] = []
        self._drawn_s = 0.0
        self._next = [(0.0 if trouble.at_once else self._apart(trouble), trouble) for trouble in profile.troubles]

    def at(self, now_s: float) -> Spell:
        while now_s >= self._drawn_s:
            self._draw()
        return self._spells[bisect_right(self._spells, now_s, key=_start) - 1]

    def next_break(self, now_s: float) -> Spell | None:
        """The first spell that begins later and ends every connection; None if there is none any more."""
        if not any(trouble.reach in BREAKS for _, trouble in self._next):
            return None
        spell = self.at(now_s)
        while True:
            spell = self.at(spell.end_s)
            if spell.reach in BREAKS:
                return spell

    def reachable_since(self, now_s: float) -> float:
        """Since when a new connection was possible, stalls apart; now, if it is not."""
        number = bisect_right(self._spells, now_s, key=_start) - 1
        if self.at(now_s).reach in BREAKS:
            return now_s
        while number >= 0 and self._spells[number].reach not in BREAKS:
            number -= 1
        return self._spells[number].end_s if number >= 0 else 0.0

    def finish(self, start_s: float, size: float, capacity: Capacity) -> float:
        """When the last of `size` bytes is on its way, none of them while nothing gets through."""
        at_s = start_s
        while True:
            spell = self.at(at_s)
            if spell.reach is Reach.CLEAR:
                done_s = capacity.finish(at_s, size)
                if done_s <= spell.end_s:
                    return done_s
                size -= capacity.carried(at_s, spell.end_s)
            at_s = spell.end_s

    def calm(self, now_s: float) -> None:
        """All goes well from now on."""
        spell = self.at(now_s)
        number = self._spells.index(spell)
        begun = [spell._replace(end_s=now_s)] if spell.start_s < now_s else []
        self._spells[number:] = [*begun, Spell(now_s, inf, Reach.CLEAR)]
        self._drawn_s = inf
        self._next = []

    def _draw(self) -> None:
        """One trouble more, and what is before it."""
        if not self._next:
            self._add(inf, Reach.CLEAR)
            return
        starts_s, trouble = self._next.pop(min(range(len(self._next)), key=lambda number: self._next[number][0]))
        self._add(starts_s, Reach.CLEAR)
        self._add(self._drawn_s + trouble.lasts.draw(self._rng) / self._scale(trouble), trouble.reach)
        self._next.append((self._drawn_s + self._apart(trouble), trouble))

    def _add(self, end_s: float, reach: Reach) -> None:
        if end_s > self._drawn_s:
            self._spells.append(Spell(self._drawn_s, end_s, reach))
            self._drawn_s = end_s

    def _apart(self, trouble: Trouble) -> float:
        return trouble.apart.draw(self._rng) / self._scale(trouble)

    def _scale(self, trouble: Trouble) -> float:
        return self._speed if trouble.habit else 1.0


class Pipe:
    """One direction of one connection: whatever is put in comes out later, and in order."""

    def __init__(self, course: Course, profile: Profile, capacity: Capacity, rng: Randomness) -> None:
        self._course = course
        self._profile = profile
        self._capacity = capacity
        self._rng = rng
        self._free_s = self._last_s = 0.0

    def arrival(self, size: int, now_s: float) -> float:
        """When the last of `size` bytes that are sent now arrives."""
        self._free_s = self._course.finish(max(now_s, self._free_s), size, self._capacity)
        self._last_s = max(self._last_s, self._free_s + self._profile.ping.draw(self._rng) / 2 + self._lost(size))
        return self._last_s

    def calm(self) -> None:
        """Nobody waits for what was held up before."""
        self._free_s = self._last_s = 0.0

    def _lost(self, size: int) -> float:
        """Seconds that lost packets cost: each is waited for, and twice as long when it is lost again."""
        total_s = 0.0
        for _ in range(-(-size // PACKET_BYTES)):
            times = 0
            while self._profile.loss and self._rng.random() < self._profile.loss:
                total_s += (RETRANSMIT_S + self._profile.ping.draw(self._rng)) * 2**times
                times += 1
        return total_s


def without_stalls(profile: Profile) -> Profile:
    """For a recording, which has its own."""
    return replace(profile, troubles=tuple(t for t in profile.troubles if t.reach is not Reach.STALLED))
