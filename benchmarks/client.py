"""Devices as light as they can be, so that the generator is not what is measured: bytes in, frames counted, bytes out.

They speak the real protocol over real sockets. Updates are made beforehand; frames that come in are decoded, not
applied. WebSocket frames are masked with the key zero, which is a valid key and leaves the payload as it is.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import cast

import msgpack
from websockets.client import ClientProtocol
from websockets.uri import parse_uri

from crdt.protocol import frames
from crdt.protocol.codec import decode_server_frame, decode_updates, encode
from crdt.protocol.frames import SUBPROTOCOL

MASK = b"\x00\x00\x00\x00"


def client_frame(payload: bytes) -> bytes:
    """One binary message as a client sends it."""
    length = len(payload)
    if length < 126:
        return bytes((0x82, 0x80 | length)) + MASK + payload
    if length < 1 << 16:
        return b"\x82\xfe" + length.to_bytes(2, "big") + MASK + payload
    return b"\x82\xff" + length.to_bytes(8, "big") + MASK + payload


class LoadDevice(asyncio.Protocol):
    """One device with one document open. While `saturating`, each op that is acknowledged makes room for the next."""

    def __init__(self, url: str, token: str, name: str, document: str, clock: Callable[[], float]) -> None:
        self.opened: asyncio.Future[frames.Opened] = asyncio.get_running_loop().create_future()
        self.handle = 0
        self.acked = 0
        self.sent = 0
        self.delivered = 0
        self.ack_s: list[float] = []
        self.on_delta: Callable[[list[bytes]], None] | None = None
        self.saturating = False
        self.batching = False
        self.errors: list[frames.Error] = []
        self._updates: Sequence[bytes] = ()
        self._pushes: Sequence[bytes] = ()
        self._sent_at: deque[float] = deque()
        self._clock = clock
        self._url = parse_uri(url)
        self._hello = encode(frames.Hello(1, token, name, "bench", {}, (frames.Open(1, document, None, b"\x00"),)))
        self._handshake: ClientProtocol | None = ClientProtocol(self._url, subprotocols=[SUBPROTOCOL])  # type: ignore[list-item]
        self._buffer = bytearray()
        self._chunks = bytearray()
        self._whole: asyncio.Future[tuple[bytes, ...]] = asyncio.get_running_loop().create_future()

    async def whole_document(self) -> tuple[bytes, ...]:
        """The updates that the answer to OPEN brought, in one piece or in chunks."""
        opened = await self.opened
        return await self._whole if opened.more else opened.updates

    def load(self, updates: Sequence[bytes]) -> None:
        """The updates to push, in order, as ops 1, 2, ...; encoded here and now."""
        self._updates = updates
        self._pushes = [
            client_frame(encode(frames.Push(self.handle, op, (update,)))) for op, update in enumerate(updates, 1)
        ]

    def push(self, count: int = 1) -> None:
        """Send the next ops, one message each, or one for all when `batching`.

        There must be some left: a generator that runs dry measures nothing.
        """
        messages = self._pushes[self.sent : self.sent + count]
        assert len(messages) == count, "make more updates beforehand"
        if self.batching:
            updates = tuple(self._updates[self.sent : self.sent + count])
            messages = [client_frame(encode(frames.Push(self.handle, self.sent + 1, updates)))]
        self._sent(count, b"".join(messages))

    def push_all(self, updates: Sequence[bytes]) -> None:
        """Send these as ops 1, 2, ... in one message, as a device does that was offline."""
        self._sent(len(updates), client_frame(encode(frames.Push(self.handle, 1, tuple(updates)))))

    def _sent(self, ops: int, data: bytes) -> None:
        self.sent += ops
        self._sent_at.extend([self._clock()] * ops)
        self._write(data)

    def close(self) -> None:
        self._transport.abort()

    # --- the event loop's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        assert self._handshake is not None
        self._handshake.send_request(self._handshake.connect())
        self._write(b"".join(self._handshake.data_to_send()) + client_frame(self._hello))

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.opened.done():
            self.opened.set_exception(ConnectionError(f"the server closed the connection: {exc}"))

    def data_received(self, data: bytes) -> None:
        if self._handshake is not None:
            head, end, rest = data.partition(b"\r\n\r\n")
            self._handshake.receive_data(head + end)
            self._handshake = None
            data = rest
        self._buffer += data
        self._parse()

    def _write(self, data: bytes) -> None:
        self._transport.write(data)

    def _parse(self) -> None:
        buffer = self._buffer
        at = 0
        while len(buffer) - at >= 2:
            length, start = buffer[at + 1], at + 2
            if length == 126:
                length, start = int.from_bytes(buffer[at + 2 : at + 4], "big"), at + 4
            elif length == 127:
                length, start = int.from_bytes(buffer[at + 2 : at + 10], "big"), at + 10
            if start + length > len(buffer):
                break
            if buffer[at] == 0x82:
                self._frame(bytes(buffer[start : start + length]))
            at = start + length
        del buffer[:at]

    def _frame(self, payload: bytes) -> None:
        frame = msgpack.unpackb(payload)
        kind = frame[0]
        if kind == frames.Delta.TYPE:
            self.delivered += len(frame[3])
            if self.on_delta is not None:
                self.on_delta(frame[3])
        elif kind == frames.Ack.TYPE:
            self._acked(frame[2])
        elif kind == frames.Opened.TYPE:
            opened = decode_server_frame(payload)
            assert isinstance(opened, frames.Opened)
            self.handle = opened.handle
            if not self.opened.done():
                self.opened.set_result(opened)
        elif kind == frames.Chunk.TYPE:
            self._chunks += frame[4]
            if len(self._chunks) == frame[3]:
                self._whole.set_result(decode_updates(bytes(self._chunks), deflated=False))
        elif kind == frames.Error.TYPE:
            error = decode_server_frame(payload)
            assert isinstance(error, frames.Error)
            self.errors.append(error)

    def _acked(self, op: int) -> None:
        now = self._clock()
        news = op - self.acked
        self.acked = op
        for _ in range(news):
            self.ack_s.append(now - self._sent_at.popleft())
        if self.saturating:
            self.push(news)


async def connect(host: str, port: int, token: str, name: str, document: str, clock: Callable[[], float]) -> LoadDevice:
    """A device whose document is open."""
    loop = asyncio.get_running_loop()
    _, device = await loop.create_connection(
        lambda: LoadDevice(f"ws://{host}:{port}/v1/sync", token, name, document, clock), host, port
    )
    await asyncio.wait_for(device.opened, 30)
    return device
