"""Both ends of the transport's tests: a listener with a sink that records, and a peer that sends any bytes it likes."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Counter
from starlette.applications import Starlette
from websockets.frames import Close, Frame, Opcode
from websockets.protocol import CLIENT, Protocol

from crdt.protocol.frames import PATH
from server.runtime.connection import Connection
from server.runtime.http import probes
from server.runtime.listener import Listener
from server.runtime.transport import Socket, TransportOptions
from server.runtime.wire import encode_message

UPGRADE = {
    "Host": "127.0.0.1",
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


@dataclass
class RecordingSink:
    """Names sessions 1, 2, ... and keeps what it is told, in order."""

    echo: bool = False
    connections: dict[int, Connection] = field(default_factory=dict)
    bearers: list[str | None] = field(default_factory=list)
    messages: list[bytes] = field(default_factory=list)
    closed: list[int] = field(default_factory=list)
    overfull: list[int] = field(default_factory=list)
    drained: list[int] = field(default_factory=list)

    def socket_opened(self, connection: Socket, bearer: str | None) -> int:
        assert isinstance(connection, Connection)
        session = len(self.connections) + 1
        self.connections[session] = connection
        self.bearers.append(bearer)
        return session

    def messages_received(self, session: int, messages: list[bytes]) -> None:
        self.messages += messages
        if self.echo:
            for data in messages:
                self.connections[session].send(encode_message(data))

    def socket_closed(self, session: int) -> None:
        self.closed.append(session)

    def outbox_overfull(self, session: int) -> None:
        self.overfull.append(session)

    def outbox_drained(self, session: int) -> None:
        self.drained.append(session)


@dataclass
class Served:
    """A listener under test. `errors` is what its sink raised; `requests` is a counter on /metrics."""

    listener: Listener
    sink: RecordingSink
    errors: list[Exception]
    requests: Counter
    app: Starlette
    ready: bool = True


@asynccontextmanager
async def serving(
    options: TransportOptions | None = None,
    *,
    sink: RecordingSink | None = None,
    tls: ssl.SSLContext | None = None,
    app: Starlette | None = None,
) -> AsyncIterator[Served]:
    """Ends with a promise that every test checks: each session that was opened is closed once, and nothing is left."""
    sink = sink or RecordingSink()
    errors: list[Exception] = []
    registry = CollectorRegistry()
    readiness: list[Served] = []
    app = app or probes(registry, lambda: readiness[0].ready)
    listener = await Listener.open(
        "127.0.0.1",
        0,
        sink=sink,
        app=app,
        on_error=errors.append,
        options=options,
        tls=tls,
    )
    served = Served(listener, sink, errors, Counter("requests", "Of a test.", registry=registry), app)
    readiness.append(served)
    try:
        yield served
    finally:
        listener.stop_accepting()
        listener.close_all(1001, "test over")
        await listener.wait_closed(within_s=0.2)
    assert listener.counters.sockets_opened == listener.counters.sockets_closed
    assert sorted(sink.closed) == list(sink.connections)


class Peer:
    """A client that is as rude as a test wants: bytes go out as they are, frames come in one by one."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._protocol = Protocol(CLIENT, max_size=None)
        self._frames: list[Frame] = []

    @classmethod
    @asynccontextmanager
    async def tcp(
        cls, served: Served, tls: ssl.SSLContext | None = None, source: str | None = None
    ) -> AsyncIterator[Peer]:
        """A TCP connection on which nothing was said, perhaps from another address of this machine."""
        async with cls.at(served.listener.address, tls, source) as peer:
            yield peer

    @classmethod
    @asynccontextmanager
    async def at(
        cls, address: tuple[str, int], tls: ssl.SSLContext | None = None, source: str | None = None
    ) -> AsyncIterator[Peer]:
        """The same to any server."""
        reader, writer = await asyncio.open_connection(
            *address,
            ssl=tls,
            server_hostname="localhost" if tls else None,
            local_addr=(source, 0) if source else None,
            limit=1 << 22,
        )
        try:
            yield cls(reader, writer)
        finally:
            writer.transport.abort()

    @classmethod
    @asynccontextmanager
    async def websocket(cls, served: Served, tls: ssl.SSLContext | None = None) -> AsyncIterator[Peer]:
        """A WebSocket of which the server's sink knows."""
        async with cls.tcp(served, tls) as peer:
            assert (await peer.upgrade()).startswith(b"HTTP/1.1 101 ")
            yield peer

    async def upgrade(self, path: str = PATH, *, then: bytes = b"", headers: dict[str, str] | None = None) -> bytes:
        """Ask for a WebSocket, with `then` in the same segment; return the head of the answer."""
        self.writer.write(request(path, **headers or {}) + then)
        return await self.reader.readuntil(b"\r\n\r\n")

    def send(self, *frames: Frame) -> None:
        self.writer.write(masked(*frames))

    def say(self, *messages: bytes) -> None:
        self.send(*(Frame(Opcode.BINARY, message) for message in messages))

    async def frame(self) -> Frame:
        """The next frame of the server's."""
        while not self._frames:
            async with asyncio.timeout(5):
                data = await self.reader.read(1 << 16)
            assert data, "the server ended the stream"
            self._protocol.receive_data(data)
            self._frames = [event for event in self._protocol.events_received() if isinstance(event, Frame)]
        return self._frames.pop(0)

    async def message(self) -> bytes:
        frame = await self.frame()
        assert frame.opcode is Opcode.BINARY, frame
        return bytes(frame.data)

    async def closed_with(self) -> tuple[int, str]:
        """The server's close frame, which is the next one."""
        frame = await self.frame()
        assert frame.opcode is Opcode.CLOSE, frame
        close = Close.parse(frame.data)
        return int(close.code), close.reason

    async def at_end(self) -> bytes:
        """All until the end of the stream, or its reset."""
        rest = b""
        async with asyncio.timeout(5):
            try:
                while data := await self.reader.read(1 << 16):
                    rest += data
            except ConnectionError:
                pass
        return rest


def request(path: str = PATH, **headers: str) -> bytes:
    """An upgrade request; `headers` add to or replace those of UPGRADE, with _ for -."""
    named = UPGRADE | {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in named.items())]
    return "".join(f"{line}\r\n" for line in [*lines, ""]).encode()


def masked(*frames: Frame) -> bytes:
    return b"".join(frame.serialize(mask=True) for frame in frames)


def close_frame(code: int, reason: str = "") -> Frame:
    return Frame(Opcode.CLOSE, Close(code, reason).serialize())
