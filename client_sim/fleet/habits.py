"""What people do with their devices: when they take one up, how they type, and how they leave it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto
from random import Random
from typing import NamedTuple

from client_sim.core.roots import Roots
from client_sim.fleet.quantiles import Quantiles

TEXT, TASKS, VISITS = "body", "tasks", "visits"
"""Roots of everybody's document: a text, a map of tasks, and an array with a line for each time somebody came."""

WORDS = (
    "milk", "train", "the", "meeting", "moved", "to", "call", "grandma", "seven", "Straße", "idea", "photos", "of",
    "tickets", "remember", "and", "draft", "chapter", "café", "invoice", "two", "weeks", "👍", "rain",
)  # fmt: skip


SESSION = Quantiles.of((0.0, 20.0), (0.5, 450.0), (0.9, 2700.0), (1.0, 7200.0))
AWAY = Quantiles.of((0.0, 60.0), (0.5, 3600.0), (0.9, 86_400.0), (1.0, 14 * 86_400.0))
BURST = Quantiles.of((0.0, 1.0), (0.5, 3.0), (1.0, 15.0))
PAUSE = Quantiles.of((0.0, 1.0), (0.5, 6.0), (0.9, 25.0), (1.0, 120.0))
EDITS_PER_S = Quantiles.of((0.0, 1.0), (0.5, 3.5), (0.95, 9.5), (1.0, 27.0))
REACTION = Quantiles.of((0.0, 0.2), (0.5, 5.0), (0.9, 20.0), (1.0, 60.0))
HERE_WITHIN_S = 5.0


@dataclass(frozen=True, slots=True)
class Habits:
    """Seconds, unless they say otherwise. Sessions and absences are compressed; in a session people are as they are."""

    session: Quantiles = SESSION
    away: Quantiles = AWAY
    burst: Quantiles = BURST
    pause: Quantiles = PAUSE
    edits_per_s: Quantiles = EDITS_PER_S
    reaction: Quantiles = REACTION
    """From a notification to the app in front of somebody."""
    stays_open: float = 0.3
    """Of sessions: afterwards the app stays connected, in a window or on a desk."""
    suspended: float = 0.5
    """Of those that do not: the system suspends the app, and later has it resume."""
    synced: float = 0.5
    """Of those: meanwhile the system lets it sync in the background, once."""
    killed: float = 0.5
    """Of the rest: the system kills the app, which says no goodbye."""
    present: float = 0.15
    """Of devices: somebody has it in hand when the run begins."""
    answers: float = 0.3
    """Of those whom a notification calls: the others only look."""
    source: str = (
        "sessions: median 3 to 12 min, p90 28 to 64 min; 171 to 630 edits each; 2 to 5 edits in an active second (p50),"
        " 8 to 11 (p95), 27 at most; away: median 0.2 to 3.6 h, p90 1 to 75 h. Bursts and the pauses between them are"
        " assumed so that a session has as many edits; so are all shares"
    )


class Leaving(Enum):
    """What becomes of the app when its user turns away."""

    STAYS = auto()
    SUSPENDED = auto()
    CLOSED = auto()
    KILLED = auto()


class Caret:
    """Where somebody types: first at a `share` of the text, from 0 to 1, then where the last letter was put."""

    def __init__(self, share: float) -> None:
        self._share = share
        self._at: int | None = None

    def place(self, length: int) -> int:
        """In a text of so many characters."""
        if self._at is None:
            self._at = round(self._share * length)
        return min(self._at, length)

    def move(self, at: int) -> None:
        self._at = at


class Edit(NamedTuple):
    """Deletes so many characters before the caret, then inserts there; or sets a task."""

    caret: Caret
    deletes: int
    inserts: str
    task: tuple[str, str] | None = None

    def make(self, roots: Roots) -> None:
        if self.task is not None:
            roots.map(TASKS)[self.task[0]] = self.task[1]
            return
        text = roots.text(TEXT)
        at = self.caret.place(len(text))
        start = max(0, at - self.deletes)
        if start < at:
            text.delete(start, at)
        if self.inserts:
            text.insert(start, self.inserts)
        self.caret.move(start + len(self.inserts))


class Stroke(NamedTuple):
    """An edit, so many seconds after the one before."""

    wait_s: float
    edit: Edit


class Person:
    """Whoever has one device in hand. `speed` compresses absences and sessions, but not what happens within one."""

    def __init__(self, habits: Habits, rng: Random, speed: float) -> None:
        self._habits = habits
        self._rng = rng
        self._speed = speed

    def first_away_s(self) -> float:
        """Somewhere in an absence; or hardly any, for those who are there at the start."""
        if self._rng.random() < self._habits.present:
            return HERE_WITHIN_S * self._rng.random()
        return self.away_s() * self._rng.random()

    def away_s(self) -> float:
        return self._habits.away.draw(self._rng) / self._speed

    def session_s(self) -> float:
        return self._habits.session.draw(self._rng) / self._speed

    def reaction_s(self) -> float:
        return self._habits.reaction.draw(self._rng)

    def answers(self) -> bool:
        """A notification, by writing something."""
        return self._rng.random() < self._habits.answers

    def is_synced(self) -> bool:
        """While the app is suspended."""
        return self._rng.random() < self._habits.synced

    def leaves(self) -> Leaving:
        if self._rng.random() < self._habits.stays_open:
            return Leaving.STAYS
        if self._rng.random() < self._habits.suspended:
            return Leaving.SUSPENDED
        return Leaving.KILLED if self._rng.random() < self._habits.killed else Leaving.CLOSED

    def typing(self) -> Iterator[Stroke]:
        """For ever: bursts with pauses, letter by letter through words; now and then a deletion, a paste, a task."""
        caret, letters = Caret(self._rng.random()), ""
        while True:
            pause_s = self._habits.pause.draw(self._rng)
            ends_s, at_s = self._habits.burst.draw(self._rng), 0.0
            rate = self._habits.edits_per_s.draw(self._rng)
            wait_s = pause_s
            while at_s < ends_s:
                letters = letters or self._rng.choice(WORDS) + " "
                letter, letters = letters[0], letters[1:]
                yield Stroke(wait_s, self._edit(caret, letter))
                wait_s = self._rng.expovariate(rate)
                at_s += wait_s
            if self._rng.random() < 0.3:
                caret = Caret(self._rng.random())

    def _edit(self, caret: Caret, letter: str) -> Edit:
        chance = self._rng.random()
        if chance < 0.10:
            return Edit(caret, self._rng.choice((1, 1, 1, 2, 5)), "")
        if chance < 0.12:
            return Edit(caret, 0, " ".join(self._rng.choices(WORDS, k=12)))
        if chance < 0.14:
            task = f"task {self._rng.randrange(12)}", self._rng.choice(("open", "done"))
            return Edit(caret, 0, "", task)
        return Edit(caret, 0, letter)
