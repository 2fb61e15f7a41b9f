"""How one database file takes another's place, so that a crash at any moment leaves the one or the other.

A successor is written as `<name>.rebuilding`, which counts for nothing. When it is whole it becomes `<name>.rebuilt`,
which from then on is the store: whatever is left to be renamed is renamed when it is opened next.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_LOG = "-wal"
_LOGS = (_LOG, "-shm", "-journal")
_LOG_AWAY = "-wal-away"


def begin_successor(path: Path) -> Path:
    """The name of a successor to write; what an earlier try left there is removed. Raises OSError."""
    drop_unfinished(path)
    return _unfinished(path)


def drop_unfinished(path: Path) -> None:
    """Remove what a try to write a successor left. Raises OSError."""
    fresh = _unfinished(path)
    for file in (fresh, *_logs(fresh)):
        file.unlink(missing_ok=True)


def log_of(path: Path) -> bytes:
    """What its write-ahead log has; nothing if there is none. Raises OSError."""
    log = _beside(path, _LOG)
    return log.read_bytes() if log.exists() else b""


@contextmanager
def log_kept(path: Path) -> Iterator[None]:
    """SQLite removes the log when the database is closed, with all that it did not take of it: not inside of this.

    Raises OSError. What it did take is in the database, and in the log once more: that changes nothing.
    """
    log = _beside(path, _LOG)
    if log.exists() and log.stat().st_size:
        log.rename(_beside(path, _LOG_AWAY))
    try:
        yield
    finally:
        _put_log_back(path)


def _put_log_back(path: Path) -> None:
    if (away := _beside(path, _LOG_AWAY)).exists():
        away.rename(_beside(path, _LOG))


def free_name(path: Path) -> Path:
    """Where the damaged file goes: `<name>.damaged-<n>`, which nothing has yet."""
    n = 1
    while (kept := _beside(path, f".damaged-{n}")).exists():
        n += 1
    return kept


def replace(path: Path) -> None:
    """Let the successor, which is whole and closed, be the store, and the store be set aside. Raises OSError."""
    fresh = _unfinished(path)
    _sync(fresh)
    fresh.rename(_beside(path, ".rebuilt"))
    _sync(path.parent)
    finish_replacing(path)


def finish_replacing(path: Path) -> None:
    """Rename what a crash left to be renamed. Raises OSError.

    Logs go before their database: beside another one they would be taken for its own.
    """
    _put_log_back(path)
    rebuilt, kept_as = _beside(path, ".rebuilt"), free_name(path)
    if not rebuilt.exists():
        return
    for file, kept in zip((*_logs(path), path), (*_logs(kept_as), kept_as), strict=True):
        if file.exists():
            file.rename(kept)
    _sync(path.parent)
    rebuilt.rename(path)
    _sync(path.parent)


def _unfinished(path: Path) -> Path:
    return _beside(path, ".rebuilding")


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(path.name + ending)


def _logs(path: Path) -> tuple[Path, ...]:
    return tuple(_beside(path, ending) for ending in _LOGS)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
