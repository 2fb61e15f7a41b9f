"""Places where a server dies of SIGKILL, each between two steps of an op's way: for a process that is to be killed."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

from server.runtime.transport import Flusher
from server.storage import SqlStorage, sql

POINTS = ("before_append", "before_commit", "after_commit", "after_append", "amid_sends", "amid_sends_backwards")
"""Before storage is called; in the transaction; committed, but not known; known, but not told; told to the first of
those who are to be told, or to the last of them.
"""


def prepare(crash: str) -> None:
    """This process, which is to serve, ends at `point:trigger` once the file `trigger` is there."""
    point, _, trigger = crash.partition(":")
    _prepare(point, Path(trigger).exists)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _prepare(point: str, armed: Callable[[], bool]) -> None:
    append, insert = SqlStorage.append, sql._insert_and_commit

    def passing(here: str) -> None:
        if point == here and armed():
            die()

    async def dying_append(self: SqlStorage, batch: Any) -> Any:
        passing("before_append")
        results = await append(self, batch)
        passing("after_append")
        if point.startswith("amid_sends") and armed():
            patch.object(Flusher, "_flush", _flush_one(backwards=point.endswith("backwards"))).start()
        return results

    class Dying:
        """The driver's own connection, as an append of known documents has it on the database's thread."""

        def __init__(self, connection: sqlite3.Connection) -> None:
            self._connection = connection
            self.executemany = connection.executemany

        def commit(self) -> None:
            passing("before_commit")
            self._connection.commit()
            passing("after_commit")

    def dying_insert(connection: sqlite3.Connection, rows: Any) -> None:
        insert(cast("sqlite3.Connection", Dying(connection)), rows)

    patch.object(SqlStorage, "append", dying_append).start()
    patch.object(sql, "_insert_and_commit", dying_insert).start()


def _flush_one(*, backwards: bool) -> Callable[[Any], None]:
    def flush(self: Any) -> None:
        """The event loop hands bytes to the kernel at the end of its turn, so that death comes some turns later."""
        waiting = [connection for connection in self._waiting if connection._outbox]
        assert len(waiting) > 1, "somebody else has to be told as well"
        waiting[-1 if backwards else 0].flush()
        asyncio.get_running_loop().call_later(0.02, die)

    return flush
