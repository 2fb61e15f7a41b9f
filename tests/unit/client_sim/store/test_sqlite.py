"""What only a file can suffer."""

from __future__ import annotations

import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from client_sim.core.ports import OutboxEntry, StoreError, StoreRefused
from client_sim.store import SqliteStore

WRITER = """
import sys
from pathlib import Path
from client_sim.core.ports import OutboxEntry
from client_sim.store import SqliteStore

store = SqliteStore(Path(sys.argv[1]))
position = 0
while True:
    position += 1
    with store.transaction():
        store.append_updates("main", [position.to_bytes(4, "big")])
        store.save_outbox("main", [OutboxEntry(position, position.to_bytes(4, "big"))])
    print(position, flush=True)
"""


@pytest.mark.parametrize("transactions", [1, 7, 40])
def test_a_killed_process_leaves_whole_transactions(tmp_path: Path, transactions: int) -> None:
    path = tmp_path / "device.db"
    with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        reported = [int(writer.stdout.readline()) for _ in range(transactions)][-1]
        writer.send_signal(signal.SIGKILL)
        reported = int(([str(reported), *writer.stdout.read().split()])[-1])
    store = SqliteStore(path)
    stored = store.load("main")
    store.close()
    assert len(stored.updates) == len(stored.outbox) >= reported
    assert [entry.update for entry in stored.outbox] == list(stored.updates)


def test_a_copy_taken_at_any_moment_is_whole(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "device.db")
    for position in range(1, 30):
        with store.transaction():
            store.append_updates("main", [b"x"])
            store.save_outbox("main", [OutboxEntry(position, b"x")])
        copy = tmp_path / f"copy{position}"
        copy.mkdir()
        for file in sorted(tmp_path.glob("device.db*")):
            shutil.copy(file, copy / file.name)
        restarted = SqliteStore(copy / "device.db")
        assert len(restarted.load("main").updates) == len(restarted.load("main").outbox) == position
        restarted.close()
    store.close()


def test_every_transaction_is_synced(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "device.db")
    assert store._connection.execute("PRAGMA synchronous").fetchone() == (2,)
    assert store._connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    store.close()


def test_a_store_has_one_owner_at_a_time(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "device.db")
    with pytest.raises(StoreError, match="locked"):
        SqliteStore(tmp_path / "device.db")
    store.close()
    SqliteStore(tmp_path / "device.db").close()


def test_another_programs_database_is_not_taken(tmp_path: Path) -> None:
    path = tmp_path / "device.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE theirs (x)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(StoreRefused, match="another program's"):
        SqliteStore(path)
    assert path.read_bytes() == before
    assert sorted(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_an_error_that_loses_nothing(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "device.db")
    with store.transaction():
        store.append_updates("main", [b"kept"])
    pages = store._connection.execute("PRAGMA page_count").fetchone()[0]
    store._connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StoreError, match="full"), store.transaction():
        store.append_updates("main", [bytes(100_000)])
    assert store.load("main").updates == (b"kept",)
    store.close()


def test_a_path_that_can_not_be_opened_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError):
        SqliteStore(tmp_path / "nowhere" / "device.db")


def test_a_wipe_leaves_no_byte_of_the_content_in_the_files(tmp_path: Path) -> None:
    """Nor in the write-ahead log, though the store stays open."""
    secret = b"my deepest secret"

    def files_with_it() -> list[str]:
        return [path.name for path in sorted(tmp_path.iterdir()) if secret in path.read_bytes()]

    store = SqliteStore(tmp_path / "device.db")
    with store.transaction():
        store.append_updates("main", [secret * 1000])
        store.save_outbox("main", [OutboxEntry(1, secret)])
        store.put_aside("main", [secret])
    assert files_with_it() != []
    with store.transaction():
        store.wipe()
    assert files_with_it() == []
    with store.transaction():
        store.append_updates("main", [b"another user's"])
    assert store.load("main").updates == (b"another user's",)
    store.close()
