from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from server.core.ports import StorageError
from server.storage import open_storage
from server.storage.lock import DatabaseInUse, database_lock
from tests.contract.storage_support import ALICE, entry, put, url_of

HOLD = """
import sys
from pathlib import Path
from server.storage.lock import database_lock
with database_lock(Path(sys.argv[1])):
    print("locked", flush=True)
    sys.stdin.read()
"""


def holder_of(file: Path) -> subprocess.Popen[str]:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "locked\n"
    return holder


def test_a_second_process_is_told_who_has_it(tmp_path: Path) -> None:
    with holder_of(tmp_path / "db") as holder:
        with pytest.raises(DatabaseInUse, match=f"process {holder.pid}$"), database_lock(tmp_path / "db"):
            pass
        holder.kill()


def test_a_killed_holder_holds_nothing(tmp_path: Path) -> None:
    with holder_of(tmp_path / "db") as holder:
        os.kill(holder.pid, signal.SIGKILL)
    with database_lock(tmp_path / "db"):
        pass


async def test_one_store_at_a_time_on_a_file(tmp_path: Path) -> None:
    url = url_of(tmp_path / "db")
    async with open_storage(url) as storage:
        await put(storage, ALICE, entry(1))
        with pytest.raises(DatabaseInUse, match=str(os.getpid())):
            async with open_storage(url):
                pytest.fail("opened twice")
    async with open_storage(url) as storage:
        assert (await storage.load(ALICE)).entries == (entry(1),)


def test_a_place_that_cannot_be_written_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError), database_lock(tmp_path / "no such directory" / "db"):
        pass


async def test_only_its_owner_can_read_a_store(tmp_path: Path) -> None:
    async with open_storage(url_of(tmp_path / "db")) as storage:
        await put(storage, ALICE, entry(1))
        assert modes(tmp_path) == {"db": 0o600, "db.lock": 0o600, "db-wal": 0o600, "db-shm": 0o600}


def modes(directory: Path) -> dict[str, int]:
    return {file.name: file.stat().st_mode & 0o777 for file in directory.iterdir()}
