"""How an operator's commands reach a running server: a Unix socket beside the database, for its owner alone.

A connection is one request and one response, each a msgpack map with its length in front (4 bytes, big-endian):
`{"command": str, "arguments": {...}}`, then `{"result": ...}` or `{"error": str}`.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import msgpack
import structlog

from server.core.ports import CorruptDocument, StorageError
from server.runtime.operations import OperationRefused, Operations

REQUEST_BYTES_MAX: Final = 64 << 20
RESPONSE_BYTES_MAX: Final = 1 << 30
TRANSFER_TIMEOUT_S: Final = 30.0
"""For a request to come in, and for a response to be taken."""
COMMAND_TIMEOUT_S: Final = 600.0
COMMANDS_AT_ONCE: Final = 4
"""Others wait."""

_ADDRESS_BYTES_MAX: Final = 107
"""What `sockaddr_un` holds on Linux, less the byte that ends it."""
_LENGTH: Final = struct.Struct(">I")

_log = structlog.get_logger("syncline")


class ControlUnavailable(Exception):
    """Nobody listens at the socket, or it cannot be listened at. The text fits on a line."""


def control_path(database: Path) -> Path:
    """Where the server that has `database` open takes commands."""
    return Path(f"{database}.sock")


class ControlServer:
    """Takes commands while the `async with` lasts. Its user holds the lock of the database that `path` is beside."""

    def __init__(self, path: Path, operations: Operations) -> None:
        self._path = path
        self._operations = operations
        self._turns = asyncio.Semaphore(COMMANDS_AT_ONCE)
        self._tasks: dict[asyncio.Task[None], None] = {}

    async def __aenter__(self) -> Self:
        """Raises ControlUnavailable."""
        self._server = await asyncio.start_unix_server(self._accept, sock=_bind(self._path))
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._server.wait_closed()
        self._path.unlink(missing_ok=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks[task] = None
        task.add_done_callback(self._tasks.pop)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(TRANSFER_TIMEOUT_S):
                request = await _read_message(reader)
            async with self._turns:
                response = await self._answer(request)
            async with asyncio.timeout(TRANSFER_TIMEOUT_S):
                writer.write(_LENGTH.pack(len(response)) + response)
                await writer.drain()
        except (OSError, EOFError, ValueError) as exc:
            _log.warning("control_connection_failed", reason=f"{type(exc).__name__}: {exc}")
        finally:
            writer.close()

    async def _answer(self, request: bytes) -> bytes:
        command, arguments = _read_request(request)
        about = {name: arguments[name] for name in ("document", "devices") if name in arguments}
        _log.info("control_command", command=command, **about)
        try:
            async with asyncio.timeout(COMMAND_TIMEOUT_S):
                result = await self._operations.perform(command, arguments)
        except (OperationRefused, StorageError, CorruptDocument) as exc:
            return _pack({"error": str(exc)})
        except TimeoutError:
            return _pack({"error": f"{command} took more than {COMMAND_TIMEOUT_S:.0f} s, and was given up"})
        except Exception:  # noqa: BLE001 - a bug in a command ends that command, never the server
            _log.exception("control_command_failed", command=command)
            return _pack({"error": f"{command} failed, which is a bug: the log of the server has the details"})
        response = _pack({"result": result})
        if len(response) > RESPONSE_BYTES_MAX:
            return _pack({"error": f"the answer has more than {RESPONSE_BYTES_MAX} bytes"})
        return response


def call(path: Path, command: str, /, **arguments: Any) -> Any:
    """Have the server at `path` perform a command; blocks until it has.

    Raises OperationRefused with what the server says, and ControlUnavailable.
    """
    request = _pack({"command": command, "arguments": arguments})
    if len(request) > REQUEST_BYTES_MAX:
        raise OperationRefused(f"{command} takes at most {REQUEST_BYTES_MAX} bytes")
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(COMMAND_TIMEOUT_S + 2 * TRANSFER_TIMEOUT_S)
            with _address(path) as address:
                connection.connect(address)
            connection.sendall(_LENGTH.pack(len(request)) + request)
            (size,) = _LENGTH.unpack(_receive(connection, _LENGTH.size))
            response = msgpack.unpackb(_receive(connection, size))
    except OSError as exc:
        raise ControlUnavailable(f"no server answers at {path}: {exc.strerror or exc}") from exc
    if "error" in response:
        raise OperationRefused(response["error"])
    return response["result"]


# --- the address


def _bind(path: Path) -> socket.socket:
    """A socket at `path` that only the owner can connect to: it listens only after its mode is set."""
    bound = socket.socket(socket.AF_UNIX)
    try:
        _remove_stale(path)
        with _address(path) as address:
            bound.bind(address)
        path.chmod(0o600)
        bound.setblocking(False)
    except OSError as exc:
        bound.close()
        raise ControlUnavailable(f"the control socket {path} cannot be made: {exc.strerror or exc}") from exc
    except ControlUnavailable:
        bound.close()
        raise
    return bound


def _remove_stale(path: Path) -> None:
    """Take away a socket that a killed server left. Raises ControlUnavailable, OSError."""
    if not path.is_socket():
        return
    with socket.socket(socket.AF_UNIX) as probe, _address(path) as address:
        try:
            probe.connect(address)
        except ConnectionRefusedError:
            path.unlink()
        else:
            raise ControlUnavailable(f"another server listens at {path}")


@contextmanager
def _address(path: Path) -> Iterator[str]:
    """What to bind or connect to. A path that is too long for that goes through its directory, opened."""
    if len(os.fsencode(path)) <= _ADDRESS_BYTES_MAX:
        yield str(path)
        return
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)


# --- messages


async def _read_message(reader: asyncio.StreamReader) -> bytes:
    """Raises EOFError, ValueError, OSError."""
    (size,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
    if size > REQUEST_BYTES_MAX:
        raise ValueError(f"a request has at most {REQUEST_BYTES_MAX} bytes, not {size}")
    return await reader.readexactly(size)


def _read_request(request: bytes) -> tuple[str, Mapping[str, Any]]:
    """Raises ValueError."""
    match msgpack.unpackb(request):
        case {"command": str(command), "arguments": dict(arguments)}:
            return command, arguments
        case _:
            raise ValueError("not a request")


def _pack(message: Mapping[str, Any]) -> bytes:
    packed: bytes = msgpack.packb(message)
    return packed


def _receive(connection: socket.socket, size: int) -> bytes:
    """Exactly so many bytes. Raises OSError."""
    parts = []
    while size:
        part = connection.recv(min(size, 1 << 20))
        if not part:
            raise ConnectionResetError("the server hung up")
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
