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
WAYS = ("at_once", "beside")
"""On the loop's thread, where single entries are committed, or on the database's."""


def prepare(crash: str) -> None:
    """This process, which is to serve, ends at `point/way:trigger` once the file `trigger` is there."""
    place, _, trigger = crash.partition(":")
    point, _, way = place.partition("/")
    _prepare(point, way, Path(trigger).exists)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class _Death:
    """At one point, once it is armed."""

    def __init__(self, point: str, armed: Callable[[], bool]) -> None:
        self.point = point
        self.armed = armed

    def passing(self, here: str) -> None:
        if self.point == here and self.armed():
            die()

    def appended(self) -> None:
        self.passing("after_append")
        if self.point.startswith("amid_sends") and self.armed():
            patch.object(Flusher, "_flush", _flush_one(backwards=self.point.endswith("backwards"))).start()


def _prepare(point: str, way: str, armed: Callable[[], bool]) -> None:
    append, append_at_once, insert = SqlStorage.append, SqlStorage.append_at_once, sql._insert_and_commit
    death = _Death(point, armed)

    async def dying_append(self: SqlStorage, batch: Any) -> Any:
        assert way == "beside" or not armed(), "it is to be at once"
        death.passing("before_append")
        results = await append(self, batch)
        death.appended()
        return results

    def dying_at_once(self: SqlStorage, batch: Any) -> Any:
        if way != "at_once":
            return None
        death.passing("before_append")
        results = append_at_once(self, batch)
        if results is not None:
            death.appended()
        return results

    class Dying:
        """The driver's own connection, as an append of known documents has it."""

        def __init__(self, connection: sqlite3.Connection) -> None:
            self._connection = connection
            self.executemany = connection.executemany

        def commit(self) -> None:
            death.passing("before_commit")
            self._connection.commit()
            death.passing("after_commit")

    def dying_insert(connection: sqlite3.Connection, rows: Any) -> None:
        insert(cast("sqlite3.Connection", Dying(connection)), rows)

    patch.object(SqlStorage, "append", dying_append).start()
    patch.object(SqlStorage, "append_at_once", dying_at_once).start()
    patch.object(sql, "_insert_and_commit", dying_insert).start()


def _flush_one(*, backwards: bool) -> Callable[[Any], None]:
    def flush(self: Any) -> None:
        """The event loop hands bytes to the kernel at the end of its turn, so that death comes some turns later."""
        waiting = [connection for connection in self._waiting if connection._outbox]
        assert len(waiting) > 1, "somebody else has to be told as well"
        waiting[-1 if backwards else 0].flush()
        asyncio.get_running_loop().call_later(0.02, die)

    return flush
