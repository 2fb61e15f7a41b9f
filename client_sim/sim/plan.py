"""What people and machines will do in one run, drawn from the seed before it begins.

A run can be played again without some of it: what is drawn while it is played comes from each action's own salt, or
from generators of their own. So a failing run shrinks by leaving out what it does not need.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from random import Random

from client_sim.sim.editing import RHYTHMS
from client_sim.sim.weather import DAY_S, Fault, Place, Span, Weather, draw, place

EDITS_MAX = 160
"""In a run: many short runs meet more than a few long ones."""


class Deed(StrEnum):
    """What an action is. The first group is done by handsets."""

    START = "start"
    STOP = "stop"
    EDIT = "edit"
    PRESENCE = "presence"
    AUDIT = "audit"
    REOPEN = "reopen"
    UNBLOCK = "unblock"
    POLICY = "choose a policy"
    NETWORK = "another network"
    NETWORK_BACK = "the OS says there is a network"
    SUSPEND = "suspend"
    WINDOW = "background sync"
    HURRY = "somebody waits"
    KILL = "kill"
    KILL_LOSSY = "kill, last write lost"
    BACK_UP_STORE = "back up the store"
    RESTORE_STORE = "restore an older store"
    REINSTALL = "reinstall"
    SPOIL = "damage the store"
    CLONE = "clone"
    CUT = "cut"
    SILENCE = "half-open"
    SLOW = "slow reader"
    NETWORK_OFF = "network off"
    NETWORK_ON = "network on"
    CRASH = "crash"
    SERVER_UP = "server up"
    DRAIN = "drain"
    SERVER_CLOCK = "set the server's clock"
    CLOCK_RIGHT = "the server's clock is right again"
    DISK_FULL = "disk full"
    DISK_FREED = "disk freed"
    COMPACT = "compact"
    IMPORT = "import"
    BACK_UP = "back up"
    RESTORE = "restore from backup"
    SET_BACK = "set the store back"
    REVOKE = "revoke"
    READMIT = "let in again"
    REGRANT = "change grants"
    HOSTILE = "hostile"
    THIEF = "a copied token"
    DEADLY = "deadly push"
    ROT = "a document can not be read"
    MEND = "the document is mended"
    RELEASE = "release from quarantine"
    PRESSURE = "overload"
    RELIEF = "the load is over"
    EXCISE = "take a device's edits out"
    OVERSLEEP = "oversleep"


@dataclass(frozen=True, slots=True)
class Action:
    """`actor` does something at `at_s`; `salt` decides what is left open."""

    at_s: float
    deed: Deed
    actor: int
    salt: int

    def rng(self) -> Random:
        return Random(self.salt)


@dataclass(frozen=True, slots=True)
class Plan:
    """All of one run but what it does with chance while it goes on, which is drawn from `seed`."""

    seed: int
    weather: Weather
    place: Place
    actions: tuple[Action, ...]
    length_s: float


_TROUBLES: dict[Fault, tuple[tuple[Deed, float], ...]] = {
    Fault.NETWORK: ((Deed.CUT, 8), (Deed.SILENCE, 2), (Deed.NETWORK_OFF, 2), (Deed.NETWORK_ON, 4)),
    Fault.SLOW_READERS: ((Deed.SLOW, 5),),
    Fault.CRASHES: ((Deed.CRASH, 5), (Deed.DRAIN, 2), (Deed.SERVER_UP, 2)),
    Fault.DISK: ((Deed.DISK_FULL, 1), (Deed.DISK_FREED, 3)),
    Fault.STORES: (
        (Deed.KILL, 4), (Deed.KILL_LOSSY, 3), (Deed.BACK_UP_STORE, 2), (Deed.RESTORE_STORE, 2), (Deed.REINSTALL, 1),
        (Deed.SPOIL, 3),
    ),
    Fault.CLONES: ((Deed.CLONE, 2),),
    Fault.OPERATORS: (
        (Deed.COMPACT, 5), (Deed.IMPORT, 3), (Deed.DRAIN, 2), (Deed.REVOKE, 0.7), (Deed.READMIT, 1), (Deed.REGRANT, 1),
    ),
    Fault.RESTORES: ((Deed.BACK_UP, 3), (Deed.RESTORE, 1), (Deed.SET_BACK, 0.7)),
    Fault.TOKENS: (),
    Fault.CLOCKS: ((Deed.SERVER_CLOCK, 3), (Deed.OVERSLEEP, 3)),
    Fault.HOSTILE: ((Deed.HOSTILE, 30),),
    Fault.ABSENCE: (),
    Fault.KEYS: ((Deed.THIEF, 8),),
    Fault.WORKERS: ((Deed.DEADLY, 6), (Deed.COMPACT, 3)),
    Fault.ROT: ((Deed.ROT, 2), (Deed.RELEASE, 1)),
    Fault.OVERLOAD: ((Deed.PRESSURE, 3),),
    Fault.EXCISION: ((Deed.EXCISE, 2),),
}  # fmt: skip
"""What each kind of trouble does, by how often."""

_ENDS: dict[Deed, tuple[tuple[Deed, Span], ...]] = {
    Deed.DISK_FULL: ((Deed.DISK_FREED, Span(0.1, 600.0)),),
    Deed.NETWORK_OFF: ((Deed.NETWORK_ON, Span(3.0, 240.0)),),
    Deed.SERVER_CLOCK: ((Deed.CLOCK_RIGHT, Span(10.0, 7_200.0)),),
    Deed.CRASH: ((Deed.SERVER_UP, Span(0.2, 60.0)),),
    Deed.DRAIN: ((Deed.SERVER_UP, Span(0.2, 60.0)),),
    Deed.ROT: ((Deed.MEND, Span(0.1, 600.0)), (Deed.RELEASE, Span(1.0, 2_000.0))),
    Deed.PRESSURE: ((Deed.RELIEF, Span(0.5, 120.0)),),
}
"""What follows on a deed, and after how long."""

_HABITS = ((Deed.PRESENCE, 3), (Deed.AUDIT, 2), (Deed.REOPEN, 1), (Deed.UNBLOCK, 1), (Deed.START, 3))
"""What apps do beside editing."""

_OF_PHONES = (Deed.POLICY, Deed.NETWORK, Deed.NETWORK_BACK, Deed.SUSPEND, Deed.WINDOW, Deed.HURRY)
"""What phones do to apps, and apps do about it."""


def make(seed: int, profile: str = "swarm") -> Plan:
    """The plan that follows from a seed."""
    rng = Random(f"plan {seed}")
    weather = draw(rng, profile)
    where = place(rng, weather)
    length_s = where.days * DAY_S
    people = where.handsets + len(where.guests)
    actions = [action for actor in range(people) for action in _sittings(rng, actor, length_s, EDITS_MAX // people)]
    times = sorted(action.at_s for action in actions) or [0.0]
    actions += _troubles(rng, weather, times)
    actions += _of_phones(Random(f"phones {seed}"), times)
    return Plan(seed, weather, where, tuple(sorted(actions, key=lambda action: action.at_s)), length_s)


def _action(rng: Random, at_s: float, deed: Deed, actor: int) -> Action:
    return Action(round(at_s, 3), deed, actor, rng.getrandbits(32))


def _sittings(rng: Random, actor: int, length_s: float, edits_max: int) -> Iterator[Action]:
    """One person's days: the app is opened, typed into in bursts, left open or closed, and away it is."""
    rhythm = rng.choice(RHYTHMS)
    offline = rng.random() * rng.random()
    at_s = Span(0.1, 10.0).draw(rng)
    edits = rng.randint(edits_max // 3, edits_max)
    while edits > 0 and at_s < length_s:
        if rng.random() >= offline:
            yield _action(rng, at_s, Deed.START, actor)
        end_s = at_s + min(rhythm.session.draw(rng), 0.3 * length_s)
        while edits > 0 and at_s < end_s:
            for _ in range(rng.choice((1, 4, 12))):
                at_s += rhythm.pause.draw(rng)
                edits -= 1
                yield _action(rng, at_s, Deed.EDIT, actor)
            at_s += Span(0.5, 120.0).draw(rng)
        if rng.random() < 0.7:
            yield _action(rng, at_s + 1.0, Deed.STOP, actor)
        at_s += min(rhythm.away.draw(rng), 0.5 * length_s)


def _of_phones(rng: Random, times: list[float]) -> Iterator[Action]:
    """In every other run; drawn apart, so that all else is the same with it and without."""
    for _ in range(rng.randrange(30) if rng.random() < 0.5 else 0):
        at_s = max(0.0, rng.choice(times) + rng.gauss(0.0, rng.choice((1.0, 30.0, 600.0))))
        yield _action(rng, at_s, rng.choice(_OF_PHONES), rng.randrange(8))


def _troubles(rng: Random, weather: Weather, times: list[float]) -> Iterator[Action]:
    """Trouble is where people are: most of it begins within a second of an edit."""
    deeds, weights = list(_HABITS), 3.0
    for fault in weather.faults:
        strength = 10.0 ** rng.uniform(-1.0, 0.5)
        deeds += [(deed, weight * strength) for deed, weight in _TROUBLES[fault]]
        weights += strength
    for _ in range(min(80, int(6 + 6 * weights * rng.random()))):
        deed = rng.choices([deed for deed, _ in deeds], [weight for _, weight in deeds])[0]
        at_s = max(0.0, rng.choice(times) + rng.gauss(0.0, rng.choice((0.1, 1.0, 20.0))))
        actor = rng.randrange(8)
        yield _action(rng, at_s, deed, actor)
        if deed is Deed.HOSTILE:
            for _ in range(rng.randrange(6)):
                at_s += rng.random() * 0.5
                yield _action(rng, at_s, deed, actor)
        for end, span in _ENDS.get(deed, ()):
            yield _action(rng, at_s + span.draw(rng), end, actor)
