"""Random histories of three devices, one of which is in a thief's hands from some point on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

from crdt.replica import Replica
from tests.property.histories import EDITS, Edit

THIEF = 1
DEVICES = 3


class Entry(NamedTuple):
    """An edit, in the order of the log. `stolen`: the thief made it, not the owner of the device."""

    device: int
    update: bytes
    stolen: bool


@dataclass(frozen=True, slots=True)
class Theft:
    log: tuple[Entry, ...]
    replicas: tuple[Replica, ...]

    def updates(self, *, stolen: bool = True) -> list[bytes]:
        """All updates of the log, or without those of the thief."""
        return [edit.update for edit in self.log if stolen or not edit.stolen]


def happen(seed: int, *, unseen: bool, edits: Sequence[Edit] = EDITS, steps: int = 60) -> Theft:
    """A history drawn from `seed`. `unseen`: no other device gets to see what the thief does.

    Devices edit offline, and now and then get what the log has and put into it what they have done.
    """
    random = Random(seed)
    world = _World(unseen)
    begins = random.randrange(steps // 6, steps // 2)
    for step in range(steps):
        if step == begins:
            world.sync_all()
            world.thief_is_here = True
        device = random.randrange(DEVICES)
        if random.random() < 0.5:
            world.sync(device)
        world.edit(device, random.choice(edits), random)
    world.sync_all()
    return Theft(tuple(world.log), tuple(world.replicas))


class _World:
    def __init__(self, unseen: bool) -> None:
        self.thief_is_here = False
        self.replicas = [Replica(number + 1) for number in range(DEVICES)]
        self.log: list[Entry] = []
        self.pending: list[list[bytes]] = [[] for _ in range(DEVICES)]
        self._unseen = unseen
        self._cursors = [0] * DEVICES

    def edit(self, device: int, edit: Edit, random: Random) -> None:
        update = self.replicas[device].edit(lambda doc: edit(doc, random))
        self.pending[device] += [update] if update else []

    def sync(self, device: int) -> None:
        hides = self._unseen and device != THIEF
        news = self.log[self._cursors[device] :]
        self.replicas[device].apply(
            edit.update for edit in news if edit.device != device and not (hides and edit.stolen)
        )
        stolen = device == THIEF and self.thief_is_here
        self.log += [Entry(device, update, stolen) for update in self.pending[device]]
        self.pending[device] = []
        self._cursors[device] = len(self.log)

    def sync_all(self) -> None:
        for _ in range(2):
            for device in range(DEVICES):
                self.sync(device)
