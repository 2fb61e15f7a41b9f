"""Storage that fails, over real sockets and a real store: devices are told, send again, and nothing is lost."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import closing
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from client_sim.live import Blocked, Problem
from crdt.ids import DocumentId
from crdt.protocol.frames import Error, Open, Opened, Push
from server.core.ports import CorruptDocument, StorageError
from server.core.records import AppendResult, DocumentAppend, StoredDocument
from tests.integration.server_peers import (
    WITHIN_S,
    check_gapless,
    converged,
    new_device,
    raw_device,
    text_updates,
    write,
)
from tests.integration.server_process import server_process
from tests.server_fixture import RunningServer, running_server

Append = Callable[[Sequence[DocumentAppend]], Awaitable[list[AppendResult]]]
MAIN = DocumentId("alice", "main")
PAGES_OF_SCHEMA = 60


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[RunningServer]:
    async with running_server(tmp_path) as running:
        yield running


def _failing(append: Append, times: int, *, after_all: bool = False) -> Append:
    """Fails `times` times; with `after_all` only once the append is done, so that nobody knows."""
    left = times

    async def fail(batch: Sequence[DocumentAppend]) -> list[AppendResult]:
        nonlocal left
        if left == 0:
            return await append(batch)
        left -= 1
        if after_all:
            await append(batch)
        raise StorageError("the disk says no")

    return fail


@pytest.mark.parametrize("times", [1, 4])
async def test_ops_that_could_not_be_saved_are_sent_again(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    problems: list[Problem] = []
    async with new_device(server.url, "phone") as phone, new_device(server.url, "laptop") as laptop:
        phone.on_error = problems.append
        mine, theirs = await phone.open(), await laptop.open()
        await converged(mine, theirs)
        monkeypatch.setattr(server.storage, "append", _failing(server.storage.append, times))
        for n in range(5):
            write(mine, f"{n} ")
        await mine.wait_durable(WITHIN_S)
        await converged(mine, theirs, to={"body": "0 1 2 3 4 "})
        assert [problem.code for problem in problems] == ["not_saved"] * times
        assert phone.counters.ops_resent >= 5
        assert phone.counters.connections == 1
    assert check_gapless(await server.storage.load(MAIN)) == {"alice/phone": 5}


async def test_ops_that_were_saved_after_all_are_acknowledged_and_not_taken_twice(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with new_device(server.url, "phone") as phone, new_device(server.url, "laptop") as laptop:
        mine, theirs = await phone.open(), await laptop.open()
        await converged(mine, theirs)
        monkeypatch.setattr(server.storage, "append", _failing(server.storage.append, 1, after_all=True))
        write(mine, "once")
        await mine.wait_durable(WITHIN_S)
        await converged(mine, theirs, to={"body": "once"})
    document = await server.storage.load(MAIN)
    assert (document.head_seq, check_gapless(document)) == (1, {"alice/phone": 1})


async def test_a_full_disk_acknowledges_nothing_until_there_is_room(server: RunningServer) -> None:
    pages = {"max": 0}

    def limit(connection: Any, _record: object, _proxy: object) -> None:
        connection.execute(f"PRAGMA max_page_count = {pages['max']}").close()

    event.listen(server.storage._engine.sync_engine, "checkout", limit)
    async with new_device(server.url, "phone") as phone, new_device(server.url, "laptop") as laptop:
        mine, theirs = await phone.open(), await laptop.open()
        write(mine, "saved ")
        await converged(mine, theirs, to={"body": "saved "})
        pages["max"] = PAGES_OF_SCHEMA
        async with server.storage._writer.turn() as writer:
            await writer.driver.execute(f"PRAGMA max_page_count = {PAGES_OF_SCHEMA}")
        write(mine, "large " * 100_000)
        write(mine, "small")
        await phone.wait(lambda: phone.counters.ops_resent >= 4, WITHIN_S)
        assert mine.pending.count == 2
        assert theirs.text("body") == "saved ", "nobody sees what is not durable"
        pages["max"] = 100_000
        await converged(mine, theirs, to={"body": f"saved {'large ' * 100_000}small"})
    assert check_gapless(await server.storage.load(MAIN)) == {"alice/phone": 3}


async def test_a_large_push_waits_for_a_process_to_try_it_in(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system has no process left for a while: that is not the fault of who pastes a page."""

    def out_of_processes(process: ForkServerProcess) -> None:
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    problems: list[Problem] = []
    async with new_device(server.url, "phone") as phone, new_device(server.url, "laptop") as laptop:
        phone.on_error = problems.append
        mine, theirs = await phone.open(), await laptop.open()
        await converged(mine, theirs)
        with monkeypatch.context() as exhausted:
            exhausted.setattr(ForkServerProcess, "start", out_of_processes)
            write(mine, "a page " * 20_000)
            await phone.wait(lambda: len(problems) >= 2, WITHIN_S)
        await converged(mine, theirs, to={"body": "a page " * 20_000})
    assert {problem.code for problem in problems} == {"not_saved"}


# --- one document of several


async def test_a_document_that_can_not_be_read_now_is_read_later_and_the_others_go_on(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    load, left = server.storage.load, 1

    async def fail(document: DocumentId) -> StoredDocument:
        nonlocal left
        if document.name == "sick" and left:
            left -= 1
            raise StorageError("the disk says no")
        return await load(document)

    monkeypatch.setattr(server.storage, "load", fail)
    async with new_device(server.url, "phone") as phone, new_device(server.url, "laptop") as laptop:
        sick, well, other = await phone.open("sick"), await phone.open("well"), await laptop.open("well")
        write(sick, "patience")
        write(well, "fine")
        await converged(well, other, to={"body": "fine"})
        assert sick.pending.count == 1, "it can not have been read yet"
        await converged(sick, to={"body": "patience"})
        assert phone.counters.connections == 1
        assert left == 0


async def test_a_damaged_document_is_refused_and_the_others_go_on(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = server.storage.load

    async def fail(document: DocumentId) -> StoredDocument:
        if document.name == "sick":
            raise CorruptDocument(document, "a checksum is wrong")
        return await load(document)

    monkeypatch.setattr(server.storage, "load", fail)
    async with new_device(server.url, "phone") as phone, new_device(server.url, "laptop") as laptop:
        sick, well, other = await phone.open("sick"), await phone.open("well"), await laptop.open("well")
        write(sick, "kept here")
        with pytest.raises(Blocked, match="doc_quarantined"):
            await sick.wait_current(WITHIN_S)
        write(well, "fine")
        await converged(well, other, to={"body": "fine"})
        assert (sick.text("body"), sick.pending.count) == ("kept here", 1)
        assert phone.counters.connections == 1


async def test_a_refused_update_leaves_the_other_documents_in_sync(server: RunningServer) -> None:
    opens = [Open(1, "one", None, b"\0"), Open(2, "two", None, b"\0")]
    async with raw_device(server.url, *opens) as raw, new_device(server.url, "phone") as phone:
        (one, two) = sorted([await raw.expect(Opened), await raw.expect(Opened)], key=lambda opened: opened.ref)
        updates = text_updates(7, ["good", " and more"])
        await raw.send(Push(one.handle, 1, (b"\xff\xff",)), Push(two.handle, 1, tuple(updates)))
        answers = [await raw.receive(), await raw.receive()]
        assert [type(answer).__name__ for answer in answers] == ["Error", "Ack"]
        await converged(await phone.open("one"), to={})
        await converged(await phone.open("two"), to={"body": "good and more"})


async def test_a_server_ends_though_its_storage_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with asyncio.timeout(WITHIN_S), running_server(tmp_path) as server:
        asked = asyncio.Event()

        async def hang(document: DocumentId) -> StoredDocument:
            asked.set()
            await asyncio.Event().wait()
            raise AssertionError(document)

        monkeypatch.setattr(server.storage, "load", hang)
        async with raw_device(server.url) as raw:
            await raw.send(Open(1, "main", None, b"\x00"))
            await asked.wait()


async def test_a_document_that_was_damaged_on_disk_is_quarantined_until_it_is_released(tmp_path: Path) -> None:
    async with server_process(tmp_path) as server:
        async with new_device(server.url) as phone:
            for name in ("main", "other"):
                document = await phone.open(name)
                write(document, "safe")
                await document.wait_durable(WITHIN_S)
        await server.kill()
        with closing(sqlite3.connect(server.database)) as database:
            database.execute("UPDATE log SET time_ms = time_ms + 1 WHERE document_id = 1")
            database.commit()
        await server.start()
        async with raw_device(server.url, Open(1, "main", None, b"\0"), Open(2, "other", None, b"\0")) as raw:
            answers = [await raw.receive(), await raw.receive()]
            assert {type(answer) for answer in answers} == {Error, Opened}
            assert [answer.code for answer in answers if isinstance(answer, Error)] == ["doc_quarantined"]
        listed = await server.cli("doc", "list", "--quarantined", "--json")
        assert [info["document"] for info in json.loads(listed.out)] == ["alice/main"]
        await server.kill()
        with closing(sqlite3.connect(server.database)) as database:
            database.execute("UPDATE log SET time_ms = time_ms - 1 WHERE document_id = 1")
            database.commit()
        await server.start()
        async with raw_device(server.url, Open(1, "main", None, b"\0")) as raw:
            assert (await raw.expect(Error)).code == "doc_quarantined"
        assert (await server.cli("doc", "release", "alice/main")).code == 0
        async with new_device(server.url, "laptop") as laptop:
            await converged(await laptop.open("main"), to={"body": "safe"})
