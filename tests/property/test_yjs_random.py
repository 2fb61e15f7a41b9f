"""Yjs apps of two users in one document, whatever happens to sockets and storage: in the end all have the same."""

from __future__ import annotations

import os
from random import Random
from typing import Any

import pytest
from pycrdt import Array, Map, Text

from crdt.replica import Replica
from server.core.compaction import CompactionPolicy
from server.yjs import messages
from tests.unit.server.core.lab import Lab
from tests.unit.server.yjs.rig import Client

SEEDS = 400 if os.environ.get("SYNCLINE_SOAK") else 25
STEPS = 120


class App:
    """A user's tab: one replica for good, and a socket now and then."""

    def __init__(self, lab: Lab, number: int, rng: Random) -> None:
        self.lab = lab
        self.rng = rng
        self.replica = Replica(1000 + number)
        self.user = ("alice", "bob")[number % 2]
        self.client: Client | None = None
        self.sent = 0
        """Updates on this socket."""

    @property
    def is_online(self) -> bool:
        return self.client is not None and self.client.link.end is None

    def connect(self) -> None:
        self.disconnect()
        self.sent = 0
        docs = {"alice/main": "rw"} if self.user == "bob" else None
        self.client = Client(self.lab, "alice/main", user=self.user, replica=self.replica, docs=docs)
        self.client.say(messages.step_1(self.replica.state_vector_bytes()))

    def disconnect(self) -> None:
        if self.client is not None:
            self.client.leave()
        self.client = None

    def edit(self) -> None:
        update = self.replica.edit(self._change)
        if update is not None and self.client is not None and self.is_online:
            self.sent += 1
            self.client.say(messages.update_message(update))

    def _change(self, doc: Any) -> None:
        rng, text, items = self.rng, doc.get("t", type=Text), doc.get("a", type=Array)
        match rng.randrange(6):
            case 0 | 1:
                text.insert(rng.randrange(len(text) + 1), rng.choice(("a", "bc", "def")))
            case 2 if len(text):
                at = rng.randrange(len(text))
                del text[at : min(len(text), at + 1 + rng.randrange(3))]
            case 3:
                items.insert(rng.randrange(len(items) + 1), rng.randrange(100))
            case 4 if len(items):
                del items[rng.randrange(len(items))]
            case _:
                doc.get("m", type=Map)[rng.choice("xyz")] = rng.randrange(10)


def happen(lab: Lab, apps: list[App], rng: Random) -> None:
    """One thing of all that can."""
    app = rng.choice(apps)
    match rng.randrange(12):
        case 0 if not app.is_online:
            app.connect()
        case 1 if rng.random() < 0.3:
            app.disconnect()
        case 2 | 3 if lab.held:
            lab.answer()
        case 4 if lab.held and rng.random() < 0.15 and type(lab.held[0]).__name__ in ("Append", "Load"):
            lab.fail(durable=rng.random() < 0.5)
        case 5:
            lab.turn()
        case _:
            app.edit()
    for other in apps:
        if other.client is not None:
            other.client.pump()


@pytest.mark.parametrize("seed", range(SEEDS))
def test_apps_converge(seed: int) -> None:
    rng = Random(seed)
    lab = Lab(
        compaction=CompactionPolicy(entries_max=rng.choice((3, 2000)), entries_min=2, rest_s=0.0),
        resident_bytes_max=rng.choice((0, 1 << 30)),
    )
    apps = [App(lab, number, rng) for number in range(4)]
    for _ in range(STEPS):
        happen(lab, apps, rng)
    for _ in range(3):
        for app in apps:
            if not app.is_online:
                app.connect()
        for _ in range(10):
            lab.settle()
            for app in apps:
                assert app.client is not None
                app.client.pump()
    for app in apps:
        assert app.client is not None
        assert app.is_online, app.client.link.end
        assert app.client.saved == app.sent + 1, "each of its updates is told to be saved once, and its state"
        assert app.replica.values() == apps[0].replica.values()
    stored = Client(lab, "main")
    stored.sync()
    assert stored.replica.values() == apps[0].replica.values()
