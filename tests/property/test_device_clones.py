"""Clones of a device on the hub itself, without sockets: any schedule comes to one text that has all edits of all."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client_sim.core import events as device_events
from client_sim.core.ports import DeviceStore
from client_sim.core.status import Link
from client_sim.store import MemoryStore, SqliteStore
from crdt.update import read_update
from tests.property.test_device_hub import MemoryHome, Side, World
from tests.unit.server.core.lab import MAIN

SOAK = "SYNCLINE_SOAK" in os.environ
SIDES_MAX = 3

Step = tuple[str, int, int]
KINDS = [*["edit", "up", "down", "answer"] * 3, "start", "start", "copy", "cut", "kill", "time", "fail", "fail_durable"]
STEPS = st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, SIDES_MAX - 1), st.integers(0, 5)), max_size=80)


class CloneWorld(World):
    """One device at first, and copies of it that begin when a step says so."""

    def __init__(self) -> None:
        super().__init__(("phone",))
        self.writers: dict[int, set[Side]] = {}

    def step(self, kind: str, side: Side, amount: int) -> None:
        match kind:
            case "copy":
                if len(self.sides) < SIDES_MAX:
                    self.sides.append(self.copy(side))
            case "start":
                side.feed(device_events.Started())
            case _:
                super().step(kind, side, amount)

    def copy(self, side: Side) -> Side:
        assert isinstance(side.store, MemoryStore)
        return Side(self, side.name, len(self.sides), MemoryHome(side.store.restarted()))

    def edit(self, side: Side, *, at_end: bool) -> None:
        super().edit(side, at_end=at_end)
        for client in read_update(side.device.document("main").copy.outbox[-1].update).sections:
            self.writers.setdefault(client, set()).add(side)

    def finish(self) -> None:
        """Apps ask one after another, and again: those that are one device take turns."""
        for _ in range(4 * len(self.sides)):
            for side in self.sides:
                side.feed(device_events.Started())
                self.settle()
                self.pass_time(2.0)
                self.settle()


def run(world: CloneWorld, steps: list[Step]) -> None:
    for kind, index, amount in steps:
        world.step(kind, world.sides[index % len(world.sides)], amount)
    world.finish()


def check(world: CloneWorld) -> None:
    texts = [side.text for side in world.sides]
    assert texts == [texts[0]] * len(texts)
    for word in world.written:
        assert texts[0].count(word) == 1, f"{word} in {texts[0]}"
    for side in world.sides:
        assert side.device.document("main").pending == 0
        assert side.device.link is Link.OPEN or str(side.device.status) == "blocked (superseded)"
    durable = sum(len(entry.updates) for entry in world.lab.durable(MAIN))
    assert durable <= len(world.written)
    assert all(len(sides) == 1 for sides in world.writers.values())
    assert world.forks < len(world.sides)


@settings(max_examples=3000 if SOAK else 100, deadline=None)
@given(steps=STEPS)
def test_clones_end_with_all_edits_of_all(steps: list[Step]) -> None:
    world = CloneWorld()
    run(world, steps)
    check(world)


class FileHome:
    """A store in a file, which is copied while no process has it open."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._store: SqliteStore | None = None

    def reopened(self) -> DeviceStore:
        self.close()
        self._store = SqliteStore(self.path)
        return self._store

    def close(self) -> None:
        if self._store is not None:
            self._store.close()
            self._store = None


class FileWorld(CloneWorld):
    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder
        self.sides = []
        self.sides.append(Side(self, "phone", 0, self._home()))

    def _home(self) -> FileHome:
        return FileHome(self._folder / f"{len(self.sides)}.db")

    def copy(self, side: Side) -> Side:
        """As a backup of the phone does it."""
        assert isinstance(side.home, FileHome)
        side.home.close()
        home = self._home()
        shutil.copy(side.home.path, home.path)
        side.boot()
        return Side(self, side.name, len(self.sides), home)

    def close(self) -> None:
        for side in self.sides:
            assert isinstance(side.home, FileHome)
            side.home.close()


@pytest.mark.parametrize("seed", range(100 if SOAK else 4))
def test_copied_files_end_with_all_edits_of_all(seed: int, tmp_path: Path) -> None:
    random = Random(seed)
    steps = [(random.choice(KINDS), random.randrange(SIDES_MAX), random.randint(0, 5)) for _ in range(100)]
    world = FileWorld(tmp_path)
    try:
        run(world, [*steps[:40], ("copy", 0, 0), *steps[40:]])
        check(world)
        assert len(world.sides) > 1
    finally:
        world.close()
