"""The control socket: for its owner alone, one request and one response, and nothing that comes in ends the server."""

from __future__ import annotations

import asyncio
import socket
import stat
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgpack
import pytest

from crdt.ids import DocumentId
from server.runtime.control import REQUEST_BYTES_MAX, ControlServer, ControlUnavailable, call, control_path
from server.runtime.driver import ImportRefused
from server.runtime.operations import OperationRefused, Operations
from server.storage.memory import MemoryStorage
from tests.contract.storage_support import ALICE, put, typed_entries
from tests.support import wait_until


async def take_all(document: DocumentId, update: bytes) -> int:
    return 7


async def take_nothing(document: DocumentId, update: bytes) -> int:
    raise ImportRefused("too big")


async def fail(document: DocumentId, update: bytes) -> int:
    raise ZeroDivisionError


@asynccontextmanager
async def serving(path: Path, import_update: Any = take_all) -> AsyncIterator[ControlServer]:
    storage = MemoryStorage()
    await put(storage, ALICE, *typed_entries("hello"))
    async with ControlServer(path, Operations(storage, import_update)) as server:
        yield server


async def ask(path: Path, command: str, **arguments: Any) -> Any:
    return await asyncio.to_thread(call, path, command, **arguments)


async def test_every_command_of_documents_is_answered(tmp_path: Path) -> None:
    path = control_path(tmp_path / "syncline.db")
    async with serving(path):
        (info,) = await ask(path, "list")
        assert (info["document"], info["head_seq"]) == ("alice/main", 5)
        assert await ask(path, "show", document="alice/main") == b'{"text":"hello"}'
        assert await ask(path, "verify", document="alice/main") == {
            "document": "alice/main",
            "head_seq": 5,
            "problem": None,
        }
        compacted = await ask(path, "compact", document="alice/main")
        assert len(await ask(path, "export", document="alice/main")) == compacted["snapshot_bytes"]
        assert await ask(path, "import", document="alice/main", update=b"\0\0") == 7


async def test_only_the_owner_can_connect_and_the_socket_goes_with_the_server(tmp_path: Path) -> None:
    path = tmp_path / "c.sock"
    async with serving(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not path.exists()


@pytest.mark.parametrize(
    ("command", "arguments", "says"),
    [
        ("drop", {}, "no command 'drop'"),
        ("show", {}, "show takes document"),
        ("show", {"document": 7}, "show takes document"),
        ("show", {"document": "alice/main", "more": 1}, "show takes document"),
        ("list", {"document": "alice/main"}, "list takes nothing"),
        ("show", {"document": "main"}, "write owner/name"),
        ("show", {"document": "alice/other"}, "there is no document alice/other"),
        ("verify", {"document": "alice/other"}, "there is no document alice/other"),
        ("compact", {"document": "alice/other"}, "there is no document alice/other"),
        ("backup", {"target": "/tmp/never-made"}, "only a SQLite store"),
    ],
)
async def test_what_cannot_be_done_is_said(tmp_path: Path, command: str, arguments: dict[str, Any], says: str) -> None:
    async with serving(tmp_path / "c.sock"):
        with pytest.raises(OperationRefused, match=says):
            await ask(tmp_path / "c.sock", command, **arguments)


async def test_a_refused_import_says_why(tmp_path: Path) -> None:
    async with serving(tmp_path / "c.sock", take_nothing):
        with pytest.raises(OperationRefused, match="alice/main does not take the update: too big"):
            await ask(tmp_path / "c.sock", "import", document="alice/main", update=b"x")


async def test_a_bug_in_a_command_ends_the_command_alone(tmp_path: Path) -> None:
    async with serving(tmp_path / "c.sock", fail):
        with pytest.raises(OperationRefused, match="import failed, which is a bug"):
            await ask(tmp_path / "c.sock", "import", document="alice/main", update=b"x")
        assert await ask(tmp_path / "c.sock", "list")


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"",
        b"\0\0",
        struct.pack(">I", 10) + b"short",
        struct.pack(">I", REQUEST_BYTES_MAX + 1),
        struct.pack(">I", 0),
        struct.pack(">I", 1) + b"\xc1",
        struct.pack(">I", 2) + b"\x01\x02",
        struct.pack(">I", 4) + msgpack.packb([1, 2, 3]),
        struct.pack(">I", 100) + b"\x91" * 100,
        struct.pack(">I", 2) + b"\x81\x90",
    ],
)
async def test_strange_requests_end_their_connection_alone(tmp_path: Path, request_bytes: bytes) -> None:
    path = tmp_path / "c.sock"
    async with serving(path):
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(request_bytes)
        writer.write_eof()
        assert await reader.read() == b""
        writer.close()
        assert await ask(path, "list")


async def test_the_socket_of_a_killed_server_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "c.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
        left.listen()
    async with serving(path):
        assert await ask(path, "list")


async def test_the_socket_of_a_living_server_is_not(tmp_path: Path) -> None:
    path = tmp_path / "c.sock"
    async with serving(path):
        with pytest.raises(ControlUnavailable, match="another server listens"):
            async with serving(path):
                raise AssertionError("two servers at one socket")
        assert await ask(path, "list")


async def test_a_file_in_the_way_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "c.sock"
    path.write_text("mine")
    with pytest.raises(ControlUnavailable, match="cannot be made"):
        async with serving(path):
            raise AssertionError("a file was replaced")
    assert path.read_text() == "mine"


async def test_a_long_path_is_no_obstacle(tmp_path: Path) -> None:
    folder = tmp_path / ("d" * 120)
    folder.mkdir()
    path = control_path(folder / "syncline.db")
    async with serving(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert await ask(path, "list")
    assert not path.exists()


def test_without_a_server_the_caller_is_told(tmp_path: Path) -> None:
    with pytest.raises(ControlUnavailable, match=r"no server answers at .*c\.sock: No such file"):
        call(tmp_path / "c.sock", "list")


async def test_the_end_of_the_server_ends_commands_under_way(tmp_path: Path) -> None:
    begun = asyncio.Event()

    async def never(document: DocumentId, update: bytes) -> int:
        begun.set()
        forever: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        return await forever

    async with serving(tmp_path / "c.sock", never):
        asking = asyncio.create_task(ask(tmp_path / "c.sock", "import", document="alice/main", update=b"x"))
        await wait_until(begun.is_set)
    with pytest.raises(ControlUnavailable, match="hung up"):
        await asking
