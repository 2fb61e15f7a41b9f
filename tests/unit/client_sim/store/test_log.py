"""What a killed process leaves in its write-ahead log: no flipped bit takes an edit with it without a word."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random

import pytest

from client_sim.core.ports import Identity, OutboxEntry, StoreError, StoreLocked
from client_sim.store import SqliteStore, log
from client_sim.store.pages import PAGE_BYTES
from client_sim.store.schema import Rows
from crdt.replica import Replica
from tests.unit.client_sim.store.stores import KEY, typed

SOAK = "SYNCLINE_SOAK" in os.environ
FRAME_BYTES = 24 + PAGE_BYTES
FIRST_LIFE, LAST_LIFE = 20, 30
"""Edits that are in the file, and those that are in its log alone."""


class Killed:
    """The files of a process that was killed: `edits` in the order in which they were made."""

    def __init__(self, home: Path, key: bytes | None, *, first_life: int = FIRST_LIFE) -> None:
        self.path = home / "phone.db"
        self.key = key
        replica = Replica(7)
        self.edits = [typed(replica, f"edit {n} ") for n in range(first_life + LAST_LIFE)]
        alive = home / "alive.db"
        if first_life:
            store = self._opened(alive)
            self._write(store, range(first_life))
            store.close()
        store = self._opened(alive)
        self._write(store, range(first_life, len(self.edits)))
        for ending in ("", "-wal"):
            shutil.copy(f"{alive}{ending}", f"{self.path}{ending}")
        store.close()
        self.database, self.log = self.path.read_bytes(), self.log_path.read_bytes()

    def _opened(self, path: Path) -> SqliteStore:
        store = SqliteStore(path, self.key)
        if store.identity() is None:
            with store.transaction():
                store.save_identity(Identity("phone", "alice"))
        return store

    def _write(self, store: SqliteStore, numbers: range) -> None:
        for n in numbers:
            with store.transaction():
                store.append_updates("main", [self.edits[n]])
                store.save_outbox("main", [OutboxEntry(n + 1, self.edits[n])])

    @property
    def log_path(self) -> Path:
        return self.path.with_name("phone.db-wal")

    def restore(self, log: bytes) -> None:
        for file in self.path.parent.glob("phone.db*"):
            file.unlink()
        self.path.write_bytes(self.database)
        self.log_path.write_bytes(log)

    def found(self) -> tuple[list[bytes], SqliteStore]:
        store = SqliteStore(self.path, self.key)
        return [entry.update for entry in store.load("main").outbox], store


@pytest.fixture(scope="module", params=["plain", "encrypted", "young"])
def killed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Killed:
    """Of a young store all that it ever had is in the log."""
    home, kind = tmp_path_factory.mktemp("killed"), request.param
    return Killed(home, KEY if kind == "encrypted" else None, first_life=0 if kind == "young" else FIRST_LIFE)


def flipped(data: bytes, at: int, bit: int = 0) -> bytes:
    return data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]


def test_a_log_that_is_whole_is_read_to_its_end(killed: Killed) -> None:
    killed.restore(killed.log)
    edits, store = killed.found()
    store.close()
    assert (edits, store.salvage()) == (killed.edits, None)


def test_no_flipped_bit_takes_edits_without_a_word(killed: Killed) -> None:
    """And only the edits go whose own bytes are harmed."""
    rng, worst = Random(6), 0
    heads = range(0, 56, 1 if SOAK else 14)
    for at in [*heads, *(rng.randrange(len(killed.log)) for _ in range(2000 if SOAK else 10))]:
        killed.restore(flipped(killed.log, at, rng.randrange(8)))
        edits, store = killed.found()
        salvage = store.salvage()
        store.close()
        if salvage is None:
            assert edits == killed.edits, f"a bit of byte {at} takes {len(killed.edits) - len(edits)} edits unnoticed"
        else:
            assert salvage.edits == len(edits)
            worst = max(worst, len(killed.edits) - len(edits))
    assert worst <= 1


def test_nor_do_the_last_edits_go_without_a_word(killed: Killed) -> None:
    for back in range(100, 3 * FRAME_BYTES, 50 if SOAK else 1900):
        killed.restore(flipped(killed.log, len(killed.log) - back))
        edits, store = killed.found()
        salvage = store.salvage()
        store.close()
        assert salvage is not None
        assert len(edits) >= len(killed.edits) - 1


def test_a_write_that_was_cut_off_is_no_damage(killed: Killed) -> None:
    """What a kill in the midst of a transaction leaves: the transactions before it are there, and nobody is alarmed."""
    rng = Random(7)
    for length in (rng.randrange(len(killed.log)) for _ in range(300 if SOAK else 10)):
        killed.restore(killed.log[:length])
        edits, store = killed.found()
        store.close()
        assert store.salvage() is None
        assert edits == killed.edits[: len(edits)]


def test_what_an_earlier_log_left_behind_is_no_damage(tmp_path: Path) -> None:
    """A log that begins anew overwrites the one before it, which was longer."""
    path = tmp_path / "phone.db"
    store = SqliteStore(path)
    for size in (400_000, 10):
        with store.transaction():
            store.append_updates("main", [bytes(size)])
        store._connection.execute("PRAGMA wal_checkpoint(RESTART)")
    with store.transaction():
        store.append_updates("main", [b"the last"])
    copy = tmp_path / "copy.db"
    for ending in ("", "-wal"):
        shutil.copy(f"{path}{ending}", f"{copy}{ending}")
    store.close()
    written = (tmp_path / "copy.db-wal").read_bytes()
    assert 0 < len(log.frames(written)) < len(written) // FRAME_BYTES
    store = SqliteStore(copy)
    assert store.salvage() is None
    assert store.load("main").updates[-1] == b"the last"
    store.close()


@pytest.mark.parametrize("operation", ["rename", "unlink", "put"])
@pytest.mark.parametrize("fails_at", range(1, 5))
def test_the_log_is_there_until_all_of_it_is_saved(
    killed: Killed, monkeypatch: pytest.MonkeyPatch, operation: str, fails_at: int
) -> None:
    killed.restore(flipped(killed.log, 32 + 5 * FRAME_BYTES + 2000))
    owner: type = Rows if operation == "put" else Path
    real: Callable[..., object] = getattr(owner, operation)
    calls = 0

    def failing(*args: object, **kwargs: object) -> object:
        nonlocal calls
        calls += 1
        if calls > fails_at:
            raise OSError("the device fails")
        return real(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(owner, operation, failing)
        with suppress(StoreError):
            SqliteStore(killed.path, killed.key).close()
    edits, store = killed.found()
    store.close()
    assert len(edits) >= len(killed.edits) - 1
    assert not [file for file in killed.path.parent.iterdir() if "rebuilding" in file.name or "away" in file.name]


def test_a_wrong_key_leaves_a_damaged_log_alone(tmp_path: Path) -> None:
    killed = Killed(tmp_path, KEY)
    harmed = flipped(killed.log, 32 + 2 * FRAME_BYTES + 1000)
    killed.restore(harmed)
    for wrong in (None, bytes(32)):
        with pytest.raises(StoreLocked):
            SqliteStore(killed.path, wrong)
        assert killed.log_path.read_bytes() == harmed
    edits, store = killed.found()
    store.close()
    assert len(edits) >= len(killed.edits) - 1
