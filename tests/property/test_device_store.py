"""Whatever happens to a device's store, at whatever point, the device and the server come to one text, and no edit that
the store still had is missing from it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client_sim.core import events
from client_sim.core.effects import Problem
from client_sim.core.ports import DeviceStore, StoreDamaged, StoreError
from client_sim.core.status import State
from client_sim.store import MemoryStore, SqliteStore
from crdt.replica import Replica
from crdt.update import read_update
from tests.unit.client_sim.fake_server import FakeServer, Room
from tests.unit.client_sim.rig import Rig
from tests.unit.client_sim.store.stores import KEY
from tests.unit.client_sim.store.test_damage import harm

SOAK = "SYNCLINE_SOAK" in os.environ
WRITES = (
    "save_identity", "change_identity", "save_progress", "append_updates", "replace_state", "save_outbox",
    "drop_outbox", "put_aside", "drop_aside", "save_keeping",
)  # fmt: skip


# --- cursor, outbox and cache change together


def replica_in(store: DeviceStore, name: str) -> Replica:
    stored = store.load(name)
    return Replica.load([*([stored.state] if stored.state is not None else []), *stored.updates])


def check_whole(store: DeviceStore, room: Room) -> None:
    """The cache has all that the cursor says that it has, and all that is in the outbox; the outbox all else."""
    stored = store.load("main")
    has = replica_in(store, "main").state_vector()
    seq = stored.progress.seq if stored.progress.epoch == room.epoch else 0
    acknowledged = [update for entry in room.log[: seq or 0] for update in entry.updates]
    for update in (*acknowledged, *(entry.update for entry in stored.outbox)):
        for client, (_, end) in read_update(update).sections.items():
            assert has.get(client, 0) >= end, "the cache lacks what the cursor, or the outbox, stands for"
    op = stored.progress.acked.op
    for entry in stored.outbox:
        if entry.number is not None:
            op += 1
            assert entry.number.op == op
    owned = Replica.load([*acknowledged, *(update for entry in room.log[seq or 0 :] for update in entry.updates)])
    owned.apply([entry.update for entry in stored.outbox])
    assert all(owned.state_vector().get(client, 0) >= clock for client, clock in has.items()), "an edit is nowhere else"


class WatchedStore(MemoryStore):
    """Looks at itself after each transaction, as the next process would."""

    room: Room | None = None

    @contextmanager
    def transaction(self) -> Iterator[None]:
        with super().transaction():
            yield
        if self.room is not None:
            check_whole(self, self.room)


def scenario(rig: Rig, other: Rig) -> None:
    """Edits online and offline, of both, and an answer that was lost."""
    rig.type("<a>").settle()
    other.type("<b>").settle()
    rig.settle()
    rig.type("<c>").deliver_up()
    rig.lose()
    rig.type("<d>").type("<e>")
    other.type("<f>").settle()
    rig.begin().settle()
    for _ in range(3):
        rig.type("<g>").settle()
        other.type("<h>").settle()
        rig.settle()


def begun(store: MemoryStore) -> tuple[Rig, Rig]:
    server = FakeServer()
    return Rig(server, store=store).start(), Rig(server, "laptop", seed=2).start()


def test_every_transaction_leaves_a_whole_store() -> None:
    store = WatchedStore()
    rig, other = begun(store)
    store.room = rig.server.room("main")
    scenario(rig, other)
    assert store.load("main").progress.seq == store.room.head


class Killed(BaseException):
    """The process ends here."""


class MortalStore(MemoryStore):
    """Ends the process at one of its writes, or at the end of one of its transactions."""

    def __init__(self, kill_at: int) -> None:
        super().__init__()
        self.left = kill_at

    def step(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise Killed

    @contextmanager
    def transaction(self) -> Iterator[None]:
        with super().transaction():
            yield
            self.step()
        self.step()


def _mortal(name: str) -> Any:
    def write(self: MortalStore, *args: Any) -> Any:
        self.step()
        return getattr(MemoryStore, name)(self, *args)

    return write


for _name in WRITES:
    setattr(MortalStore, _name, _mortal(_name))


def survives(kill_at: int) -> bool:
    """Run the scenario with a kill; False if it ended before that."""
    server = FakeServer()
    store = MortalStore(kill_at)
    other = Rig(server, "laptop", seed=2).start()
    rig: Rig | None = None
    try:
        rig = Rig(server, store=store).start()
        scenario(rig, other)
    except Killed:
        pass
    else:
        return False
    has = replica_in(store.restarted(), "main").state_vector() if "main" in store.documents() else {}
    again = Rig(server, store=store.restarted(), seed=3).start()
    other.settle()
    again.settle()
    assert again.status.state is State.CURRENT
    assert again.text == other.text == server.room("main").replica.values().get("body", "")
    now = server.room("main").replica.state_vector()
    assert all(now.get(client, 0) >= clock for client, clock in has.items()), "what was stored is not on the server"
    return True


def test_a_kill_at_any_write_loses_nothing_that_was_stored() -> None:
    kill_at = 1
    while survives(kill_at):
        kill_at += 1
    assert kill_at > 50


# --- damage


@settings(max_examples=400 if SOAK else 10, deadline=None)
@given(seed=st.integers(0, 1 << 32), encrypted=st.booleans(), at_work=st.booleans())
def test_a_device_whose_file_is_harmed_ends_current_and_tells(
    tmp_path_factory: pytest.TempPathFactory, seed: int, encrypted: bool, at_work: bool
) -> None:
    rng, key = Random(seed), KEY if encrypted else None
    path = tmp_path_factory.mktemp("harmed") / "phone.db"
    server = FakeServer()
    laptop = Rig(server, "laptop", seed=2).start()
    store = SqliteStore(path, key)
    rig = Rig(server, store=store, seed=3).start()  # type: ignore[arg-type]
    for n in range(rng.randrange(40)):
        rng.choice((rig, laptop)).type(f"<online {n}>").settle()
        rig.settle()
    rig.feed(events.Stopped())
    for n in range(rng.randrange(80)):
        rig.type(f"<offline {n}>")
    before = replica_in(store, "main").state_vector()
    store.close()
    path.write_bytes(harm(path.read_bytes(), rng))

    store = SqliteStore(path, key)
    if at_work:
        _forge(store)
    readable = _readable(store)
    again = Rig(server, store=store, seed=4)  # type: ignore[arg-type]
    for _ in range(4):
        again.begin().settle()
    laptop.settle()
    told = [effect for effect in again.told_of(Problem) if isinstance(effect, Problem)]
    store.close()

    assert again.status.state is State.CURRENT or _is_held(again)
    if _is_held(again):
        assert "owner" in str(again.status.reason)
        return
    room = server.room("main").replica
    assert again.text == laptop.text == room.values().get("body", "")
    now = room.state_vector()
    for update in readable:
        for client, (_, end) in read_update(update).sections.items():
            assert now.get(client, 0) >= end or again.document.aside, "an edit could be read, and is lost"
    if any(now.get(client, 0) < clock for client, clock in before.items()):
        assert [problem.code for problem in told][:1] == ["store_rebuilt"], "edits are missing, and nobody is told"


def _is_held(rig: Rig) -> bool:
    return rig.status.state is State.BLOCKED


def _readable(store: SqliteStore) -> list[bytes]:
    """The edits that the store, as it was opened, still has in its outbox."""
    try:
        return [entry.update for entry in store.load("main").outbox]
    except (StoreDamaged, StoreError):
        return []


def _forge(store: SqliteStore) -> None:
    """Damage that shows when the document is read, though the file is open."""
    with store.transaction():
        store._connection.execute("UPDATE updates SET record = zeroblob(50) WHERE id = (SELECT max(id) FROM updates)")
