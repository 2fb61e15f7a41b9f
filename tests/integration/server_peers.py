"""What talks to a whole server in tests: app-level devices, a device that sends any frame it likes, and a wiretap."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any, TypeVar

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode
from websockets.typing import Subprotocol

from client_sim.live import AsyncDevice, AsyncDocument, Roots
from client_sim.live.tokens import TokenSource
from crdt.ids import DocumentId
from crdt.limits import Limits
from crdt.protocol import codec
from crdt.protocol.frames import (
    PROTOCOL_VERSION,
    SUBPROTOCOL,
    DeviceFrame,
    Hello,
    Nonce,
    Open,
    Opened,
    ServerFrame,
    Welcome,
)
from crdt.replica import Replica
from server.core.records import StoredDocument
from server.storage import open_storage
from tests.log_watch import remember_text
from tests.server_fixture import make_token
from tests.support import wait_until

WITHIN_S = 15.0
MESSAGE_BYTES = 32 << 20

F = TypeVar("F")


class Hasty(Random):
    """Backs off a twentieth of what others do, so that tests do not wait."""

    def random(self) -> float:
        return super().random() / 20


def new_device(
    url: str,
    name: str = "phone",
    user: str = "alice",
    *,
    token: str | TokenSource | None = None,
    docs: Mapping[str, str] | None = None,
    store: Path | None = None,
    rng: Random | None = None,
) -> AsyncDevice:
    """A device with a good token, or with `token`."""
    return AsyncDevice(
        url, token=token or make_token(user, name, docs=docs), device=name, store=store, rng=rng or Hasty()
    )


def write(document: AsyncDocument, text: str, root: str = "body") -> None:
    """Append to a text, as one edit."""
    remember_text(text)
    document.edit(lambda roots: roots.text(root).append(text))


def put(document: AsyncDocument, key: str, value: Any, root: str = "data") -> None:
    """Set a key of a map, as one edit."""
    remember_text(str(value))

    def change(roots: Roots) -> None:
        roots.map(root)[key] = value

    document.edit(change)


async def converged(*documents: AsyncDocument, to: Mapping[str, Any] | None = None) -> None:
    """Return once all are current with the same content, and that is `to` if it is given."""

    def equal() -> bool:
        first = documents[0].values()
        return (to is None or first == to) and all(document.values() == first for document in documents)

    for document in documents:
        await document.wait_current(within_s=WITHIN_S)
    await wait_until(equal, WITHIN_S)


def text_updates(client_id: int, texts: list[str]) -> list[bytes]:
    """The updates of a client that appends to the root `body`, one by one."""
    author = Replica(client_id)
    updates = []
    for text in texts:
        remember_text(text)
        update = author.edit(lambda doc: Roots(doc).text("body").append(text))  # noqa: B023 - it runs now
        assert update is not None
        updates.append(update)
    return updates


# --- on the wire


class RawDevice:
    """A device without a mind: sends what it is told, and gives what comes, frame by frame."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket

    async def nonce(self) -> bytes:
        """The server's first frame. To be asked for before any other."""
        nonce = await self._next()
        assert isinstance(nonce, Nonce), nonce
        return nonce.nonce

    async def send(self, *frames: DeviceFrame) -> None:
        for frame in frames:
            await self._socket.send(codec.encode(frame))

    async def say(self, data: bytes) -> None:
        await self._socket.send(data)

    async def receive(self) -> ServerFrame:
        """The next frame but NONCE, which is for those who have a key. Raises ConnectionClosed."""
        while isinstance(frame := await self._next(), Nonce):
            pass
        return frame

    async def _next(self) -> ServerFrame:
        async with asyncio.timeout(WITHIN_S):
            frame = codec.decode_server_frame(await self._socket.recv(decode=False))
        assert frame is not None
        return frame

    async def expect(self, kind: type[F]) -> F:
        """The next frame, which has to be one of these."""
        frame = await self.receive()
        assert isinstance(frame, kind), frame
        return frame

    async def rest(self) -> list[ServerFrame]:
        """All that comes until the connection ends."""
        frames: list[ServerFrame] = []
        while True:
            try:
                frames.append(await self.receive())
            except ConnectionClosed:
                return frames

    async def closed_with(self) -> tuple[int | None, str | None]:
        """The close, which comes next."""
        with pytest.raises(ConnectionClosed):
            raise AssertionError(f"{await self.receive()} before the close")
        return self.close

    @property
    def close(self) -> tuple[int | None, str | None]:
        return self._socket.close_code, self._socket.close_reason


@asynccontextmanager
async def raw_socket(url: str) -> AsyncIterator[RawDevice]:
    """A connection on which nothing was said."""
    async with connect(
        url, subprotocols=[Subprotocol(SUBPROTOCOL)], compression=None, proxy=None, ping_interval=None,
        close_timeout=1, max_size=MESSAGE_BYTES, max_queue=None,
    ) as socket:  # fmt: skip
        yield RawDevice(socket)


@asynccontextmanager
async def raw_device(
    url: str, *opens: Open, user: str = "alice", name: str = "raw", token: str | None = None
) -> AsyncIterator[RawDevice]:
    """A connection whose HELLO was answered by WELCOME; the answers to `opens` come next."""
    async with raw_socket(url) as raw:
        await raw.send(Hello(PROTOCOL_VERSION, token or make_token(user, name), name, "raw/1", {}, opens))
        await raw.expect(Welcome)
        yield raw


@asynccontextmanager
async def raw_member(
    url: str, doc: str = "main", *, user: str = "alice", name: str = "raw", token: str | None = None
) -> AsyncIterator[tuple[RawDevice, Opened]]:
    """A connection that has one document open, with what OPENED said."""
    async with raw_device(url, Open(1, doc, None, b"\0"), user=user, name=name, token=token) as raw:
        yield raw, await raw.expect(Opened)


class Tap:
    """A relay in front of a server. It keeps what goes by, and can stop taking what the server sends."""

    def __init__(self, server_url: str) -> None:
        self.url = ""
        self.up: list[bytes] = []
        self.down: list[bytes] = []
        self.taking = asyncio.Event()
        self.taking.set()
        self._server_url = server_url

    @property
    def frames_up(self) -> list[DeviceFrame]:
        return [frame for data in self.up if (frame := codec.decode_device_frame(data, Limits())) is not None]

    @property
    def frames_down(self) -> list[ServerFrame]:
        return [frame for data in self.down if (frame := codec.decode_server_frame(data)) is not None]

    def of(self, kind: type[F]) -> list[F]:
        """What of one kind the server has sent."""
        return [frame for frame in self.frames_down if isinstance(frame, kind)]

    def forget(self) -> None:
        self.up.clear()
        self.down.clear()

    async def relay(self, device: ServerConnection) -> None:
        to_server = connect(
            self._server_url, subprotocols=[Subprotocol(SUBPROTOCOL)], compression=None, proxy=None,
            ping_interval=None, close_timeout=1, max_size=MESSAGE_BYTES, max_queue=1,
        )  # fmt: skip
        async with to_server as server, asyncio.TaskGroup() as group:
            group.create_task(self._carry(device, server, self.up.append, None))
            group.create_task(self._carry(server, device, self.down.append, self.taking))

    async def _carry(
        self,
        source: ClientConnection | ServerConnection,
        target: ClientConnection | ServerConnection,
        note: Callable[[bytes], None],
        gate: asyncio.Event | None,
    ) -> None:
        try:
            while True:
                if gate is not None:
                    await gate.wait()
                data = await source.recv(decode=False)
                note(data)
                await target.send(data)
        except ConnectionClosed:
            code = source.close_code
            await target.close(code if code not in (None, 1005, 1006) else CloseCode.GOING_AWAY)


@asynccontextmanager
async def tapped(server_url: str) -> AsyncIterator[Tap]:
    """A wiretap whose `url` devices take for the server's."""
    tap = Tap(server_url)
    async with serve(
        tap.relay, "127.0.0.1", 0, subprotocols=[Subprotocol(SUBPROTOCOL)], compression=None, close_timeout=1,
        ping_interval=None, max_size=MESSAGE_BYTES,
    ) as listening:  # fmt: skip
        tap.url = f"ws://127.0.0.1:{next(iter(listening.sockets)).getsockname()[1]}/v1/sync"
        try:
            yield tap
        finally:
            tap.taking.set()


# --- what is on disk


async def stored(database: Path, document: str) -> StoredDocument:
    """What a store, that no server has open, has of a document."""
    async with open_storage(f"sqlite+aiosqlite:///{database}") as storage:
        return await storage.load(DocumentId.parse(document))


def check_gapless(document: StoredDocument) -> dict[str, int]:
    """Entries, and each device's ops in an epoch, follow one another without gaps or repeats.

    Returns the last op by device, of those that the log still holds.
    """
    entries = document.entries
    first_seq = document.head_seq - len(entries) + 1
    assert [entry.seq for entry in entries] == list(range(first_seq, document.head_seq + 1))
    last: dict[str, int] = {}
    for entry in entries:
        if entry.seq == document.epoch_seq + 1:
            last.clear()
        device = str(entry.device)
        is_known = device in last or first_seq <= document.epoch_seq + 1 <= entry.seq
        assert not is_known or entry.first_op == last.get(device, 0) + 1, entry
        assert entry.last_op >= entry.first_op
        last[device] = entry.last_op
    return last
