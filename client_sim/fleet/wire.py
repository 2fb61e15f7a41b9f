"""A device's real sockets, with its network in between: what goes in comes out as the course of that network says.

The network is inside this process, between the WebSocket library and the kernel's socket. A connection that the network
breaks half-open keeps its socket for a while, unread, so that the server finds out as it would outside: by silence.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from random import Random
from typing import Any, NamedTuple, assert_never, cast

from websockets.asyncio.client import ClientConnection, connect

from client_sim.fleet.capacity import Capacity
from client_sim.fleet.course import Course, Pipe, Spell
from client_sim.fleet.profiles import Profile, Reach
from client_sim.fleet.radio import RadioMeter

WINDOW_BYTES = 256 << 10
"""So much may wait for a device before its socket is read no more: what follows waits at the server."""
ABANDONED_S = 120.0
"""A half-open connection's socket is kept so long, which is more than a server listens to silence."""
PORTAL_ANSWER = (
    b"HTTP/1.1 302 Found\r\nLocation: http://portal.invalid/login\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
)


class End(NamedTuple):
    """Of a stream, behind what was sent before it."""

    error: Exception | None = None


class Flow:
    """One direction of a connection. `hand_on` gets what was put in when it arrives."""

    def __init__(self, pipe: Pipe, clock: Callable[[], float], hand_on: Callable[[bytes | End], None]) -> None:
        self.waiting_bytes = 0
        self._pipe = pipe
        self._clock = clock
        self._hand_on = hand_on
        self._loop = asyncio.get_running_loop()
        self._items: deque[tuple[float, bytes | End]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._is_held = self._is_stopped = False

    def put(self, item: bytes | End) -> float:
        """When it arrives."""
        size = 0 if isinstance(item, End) else len(item)
        due_s = self._pipe.arrival(size, self._clock())
        if not self._is_stopped:
            self.waiting_bytes += size
            self._items.append((due_s, item))
            self._arm()
        return due_s

    def hold(self) -> None:
        self._is_held = True

    def go_on(self) -> None:
        self._is_held = False
        self._arm()

    def hurry(self) -> None:
        """All that is under way arrives now, and what follows waits for nothing that was before."""
        self._pipe.calm()
        self._items = deque((0.0, item) for _, item in self._items)
        if self._timer:
            self._timer.cancel()
            self._timer = None
        self._arm()

    def stop(self) -> None:
        """What is under way is lost."""
        self._is_stopped = True
        self._items.clear()
        self.waiting_bytes = 0
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        if self._items and self._timer is None and not self._is_held:
            self._timer = self._loop.call_later(max(0.0, self._items[0][0] - self._clock()), self._deliver)

    def _deliver(self) -> None:
        self._timer = None
        now_s = self._clock()
        while self._items and self._items[0][0] <= now_s and not self._is_held:
            _, item = self._items.popleft()
            self.waiting_bytes -= 0 if isinstance(item, End) else len(item)
            self._hand_on(item)
        self._arm()


class Line:
    """One device's way to its server: its connections, one after the other, and what they cost."""

    def __init__(
        self,
        profile: Profile,
        course: Course,
        capacities: tuple[Capacity, Capacity],
        rng: Random,
        clock: Callable[[], float],
    ) -> None:
        """`capacities` are of up and down. `clock` tells seconds since the start of the run."""
        self.profile = profile
        self.course = course
        self.meter = RadioMeter(profile.radio)
        self.bytes_up = self.bytes_down = 0
        """On the sockets: of HTTP and of WebSocket frames. TCP and TLS come on top."""
        self.attempts = self.failures = 0
        self.on_break: Callable[[], None] | None = None
        """Called when the network breaks a connection, which the device may not know for long."""
        self.on_return: Callable[[], None] | None = None
        """Called when there is a network again after there was none, as a system tells its apps."""
        self.clock = clock
        self._capacities = capacities
        self._rng = rng
        self._passages: list[Passage] = []
        self._calmed = asyncio.Event()
        self._returns: asyncio.TimerHandle | None = None
        self._abandoned: dict[asyncio.Transport, asyncio.TimerHandle] = {}

    async def dial(self, uri: str, *, open_timeout: float, **options: Any) -> ClientConnection:
        """As `websockets.connect`, through this network."""
        self.attempts += 1
        try:
            async with asyncio.timeout(open_timeout):
                await self._reach()
                shaped = cast("type[ClientConnection]", partial(ShapedConnection, line=self))  # any factory will do
                return await connect(uri, create_connection=shaped, open_timeout=None, **options)
        except BaseException:
            self.failures += 1
            raise

    async def _reach(self) -> None:
        """Wait as long as TCP and TLS need for their handshakes. Raises OSError where there is no network."""
        round_trips = 2.0
        while True:
            spell = self.course.at(self.clock())
            match spell.reach:
                case Reach.OFF:
                    self.is_off(spell.end_s)
                    raise OSError(errno.ENETUNREACH, os.strerror(errno.ENETUNREACH))
                case Reach.STALLED | Reach.DEAD:
                    await self._wait(spell.end_s - self.clock())
                case Reach.CLEAR | Reach.PORTAL | Reach.RESET:
                    return await asyncio.sleep(round_trips * self.profile.ping.draw(self._rng))
                case _:
                    assert_never(spell.reach)

    async def _wait(self, seconds: float) -> None:
        """Unless all is well sooner."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._calmed.wait()

    def is_off(self, until_s: float) -> None:
        """There is no network until then."""
        if self._returns is None:
            self._returns = asyncio.get_running_loop().call_later(until_s - self.clock(), self._return)

    def _return(self) -> None:
        self._returns = None
        if self.on_return:
            self.on_return()

    def pipes(self) -> tuple[Pipe, Pipe]:
        up, down = (Pipe(self.course, self.profile, capacity, self._rng) for capacity in self._capacities)
        return up, down

    def opened(self, passage: Passage) -> None:
        self._passages.append(passage)

    def closed(self, passage: Passage) -> None:
        self._passages.remove(passage)

    def abandon(self, raw: asyncio.Transport) -> None:
        """Let the server find out by itself that nobody is there."""
        if not raw.is_closing():
            raw.pause_reading()
            self._abandoned[raw] = asyncio.get_running_loop().call_later(ABANDONED_S, raw.abort)

    def kill(self) -> None:
        """The app is gone without a word; its system closes the sockets."""
        for passage in list(self._passages):
            passage.reset()

    def calm(self) -> None:
        """All goes well from now on. What was half-open is found out, as it is when a system changes networks."""
        self.course.calm(self.clock())
        self._calmed.set()
        for passage in list(self._passages):
            passage.calm()

    def close(self) -> None:
        """The end of all."""
        self.kill()
        if self._returns:
            self._returns.cancel()
        self.meter.finish(self.clock())
        for raw, timer in self._abandoned.items():
            timer.cancel()
            raw.abort()


class Passage(asyncio.Transport):
    """What a connection takes for its socket. `raw` is the socket."""

    def __init__(self, line: Line, raw: asyncio.Transport, end: ShapedConnection) -> None:
        super().__init__()
        self._line = line
        self._raw = raw
        self._end = end
        up, down = line.pipes()
        self._up = Flow(up, line.clock, self._leave)
        self._down = Flow(down, line.clock, self._arrive)
        self._is_portal = line.course.at(line.clock()).reach is Reach.PORTAL
        self._is_deaf = self._is_closing = self._is_lost = self._is_full = False
        self._high, self._low = 64 << 10, 16 << 10
        self._loop = asyncio.get_running_loop()
        self._break: asyncio.TimerHandle | None = None
        if (spell := line.course.next_break(line.clock())) is not None:
            self._break = self._loop.call_later(spell.start_s - line.clock(), self._be_broken, spell)
        line.opened(self)

    # --- the connection's side

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._is_portal and not self._is_lost:
            self._is_portal = False
            self._down.put(PORTAL_ANSWER)
            self._is_deaf = True
        if self._is_deaf or self._is_lost:
            return
        self._line.bytes_up += len(data)
        arrives_s = self._up.put(bytes(data))
        self._line.meter.transfer(self._line.clock(), arrives_s)
        if self._up.waiting_bytes > self._high and not self._is_full:
            self._is_full = True
            self._end.pause_writing()

    def close(self) -> None:
        """After what was written."""
        if self._is_closing:
            return
        self._is_closing = True
        if self._is_deaf:
            self._loop.call_soon(self.reset)
        else:
            self._up.put(End())

    def abort(self) -> None:
        self._is_closing = True
        self._loop.call_soon(self.reset)

    def is_closing(self) -> bool:
        return self._is_closing or self._is_lost

    def pause_reading(self) -> None:
        self._down.hold()

    def resume_reading(self) -> None:
        self._down.go_on()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high = self._high if high is None else high
        self._low = self._high // 4 if low is None else low

    def can_write_eof(self) -> bool:
        return False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._raw.get_extra_info(name, default)

    # --- the socket's side

    def received(self, data: bytes | End) -> None:
        if self._is_deaf or self._is_lost:
            return
        self._down.put(data)
        if self._down.waiting_bytes > WINDOW_BYTES and not self._raw.is_closing():
            self._raw.pause_reading()

    def _leave(self, item: bytes | End) -> None:
        """Something has come through, upwards."""
        if isinstance(item, End):
            self._raw.close()
            return
        if not self._raw.is_closing():
            self._raw.write(item)
        if self._is_full and self._up.waiting_bytes <= self._low:
            self._is_full = False
            self._end.resume_writing()

    def _arrive(self, item: bytes | End) -> None:
        """Something has come through, downwards."""
        if isinstance(item, End):
            self._lose(item.error)
            return
        now_s = self._line.clock()
        self._line.bytes_down += len(item)
        self._line.meter.transfer(now_s, now_s)
        self._end.take(item)
        if self._down.waiting_bytes <= WINDOW_BYTES // 2 and not (self._is_deaf or self._raw.is_closing()):
            self._raw.resume_reading()

    # --- what networks do

    def _be_broken(self, spell: Spell) -> None:
        match spell.reach:
            case Reach.OFF:
                self._line.is_off(spell.end_s)
                self._is_deaf = True
                self._lose(OSError(errno.ENETDOWN, os.strerror(errno.ENETDOWN)))
            case Reach.RESET:
                self.reset(ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET)))
            case _:
                self._is_deaf = True
                self._up.stop()
                self._down.stop()
                if not self._raw.is_closing():
                    self._raw.pause_reading()
        if self._line.on_break:
            self._line.on_break()

    def reset(self, error: Exception | None = None) -> None:
        """It is over at once on this side, and on the other as soon as it is told, if it is."""
        if not self._is_lost:
            self._lose(error)

    def calm(self) -> None:
        if self._break:
            self._break.cancel()
        if self._is_deaf:
            self.reset(ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET)))
        else:
            self._up.hurry()
            self._down.hurry()

    def _lose(self, error: Exception | None) -> None:
        if self._is_lost:
            return
        self._is_lost = True
        self._up.stop()
        self._down.stop()
        if self._break:
            self._break.cancel()
        if self._is_deaf:
            self._line.abandon(self._raw)
        else:
            self._raw.abort()
        self._line.closed(self)
        self._end.lose(error)


class ShapedConnection(ClientConnection):
    """A WebSocket whose transport is a passage."""

    def __init__(self, *arguments: Any, line: Line, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._line = line

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._passage = Passage(self._line, cast("asyncio.Transport", transport), self)
        super().connection_made(self._passage)

    def data_received(self, data: bytes) -> None:
        self._passage.received(data)

    def eof_received(self) -> None:
        self._passage.received(End())

    def connection_lost(self, exc: Exception | None) -> None:
        self._passage.received(End(exc))

    def take(self, data: bytes) -> None:
        super().data_received(data)

    def lose(self, error: Exception | None) -> None:
        super().connection_lost(error)
