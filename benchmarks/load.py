"""A generator that costs less than the server it loads: one thread, one epoll, no object for what is only counted.

Devices speak the real protocol over real sockets. What they push was made and encoded beforehand. Of what arrives they
look at the few bytes that tell how long a WebSocket frame is and whether it is a DELTA; a DELTA is counted, and decoded
only after the measuring, by the devices that kept what they read.

That nothing is lost follows from counts: every entry of a log is acknowledged to one device and is a DELTA for all
others, so a device whose DELTAs and own entries together are as many as the log has entries has got them all.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import msgpack
from websockets.client import ClientProtocol
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

from benchmarks.client import client_frame, pong
from benchmarks.figures import WorkloadFailed
from crdt.protocol import frames
from crdt.protocol.codec import decode_server_frame, encode
from crdt.update import EMPTY_STATE_VECTOR

BINARY, PING = 0x82, 0x89
BUFFER_BYTES = 1 << 20
CONNECT_TIMEOUT_S = 30.0
POLL_S = 0.02
CLOSED = "the server closed a connection"
clock = time.perf_counter


class Loop:
    """Waits for all sockets of a load, and reads into one buffer: nobody keeps what is in it."""

    def __init__(self) -> None:
        self.buffer = bytearray(BUFFER_BYTES)
        self.view = memoryview(self.buffer)
        self.stopped = False
        self._epoll = select.epoll()
        self._readers: dict[int, Callable[[], None]] = {}

    def add(self, connection: socket.socket, reader: Callable[[], None]) -> None:
        """`reader` is called whenever there is something to read; it reads what there is."""
        connection.setblocking(False)
        self._readers[connection.fileno()] = reader
        self._epoll.register(connection, select.EPOLLIN)

    def stop(self) -> None:
        """End `run` early."""
        self.stopped = True

    def run(self, seconds: float) -> None:
        """Read for so long, or until `stop`."""
        self.stopped = False
        deadline = clock() + seconds
        while not self.stopped and clock() < deadline:
            self._read(POLL_S)

    def run_once(self) -> None:
        """Read what is there now."""
        self._read(0)

    def run_until(self, due: float) -> None:
        """Read until then on `clock`, to some tens of microseconds: epoll alone counts in milliseconds."""
        while (left_s := due - clock()) > 0:
            if select.select([self._epoll], (), (), left_s)[0]:
                self._read(0)

    def close(self) -> None:
        self._epoll.close()

    def _read(self, wait_s: float) -> None:
        readers = self._readers
        for descriptor, _ in self._epoll.poll(wait_s):
            readers[descriptor]()


@dataclass(slots=True)
class Script:
    """What a device pushes: updates, and the messages that push each alone, as ops 1, 2, ... of one handle."""

    updates: Sequence[bytes]
    messages: Sequence[bytes]

    @classmethod
    def of(cls, updates: Sequence[bytes], handle: int) -> Script:
        return cls(updates, [_push(handle, op, (update,)) for op, update in enumerate(updates, 1)])


class Device:
    """One device with one document open, and nothing pushed yet.

    While `saturating`, each op that is acknowledged makes room for the next; with `batching`, what an ACK makes room
    for goes out in one PUSH.
    """

    def __init__(self, loop: Loop, connection: socket.socket, handle: int, rest: bytes) -> None:
        self.handle = handle
        self.script = Script((), ())
        self.sent_at: list[float] = []
        """When each op was sent."""
        self.acks: list[tuple[float, int]] = []
        """When an ACK came, and up to which op."""
        self.acked = 0
        self.entries = 0
        """Of its own, in the log."""
        self.head = 0
        """The last of them."""
        self.deltas = 0
        self.saturating = False
        self.batching = False
        self.kept: list[tuple[float, bytes]] | None = None
        """What was read, and when, if it is a device that keeps that."""
        self._loop = loop
        self._connection = connection
        self._rest = rest
        loop.add(connection, self._readable)

    @property
    def sent(self) -> int:
        return len(self.sent_at)

    def push(self, count: int = 1) -> None:
        """Send the next ops. Where there are not so many left, what there are, and the loop's run ends."""
        first = len(self.sent_at)
        messages = self.script.messages[first : first + count]
        if len(messages) < count:
            self._loop.stop()
            if not messages:
                return
        if self.batching:
            data = _push(self.handle, first + 1, tuple(self.script.updates[first : first + count]))
        else:
            data = b"".join(messages)
        self.sent_at.extend([clock()] * len(messages))
        self._send(data)

    def close(self) -> None:
        self._connection.close()

    def _send(self, data: bytes) -> None:
        try:
            sent = self._connection.send(data)
        except BlockingIOError:
            sent = 0
        except ConnectionError as exc:
            raise WorkloadFailed(CLOSED) from exc
        if sent != len(data):
            raise WorkloadFailed("the server has stopped reading")

    def _readable(self) -> None:
        loop, rest = self._loop, self._rest
        start = len(rest)
        loop.buffer[:start] = rest
        received = _received(self._connection, loop.view[start:])
        end = start + received
        if self.kept is not None:
            self.kept.append((clock(), bytes(loop.view[start:end])))
        scanned = self._scan(loop.buffer, end)
        self._rest = bytes(loop.view[scanned:end])

    def _scan(self, buffer: bytearray, end: int) -> int:
        """Counts whole DELTAs and takes what else is whole; where the first frame begins that is not.

        A loop without calls: it is most of what the generator does. What is behind `end` may be looked at, and then is
        not believed.
        """
        at = deltas = 0
        while end - at > 1:
            length, body = buffer[at + 1], at + 2
            if length == 126:
                length, body = buffer[at + 2] << 8 | buffer[at + 3], at + 4
            elif length == 127:
                length, body = int.from_bytes(buffer[at + 2 : at + 10], "big"), at + 10
            after = body + length
            if after > end:
                break
            if buffer[body + 1] == frames.Delta.TYPE and buffer[at] == BINARY:
                deltas += 1
            else:
                self._other(buffer[at], bytes(buffer[body:after]))
            at = after
        self.deltas += deltas
        return at

    def _other(self, opcode: int, payload: bytes) -> None:
        if opcode == PING:
            self._send(pong(payload))
        elif opcode != BINARY:
            raise WorkloadFailed(f"{CLOSED}: {payload!r}")
        elif payload[1] == frames.Ack.TYPE:
            _, _, op, seq, *_ = msgpack.unpackb(payload)
            self._acknowledged(op, seq)
        elif payload[1] in (frames.Error.TYPE, frames.GoAway.TYPE, frames.Opened.TYPE):
            raise WorkloadFailed(f"the server sent {decode_server_frame(payload)}")

    def _acknowledged(self, op: int, seq: int) -> None:
        self.acks.append((clock(), op))
        news = op - self.acked
        self.acked = op
        if seq:
            self.entries += 1
            self.head = seq
        if self.saturating:
            self.push(news)


def connect(loop: Loop, host: str, port: int, token: str, name: str, document: str) -> Device:
    """A device whose document is open, and has nothing in it. Raises WorkloadFailed."""
    hello = frames.Hello(1, token, name, "bench", {}, (frames.Open(1, document, None, EMPTY_STATE_VECTOR),))
    handshake = ClientProtocol(
        parse_uri(f"ws://{host}:{port}{frames.PATH}"), subprotocols=[Subprotocol(frames.SUBPROTOCOL)]
    )
    handshake.send_request(handshake.connect())
    connection = socket.create_connection((host, port), CONNECT_TIMEOUT_S)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.sendall(b"".join(handshake.data_to_send()) + client_frame(encode(hello)))
    data = b""
    while b"\r\n\r\n" not in data:
        data += _next_bytes(connection, loop)
    head, end, data = data.partition(b"\r\n\r\n")
    handshake.receive_data(head + end)
    if handshake.handshake_exc is not None:
        raise WorkloadFailed(f"the server refused a connection: {handshake.handshake_exc}")
    return _open(loop, connection, data)


def _open(loop: Loop, connection: socket.socket, data: bytes) -> Device:
    while True:
        payloads, rest = messages(data)
        for frame in map(decode_server_frame, payloads):
            if isinstance(frame, frames.Opened):
                return Device(loop, connection, frame.handle, rest)
            if isinstance(frame, frames.Error):
                raise WorkloadFailed(f"the server refused a device: {frame}")
        data = rest + _next_bytes(connection, loop)


def _next_bytes(connection: socket.socket, loop: Loop) -> bytes:
    return bytes(loop.view[: _received(connection, loop.view)])


def _received(connection: socket.socket, buffer: memoryview) -> int:
    """How many bytes there were to read, into `buffer`. Raises WorkloadFailed if there will be none."""
    try:
        received = connection.recv_into(buffer)
    except (ConnectionError, TimeoutError) as exc:
        raise WorkloadFailed(CLOSED) from exc
    if not received:
        raise WorkloadFailed(CLOSED)
    return received


def deltas(kept: Sequence[tuple[float, bytes]]) -> Iterator[tuple[float, frames.Delta]]:
    """The DELTAs in what a device has kept, and when each was read."""
    rest = b""
    for read_at, data in kept:
        payloads, rest = messages(rest + data)
        for payload in payloads:
            if payload[1] == frames.Delta.TYPE:
                frame = decode_server_frame(payload)
                assert isinstance(frame, frames.Delta)
                yield read_at, frame


def messages(data: bytes) -> tuple[list[bytes], bytes]:
    """The payloads of all whole binary messages in what a server sent, and what is left."""
    found = []
    at = 0
    while len(data) - at > 1:
        length, body = data[at + 1], at + 2
        if length >= 126:
            body += 2 if length == 126 else 8
            length = int.from_bytes(data[at + 2 : body], "big")
        if body + length > len(data):
            break
        if data[at] == BINARY:
            found.append(data[body : body + length])
        at = body + length
    return found, data[at:]


def _push(handle: int, first_op: int, updates: tuple[bytes, ...]) -> bytes:
    return client_frame(encode(frames.Push(handle, first_op, updates)))
