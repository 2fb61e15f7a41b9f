"""A store of version 1 goes on as one of this version, with all that it had; one of a later version is not touched."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from client_sim.core import events
from client_sim.core.ports import Identity, OutboxEntry, Progress, StoredDocument, StoreError, StoreLocked, StoreRefused
from client_sim.core.status import State
from client_sim.store import SqliteStore
from client_sim.store.schema import SCHEMA_VERSION, Rows
from crdt.chain import OPS_START, OpState
from crdt.replica import Replica
from tests.unit.client_sim.fake_server import FakeServer
from tests.unit.client_sim.rig import Rig
from tests.unit.client_sim.store.stores import typed

VERSION_1 = """
CREATE TABLE identity (device TEXT NOT NULL, user TEXT);
CREATE TABLE documents (
  document TEXT PRIMARY KEY,
  epoch BLOB, seq INTEGER,
  acked_op INTEGER NOT NULL DEFAULT 0, acked_chain BLOB NOT NULL DEFAULT (zeroblob(8)),
  held TEXT,
  state BLOB
) WITHOUT ROWID;
CREATE TABLE updates (position INTEGER PRIMARY KEY, document TEXT NOT NULL, bytes BLOB NOT NULL);
CREATE INDEX updates_of ON updates (document, position);
CREATE TABLE outbox (
  document TEXT, position INTEGER, bytes BLOB NOT NULL, op INTEGER, chain BLOB, heal INTEGER NOT NULL,
  PRIMARY KEY (document, position)
) WITHOUT ROWID;
CREATE TABLE aside (position INTEGER PRIMARY KEY, document TEXT NOT NULL, bytes BLOB NOT NULL);
PRAGMA application_id = 1398361667;
PRAGMA user_version = 1;
"""
"""As programs of that version began it."""


def version_1(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.executescript(VERSION_1)
    connection.execute("INSERT INTO identity VALUES ('phone', 'alice')")
    connection.execute(
        "INSERT INTO documents VALUES ('main', ?, 7, 3, ?, 'bad_update', ?)", (b"epoch 01", b"chain  3", b"state")
    )
    connection.execute("INSERT INTO documents (document) VALUES ('bob/other')")
    updates = [("main", b"u2"), ("bob/other", b"o"), ("main", b"u1")]
    connection.executemany("INSERT INTO updates (document, bytes) VALUES (?, ?)", updates)
    connection.execute("INSERT INTO outbox VALUES ('main', 4, ?, 4, ?, 0)", (b"four", b"chain  4"))
    connection.execute("INSERT INTO outbox VALUES ('main', 6, ?, NULL, NULL, 1)", (b"six",))
    connection.executemany("INSERT INTO aside (document, bytes) VALUES (?, ?)", [("main", b"b"), ("main", b"a")])
    connection.commit()
    return connection


def check(store: SqliteStore) -> None:
    assert store.salvage() is None
    assert store.identity() == Identity("phone", "alice")
    assert store.documents() == ["bob/other", "main"]
    assert store.load("main") == StoredDocument(
        Progress(b"epoch 01", 7, OpState(3, b"chain  3"), "bad_update"),
        b"state",
        (b"u2", b"u1"),
        (OutboxEntry(4, b"four", OpState(4, b"chain  4")), OutboxEntry(6, b"six", heal=True)),
    )
    assert store.load("bob/other") == StoredDocument(Progress(None, None, OPS_START), None, (b"o",))
    assert store.aside("main") == [b"b", b"a"]


def test_all_that_version_1_had_is_there(tmp_path: Path) -> None:
    path = tmp_path / "phone.db"
    version_1(path).close()
    for _ in range(2):
        store = SqliteStore(path)
        check(store)
        store.close()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["phone.db"]


def test_what_is_only_in_the_log_of_a_killed_process_is_there_too(tmp_path: Path) -> None:
    connection = version_1(tmp_path / "live.db")
    for ending in ("", "-wal"):
        (tmp_path / f"copy.db{ending}").write_bytes((tmp_path / f"live.db{ending}").read_bytes())
    connection.close()
    store = SqliteStore(tmp_path / "copy.db")
    check(store)
    store.close()


def test_it_goes_on_from_where_it_was(tmp_path: Path) -> None:
    path = tmp_path / "phone.db"
    version_1(path).close()
    store = SqliteStore(path)
    with store.transaction():
        store.append_updates("main", [b"u3"])
        store.put_aside("main", [b"c"])
    assert store.load("main").updates == (b"u2", b"u1", b"u3")
    assert store.aside("main") == [b"b", b"a", b"c"]
    store.close()


def test_a_device_that_was_upgraded_sends_what_it_had(tmp_path: Path) -> None:
    path = tmp_path / "phone.db"
    connection = sqlite3.connect(path)
    connection.executescript(VERSION_1)
    update = typed(Replica(1), "typed before the upgrade")
    connection.execute("INSERT INTO identity VALUES ('phone', 'alice')")
    connection.execute("INSERT INTO documents (document) VALUES ('main')")
    connection.execute("INSERT INTO updates (document, bytes) VALUES ('main', ?)", (update,))
    connection.execute("INSERT INTO outbox VALUES ('main', 1, ?, NULL, NULL, 0)", (update,))
    connection.commit()
    connection.close()
    store = SqliteStore(path)
    server = FakeServer()
    rig = Rig(server, store=store)  # type: ignore[arg-type]
    rig.start()
    assert rig.status.state is State.CURRENT
    rig.feed(events.Stopped())
    store.close()
    assert server.room("main").replica.values() == {"body": "typed before the upgrade"}


@pytest.mark.parametrize("fails_at", [1, 3, 6])
def test_an_upgrade_that_fails_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails_at: int) -> None:
    path = tmp_path / "phone.db"
    version_1(path).close()
    put, calls = Rows.put, 0

    def full(*args: object) -> None:
        nonlocal calls
        calls += 1
        if calls == fails_at:
            raise sqlite3.OperationalError("database or disk is full")
        put(*args)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(Rows, "put", full)
        with pytest.raises(StoreError, match="full"):
            SqliteStore(path)
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA user_version").fetchone() == (1,)
    assert connection.execute("SELECT count(*) FROM outbox").fetchone() == (2,)
    connection.close()
    store = SqliteStore(path)
    check(store)
    store.close()


def test_a_damaged_store_of_version_1_is_saved_as_far_as_it_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "phone.db"
    connection = version_1(path)
    update = typed(Replica(1), "typed")
    connection.execute("UPDATE outbox SET bytes = ?", (update,))
    connection.executemany(
        "INSERT INTO updates (document, bytes) VALUES (?, ?)", [("main", bytes(3000)) for _ in range(20)]
    )
    connection.commit()
    root = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'updates'").fetchone()[0]
    connection.close()
    data = bytearray(path.read_bytes())
    data[(root - 1) * 4096 : root * 4096] = bytes(4096)
    path.write_bytes(data)
    store = SqliteStore(path)
    salvage = store.salvage()
    assert salvage is not None
    assert (salvage.edits, salvage.aside) == (2, 2)
    assert [entry.update for entry in store.load("main").outbox] == [update, update]
    assert store.identity() == Identity("phone", "alice")
    store.close()


def test_a_later_version_is_refused_and_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "phone.db"
    SqliteStore(path).close()
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    connection.execute(f"UPDATE store SET version = {SCHEMA_VERSION + 1}")
    connection.execute("CREATE TABLE inventions (x)")
    connection.commit()
    connection.close()
    before = path.read_bytes()
    with pytest.raises(StoreRefused, match=f"version {SCHEMA_VERSION + 1}"):
        SqliteStore(path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["phone.db"]


def test_a_version_that_is_not_the_stores_own_word_is_damage(tmp_path: Path) -> None:
    """One flipped bit of the header must not shut the app out."""
    path = tmp_path / "phone.db"
    SqliteStore(path).close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 64")
    connection.close()
    store = SqliteStore(path)
    assert store.salvage() is not None
    store.close()


def test_version_1_was_never_encrypted(tmp_path: Path) -> None:
    path = tmp_path / "phone.db"
    version_1(path).close()
    before = path.read_bytes()
    with pytest.raises(StoreLocked, match="never encrypted"):
        SqliteStore(path, bytes(32))
    assert path.read_bytes() == before
