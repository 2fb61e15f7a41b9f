"""Values are made once for each version of a document, and kept within a bound."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from pycrdt import Text

from crdt.ids import DocumentId
from crdt.protocol.frames import Cursor
from crdt.replica import Replica
from server.runtime.api import values
from server.runtime.api.values import Values
from server.runtime.visits import Refused
from server.runtime.worker import Worker

MAIN = DocumentId("alice", "main")
EPOCH = bytes(8)


class Document:
    """Counts how often it is read."""

    def __init__(self) -> None:
        self.replica = Replica(1)
        self.seq = self.reads = 0

    def type(self, text: str, root: str = "t") -> None:
        self.replica.edit(lambda doc: doc.get(root, type=Text).insert(0, text))
        self.seq += 1

    @property
    def cursor(self) -> Cursor:
        return Cursor(EPOCH, self.seq)

    async def read(self) -> tuple[Cursor, bytes]:
        self.reads += 1
        await asyncio.sleep(0)
        return self.cursor, self.replica.state()


async def test_a_version_is_read_once_however_many_ask_at_a_time() -> None:
    with Worker() as worker:
        made, document = Values(worker), Document()
        document.type("hello")
        for _ in range(2):
            readings = await asyncio.gather(*(made.get(MAIN, document.cursor, document.read) for _ in range(5)))
            assert {reading.chosen(None) for reading in readings} == {b'{"t":"hello"}'}
        assert document.reads == 1
        document.type("oh, ")
        assert (await made.get(MAIN, document.cursor, document.read)).chosen(None) == b'{"t":"oh, hello"}'
        assert document.reads == 2


async def test_chosen_roots_come_once_each_and_in_the_order_asked_for() -> None:
    with Worker() as worker:
        document = Document()
        document.type("1", "a")
        document.type("2", 'b"')
        reading = await Values(worker).get(MAIN, document.cursor, document.read)
        assert reading.chosen(['b"', "a", "none", 'b"']) == b'{"b\\"":"2","a":"1"}'
        assert reading.chosen([]) == b"{}"


async def test_the_oldest_go_beyond_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(values, "KEPT_BYTES_MAX", 250)
    with Worker() as worker:
        made, document = Values(worker), Document()
        document.type("x" * 100)
        names = [DocumentId("alice", name) for name in ("one", "two", "three")]
        for name in (*names, names[2], names[0]):
            await made.get(name, document.cursor, document.read)
        assert document.reads == 4


async def test_what_can_not_be_read_is_an_error_and_nothing_is_kept() -> None:
    async def junk() -> tuple[Cursor, bytes]:
        return Cursor(EPOCH, 1), b"junk"

    with Worker() as worker:
        made = Values(worker)
        for _ in range(2):
            with pytest.raises(Refused, match="internal"):
                await made.get(MAIN, Cursor(EPOCH, 1), junk)


def test_large_ones_are_read_by_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[Callable[..., object]] = []

    class Elsewhere(Worker):
        async def run_within(self, timeout_s, function, /, *args, **kwargs):  # type: ignore[no-untyped-def]
            called.append(function)
            return function(*args, **kwargs)

    async def read() -> None:
        document = Document()
        document.type("x" * values.AT_ONCE_BYTES)
        await Values(Elsewhere()).get(MAIN, document.cursor, document.read)

    asyncio.run(read())
    assert len(called) == 1
