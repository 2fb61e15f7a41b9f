"""One WebSocket that another ASGI server accepted: it delivers whole messages, and takes them one by one.

It plays the part of `Connection`, with the same bounds. What it can not do is what the ASGI server does: read frames,
answer pings, notice a peer that is gone.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Final

from starlette.types import Receive, Send

from crdt.protocol.codes import CLOSE, Code
from server.core.events import SessionId
from server.runtime.transport import Shared, Sink

TURN_MESSAGES: Final = 64
"""After so many the others have a turn: what is there already is received without any wait."""
TOO_BIG: Final = (1009, str(Code.TOO_BIG))
"""How a message that is too long ends a native socket, and any whose token is not known yet."""


class AsgiSocket:
    """Lives as long as `run`. Calls that come after it has ended do nothing."""

    def __init__(self, shared: Shared, sink: Sink, address: str, receive: Receive, send: Send) -> None:
        self._shared = shared
        self._sink = sink
        self._address = address
        self._receive = receive
        self._send = send
        self._session: SessionId | None = None
        self._verified = False
        self._too_big = TOO_BIG
        self.ping_interval_s = shared.options.ping_interval_s
        self._tasks: list[asyncio.Task[None]] = []

        self._is_paused = False
        self._may_read = asyncio.Event()
        self._may_read.set()
        self._backlog: deque[bytes] = deque()

        self._outbox: deque[bytes] = deque()
        self._fragments = bytearray()
        self._queued_bytes = 0
        """Up to what the ASGI server has taken."""
        self._has_work = asyncio.Event()
        self._closing: tuple[int, str] | None = None
        self._is_over = self._is_overfull = self._awaits_drain = self._is_judged = False

    async def run(self, bearer: str | None, sign_of_life: bytes = b"", too_big: tuple[int, str] = TOO_BIG) -> None:
        """From the accepted handshake to the end. `sign_of_life` is said where nothing else was said for long;
        `too_big` is how a message over `message_bytes_max` ends it."""
        self._too_big = too_big
        shared = self._shared
        shared.members.add(self)
        shared.lobby.enter(self, self._address)
        shared.sockets.opened(self._address)
        shared.counters.sockets_opened += 1
        try:
            self._tasks = [asyncio.create_task(work) for work in (self._read(), self._write(sign_of_life))]
            self._session = self._told(lambda: self._sink.socket_opened(self, bearer))
            await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._is_over = True
            for task in self._tasks:
                task.cancel()
            ended = await asyncio.gather(*self._tasks, return_exceptions=True)
            self._leave()
            for error in ended:
                if isinstance(error, Exception) and not isinstance(error, OSError):  # the peer is gone
                    shared.on_error(error)

    # --- what the driver asks for (`transport.Socket`)

    def send(self, frames: bytes) -> None:
        if self._closing is not None or self._is_over:
            return
        for message in self._messages(frames):
            self._outbox.append(message)
            self._queued_bytes += len(message)
        self._has_work.set()
        self._judge_later()
        if self._queued_bytes > self._shared.options.outbox_bytes_cap:
            self._cut()

    def close(self, code: int, reason: str = "") -> None:
        if self._closing is None:
            self._closing = (code, reason)
            self._has_work.set()
            self._shared.loop.call_later(self._shared.options.close_timeout_s, self.abort)

    def await_drain(self) -> None:
        self._awaits_drain = True
        self._judge_later()

    def pause_reading(self) -> None:
        self._is_paused = True
        self._may_read.clear()

    def resume_reading(self) -> None:
        self._is_paused = False
        self._may_read.set()

    def give_back(self, messages: Sequence[bytes]) -> None:
        self._backlog.extendleft(reversed(messages))

    def accept_large_messages(self) -> None:
        self._verified = True
        self._shared.lobby.leave(self)

    def broken(self, error: Exception) -> None:
        """A bug of ours ends this socket, and nothing else."""
        self._shared.on_error(error)
        self.close(CLOSE[Code.INTERNAL], Code.INTERNAL)

    # --- what the lobby and the end of the server ask for

    def shut_down(self, code: int, reason: str) -> None:
        self.close(code, reason)

    def give_way(self) -> None:
        self._shared.counters.crowded_out += 1
        self.close(CLOSE[Code.OVERLOADED], Code.OVERLOADED)

    def abort(self) -> None:
        if not self._is_over:
            self._is_over = True
            for task in self._tasks:
                task.cancel()

    # --- receiving

    async def _read(self) -> None:
        turn = 0
        while True:
            await self._may_read.wait()
            message = self._backlog.popleft() if self._backlog else await self._next()
            if message is None:
                return
            if self._is_paused:
                self._backlog.append(message)
            elif self._closing is None and self._session is not None:
                session = self._session
                self._told(lambda: self._sink.messages_received(session, [message]))  # noqa: B023 - it runs now
            turn += 1
            if turn % TURN_MESSAGES == 0:
                await asyncio.sleep(0)

    async def _next(self) -> bytes | None:
        """The next message that counts; None after the last."""
        while True:
            event = await self._receive()
            if event["type"] != "websocket.receive":
                return None
            message: bytes | None = event.get("bytes")
            if message is None:
                self.close(CLOSE[Code.BAD_FRAME], Code.BAD_FRAME)
                continue
            self._shared.counters.bytes_received += len(message)
            options = self._shared.options
            if len(message) <= (options.message_bytes_max if self._verified else options.hello_bytes_max):
                return message
            self.close(*(self._too_big if self._verified else TOO_BIG))

    # --- sending

    def _messages(self, frames: bytes) -> Iterator[bytes]:
        """What was framed once for all readers. A message in fragments is whole with its last one."""
        at = 0
        while at < len(frames):
            length, begin = frames[at + 1], at + 2
            if length > 125:
                size = 2 if length == 126 else 8
                length, begin = int.from_bytes(frames[begin : begin + size], "big"), begin + size
            payload, is_last = frames[begin : begin + length], frames[at] & 0x80
            at = begin + length
            if is_last and not self._fragments:
                yield payload
                continue
            self._fragments += payload
            if is_last:
                whole, self._fragments = bytes(self._fragments), bytearray()
                yield whole

    async def _write(self, sign_of_life: bytes) -> None:
        """Returns after the close frame."""
        while True:
            if self._outbox:
                await self._send_one(self._outbox.popleft())
                self._judge_later()
            elif self._closing is not None:
                code, reason = self._closing
                await self._send({"type": "websocket.close", "code": code, "reason": reason})
                return
            else:
                self._has_work.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(self.ping_interval_s if sign_of_life else None):
                        await self._has_work.wait()
                if sign_of_life and not self._has_work.is_set():
                    await self._send_one(sign_of_life, counted=False)

    async def _send_one(self, message: bytes, *, counted: bool = True) -> None:
        await self._send({"type": "websocket.send", "bytes": message})
        self._shared.counters.bytes_sent += len(message)
        if counted:
            self._queued_bytes -= len(message)

    def _judge_later(self) -> None:
        """The sink is never told anything from inside a call to a socket."""
        if not self._is_judged and not self._is_over:
            self._is_judged = True
            self._shared.loop.call_soon(self._judge)

    def _judge(self) -> None:
        self._is_judged = False
        if self._is_over or self._closing is not None or self._session is None:
            return
        session, options = self._session, self._shared.options
        if self._queued_bytes > options.outbox_bytes_max and not self._is_overfull:
            self._is_overfull = True
            self._told(lambda: self._sink.outbox_overfull(session))
        elif self._queued_bytes <= options.outbox_drained_bytes:
            self._is_overfull = False
            if self._awaits_drain:
                self._awaits_drain = False
                self._told(lambda: self._sink.outbox_drained(session))

    # --- the end

    def _told(self, tell: Callable[[], SessionId | None]) -> SessionId | None:
        try:
            return tell()
        except Exception as error:  # noqa: BLE001 - a bug of the sink ends this socket, never the server
            self.broken(error)
            return None

    def _cut(self) -> None:
        self._shared.counters.connections_aborted += 1
        self.abort()

    def _leave(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            self._told(lambda: self._sink.socket_closed(session))
        self._shared.lobby.leave(self)
        self._shared.sockets.closed(self._address)
        self._shared.members.remove(self)
        self._shared.counters.sockets_closed += 1
