"""One process per SQLite file: an append that reads nothing first is right only if nobody else writes."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from server.core.ports import StorageError


class DatabaseInUse(StorageError):
    """Another process has the database open."""


@contextmanager
def database_lock(database: Path) -> Iterator[None]:
    """Hold `<database>.lock` for this process; the system lets go of it however the process ends.

    The file stays: were it removed, two could hold locks on two files of one name. It is locked by open file, so a
    worker that was forked, not spawned, holds it too. Raises DatabaseInUse, with the holder's pid, or StorageError.
    """
    lock_file = Path(f"{database}.lock")
    try:
        descriptor = os.open(lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        raise StorageError(f"{lock_file} cannot be opened: {exc.strerror}") from exc
    try:
        _lock(descriptor, database)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, database: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as exc:
        holder = os.pread(descriptor, 20, 0).decode(errors="replace") or "unknown"
        raise DatabaseInUse(f"{database} is in use by process {holder}") from exc
