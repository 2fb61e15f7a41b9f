"""Commits that fail while devices wait for them: rooms acknowledge what is durable, and only that, and go on."""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from client_sim.live import AsyncDevice, AsyncDocument
from crdt.ids import DocumentId
from server.storage import SqlStorage, engines, sql
from tests.crash.steps import FULL, IO_ERROR, Call, Fault, at_step, refused, unreported
from tests.integration.server_peers import WITHIN_S, check_gapless, converged, new_device, write
from tests.server_fixture import RunningServer, running_server
from tests.support import wait_until

_log = logging.getLogger(__name__)

SOAK = bool(os.environ.get("SYNCLINE_SOAK"))
MAIN = DocumentId("alice", "main")
FAULTS = (refused(FULL), unreported(FULL), refused(IO_ERROR), unreported(IO_ERROR))
APPEND_CALLS = 2
LOAD_CALLS = range(15)
"""After an append that failed, its documents are loaded again; 0 lets that go well."""


def last_op(database: Path, device: str) -> int:
    """The last of a device's ops that is durable, as another reader of the file sees it."""
    with closing(sqlite3.connect(database)) as reader:
        ((op,),) = reader.execute("SELECT coalesce(max(last_op), 0) FROM log WHERE device = ?", (device,))
    return int(op)


@pytest.fixture(autouse=True)
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections do not wait for a lock."""
    monkeypatch.setattr(engines, "_PRAGMAS", (*engines._PRAGMAS, ("busy_timeout", 1)))


class Typist:
    """A phone that types; a laptop that reads all the time, and a tablet that comes while a commit fails."""

    def __init__(self, folder: Path, phone: AsyncDocument, laptop: AsyncDocument) -> None:
        self._database = folder / "syncline.db"
        self._phone = phone
        self._laptop = laptop
        self._typed = ""

    def type(self) -> None:
        word = f"{len(self._typed)} "
        self._typed += word
        write(self._phone, word)

    async def acknowledged(self, url: str) -> None:
        """Once all that was typed is acknowledged it is in the file, and whoever comes sees all of it."""
        async with new_device(url, "tablet") as tablet:
            newcomer = await tablet.open()
            await self._phone.wait_durable(WITHIN_S)
            assert last_op(self._database, "phone") == self._typed.count(" ")
            await converged(self._phone, self._laptop, newcomer, to={"body": self._typed})


@pytest.fixture
def beside(monkeypatch: pytest.MonkeyPatch) -> None:
    """All commits go to the database's thread, whose calls are what fails."""
    monkeypatch.setattr(SqlStorage, "append_at_once", lambda self, batch: None)


async def fail(server: RunningServer, typist: Typist, first: tuple[int, Fault], second: tuple[int, Fault]) -> int:
    """Type while the append fails at a call, and the load after it too; how many calls failed."""
    with at_step(first[0], first[1]) as append, at_step(first[0] + second[0], second[1]) as load:
        typist.type()
        typist.type()
        await typist.acknowledged(server.url)
    return append.hit + (load.hit and bool(second[0]))


@pytest.mark.usefixtures("beside")
async def test_rooms_acknowledge_what_is_in_after_commits_failed(tmp_path: Path) -> None:
    cases = [
        ((step, fault), (load, FAULTS[(load + step) % len(FAULTS)]))
        for step in range(1, APPEND_CALLS + 1)
        for fault in FAULTS
        for load in LOAD_CALLS
    ]
    failed = 0
    async with (
        running_server(tmp_path) as server,
        new_device(server.url, "phone") as phone,
        new_device(server.url, "laptop") as laptop,
    ):
        typist = Typist(tmp_path, await phone.open(), await laptop.open())
        typist.type()
        await typist.acknowledged(server.url)
        for first, second in cases if SOAK else cases[::64]:
            failed += await fail(server, typist, first, second)
        check_gapless(await server.storage.load(MAIN))
        assert phone.counters.heals == laptop.counters.heals == 0
    _log.info("%d calls failed under rooms", failed)


@pytest.mark.parametrize("is_in", [False, True])
async def test_rooms_acknowledge_what_is_in_after_a_commit_at_once_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_in: bool
) -> None:
    insert, is_due, failed = sql._insert_and_commit, False, 0

    def failing(connection: sqlite3.Connection, rows: Sequence[tuple[Any, ...]]) -> None:
        nonlocal is_due, failed
        if is_in or not is_due:
            insert(connection, rows)
        if is_due:
            is_due, failed = False, failed + 1
            raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(sql, "_insert_and_commit", failing)
    async with (
        running_server(tmp_path) as server,
        new_device(server.url, "phone") as phone,
        new_device(server.url, "laptop") as laptop,
    ):
        typist = Typist(tmp_path, await phone.open(), await laptop.open())
        for times in range(1, 20 if SOAK else 4):
            typist.type()
            await typist.acknowledged(server.url)  # the store knows again where the document is
            is_due = True
            typist.type()
            await typist.acknowledged(server.url)
            assert failed == times
        check_gapless(await server.storage.load(MAIN))
        assert phone.counters.heals == laptop.counters.heals == 0


async def test_rooms_acknowledge_after_somebody_else_had_the_lock(tmp_path: Path) -> None:
    async with (
        running_server(tmp_path) as server,
        new_device(server.url, "phone") as phone,
        new_device(server.url, "laptop") as laptop,
    ):
        typist = Typist(tmp_path, document := await phone.open(), await laptop.open())
        typist.type()
        await typist.acknowledged(server.url)
        for _ in range(20 if SOAK else 2):
            resent = phone.counters.ops_resent
            with closing(sqlite3.connect(tmp_path / "syncline.db", isolation_level=None)) as rival:
                rival.execute("BEGIN IMMEDIATE")
                typist.type()
                await wait_until(lambda resent=resent: phone.counters.ops_resent > resent)  # type: ignore[misc]
                assert document.pending.count == 1
            await typist.acknowledged(server.url)
        check_gapless(await server.storage.load(MAIN))


def hanging(reached: asyncio.Event, *, done: bool) -> Fault:
    """The call does not return, though it may be done."""

    async def fault(call: Call) -> None:
        if done:
            await call()
        reached.set()
        await asyncio.Event().wait()

    return fault


async def end_amid_an_append(folder: Path, port: int, phone: AsyncDevice, typist: Typist, step: int) -> None:
    """A server whose tasks are cancelled while an append is at its n-th call."""
    reached = asyncio.Event()
    async with running_server(folder, port=port) as server:
        phone.reconnect()
        await typist.acknowledged(server.url)
        with at_step(-(-step // 2), hanging(reached, done=step % 2 == 0)):
            typist.type()
            async with asyncio.timeout(WITHIN_S):
                await reached.wait()


@pytest.mark.usefixtures("beside")
async def test_a_server_that_ends_amid_an_append_left_it_in_or_out(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        url, port = server.url, server.address[1]
    async with new_device(url, "phone") as phone, new_device(url, "laptop") as laptop:
        typist = Typist(tmp_path, await phone.open(), await laptop.open())
        typist.type()
        for step in [*range(1, 2 * APPEND_CALLS + 1)] * 8 if SOAK else (2, 3):
            await end_amid_an_append(tmp_path, port, phone, typist, step)
        async with running_server(tmp_path, port=port) as server:
            phone.reconnect()
            await typist.acknowledged(server.url)
            check_gapless(await server.storage.load(MAIN))
