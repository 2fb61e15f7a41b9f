"""What an app's device keeps on disk: over sockets, and in a real file."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

import pytest

from client_sim.core.ports import StoreError, StoreLocked
from client_sim.live import AsyncDevice, Blocked, Problem, State
from crdt.protocol.frames import DeviceFrame, Error, Open
from tests.unit.client_sim.fake_server import FakeServer, Session
from tests.unit.client_sim.live.socket_server import serving

NOWHERE = "ws://127.0.0.1:1/v1/sync"
KEY = bytes(range(32))


def all_bytes(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in folder.iterdir())


async def test_a_damaged_file_is_rebuilt_and_the_app_is_told(tmp_path: Path) -> None:
    path = tmp_path / "phone.db"
    core = FakeServer()
    async with AsyncDevice(NOWHERE, token="t", device="phone", store=path) as phone:
        (await phone.open()).edit(lambda roots: roots.text("body").append("offline"))
    data = bytearray(path.read_bytes())
    data[:100] = bytes(100)
    path.write_bytes(data)
    problems: list[Problem] = []
    async with (
        serving(core) as server,
        AsyncDevice(server.url, token="t", device="phone", store=path, on_error=problems.append) as phone,
    ):
        notes = await phone.open()
        await notes.wait_durable(within_s=5)
        assert notes.text("body") == "offline"
    assert [problem.code for problem in problems] == ["store_rebuilt"]
    assert "1 pending edits" in problems[0].message
    assert "phone.db.damaged-1" in problems[0].message
    assert (tmp_path / "phone.db.damaged-1").read_bytes() == bytes(data)
    assert core.room("main").replica.values() == {"body": "offline"}


async def test_damage_that_shows_at_work_costs_the_edit_that_met_it_alone(tmp_path: Path) -> None:
    path = tmp_path / "phone.db"
    problems: list[Problem] = []
    async with (
        serving(FakeServer()) as server,
        AsyncDevice(server.url, token="t", device="phone", store=path, on_error=problems.append) as phone,
    ):
        notes = await phone.open()
        notes.edit(lambda roots: roots.text("body").append("a"))
        await notes.wait_durable(within_s=5)

        failure = sqlite3.DatabaseError("database disk image is malformed")
        failure.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
        store = phone._store
        put = store._rows.put  # type: ignore[attr-defined]

        def corrupt(*args: object) -> None:
            store._rows.put = put  # type: ignore[attr-defined]
            raise failure

        store._rows.put = corrupt  # type: ignore[attr-defined]
        with pytest.raises(StoreError, match="damaged"):
            notes.edit(lambda roots: roots.text("body").append("b"))
        assert [problem.code for problem in problems] == ["store_rebuilt"]
        notes.edit(lambda roots: roots.text("body").append("c"))
        await notes.wait_durable(within_s=5)
        assert notes.text("body") == "ac"
        await phone.wait(lambda: bool(problems), within_s=5)
    assert [problem.code for problem in problems] == ["store_rebuilt"]


async def test_an_encrypted_store_says_nothing_to_who_has_not_its_key(tmp_path: Path) -> None:
    path = tmp_path / "phone.db"
    async with AsyncDevice(NOWHERE, token="t", device="phone", store=path, store_key=KEY) as phone:
        (await phone.open("diary")).edit(lambda roots: roots.text("body").append("my deepest secret"))
    content = all_bytes(tmp_path)
    for word in (b"secret", b"diary", b"phone", b"body"):
        assert word not in content
    for wrong in (None, bytes(32)):
        with pytest.raises(StoreLocked):
            async with AsyncDevice(NOWHERE, token="t", device="phone", store=path, store_key=wrong):
                raise AssertionError("it is open")
    async with AsyncDevice(NOWHERE, token="t", device="phone", store=path, store_key=KEY) as phone:
        assert (await phone.open("diary")).text("body") == "my deepest secret"


async def test_open_now_or_fresh(tmp_path: Path) -> None:
    path = tmp_path / "phone.db"
    core = FakeServer()
    async with AsyncDevice(NOWHERE, token="t", device="phone", store=path) as phone:
        notes = await phone.open()
        assert (notes.as_of, notes.stale) == (None, True)
        with pytest.raises(TimeoutError):
            await phone.open(wait=True, within_s=0.01)
    before = time.time()
    async with serving(core) as server, AsyncDevice(server.url, token="t", device="phone", store=path) as phone:
        notes = await phone.open(max_stale_s=0, wait=True, within_s=5)
        assert not notes.stale
        assert notes.as_of is not None
        assert before <= notes.as_of <= time.time()
    async with AsyncDevice(NOWHERE, token="t", device="phone", store=path) as phone:
        notes = await phone.open(max_stale_s=60, wait=True, within_s=5)
        assert not notes.stale
        assert (await phone.open(max_stale_s=0)).stale
        with pytest.raises(TimeoutError):
            await phone.open(max_stale_s=0, wait=True, within_s=0.01)


async def test_who_waits_for_what_is_refused_is_told() -> None:
    core = FakeServer()

    def script(session: Session, frame: DeviceFrame) -> bool:
        if isinstance(frame, Open):
            session.send(_forbidden(frame))
        return isinstance(frame, Open)

    core.script = script
    async with serving(core) as server, AsyncDevice(server.url, token="t", device="phone") as phone:
        await phone.wait(lambda: phone.status.state is State.CURRENT, within_s=5)
        with pytest.raises(Blocked, match="forbidden"):
            await phone.open("bob/secret", wait=True, within_s=5)


def _forbidden(opened: Open) -> Error:
    return Error(opened.ref, None, "forbidden", "", "after_auth")


async def test_prefetched_pinned_and_evicted(tmp_path: Path) -> None:
    path = tmp_path / "phone.db"
    core = FakeServer()
    async with serving(core) as server:
        async with AsyncDevice(server.url, token="t", device="laptop") as laptop:
            for name in ("a", "b"):
                document = await laptop.open(name)
                document.edit(lambda roots: roots.text("body").append("x" * 1000))
                await document.wait_durable(within_s=5)
        async with AsyncDevice(server.url, token="t", device="phone", store=path, cache_bytes_max=1500) as phone:
            phone.pin("a")
            phone.prefetch(["a", "b"])
            await phone.wait(lambda: phone.counters.evictions == 1, within_s=5)
    async with AsyncDevice(NOWHERE, token="t", device="phone", store=path) as phone:
        assert (await phone.open("a")).text("body") == "x" * 1000
        assert (await phone.open("b")).text("body") == ""
        phone.unpin("a")
        assert not phone.cache.is_pinned("a")
