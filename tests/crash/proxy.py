"""A TCP proxy between devices and a server that does to their connections what networks do."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from random import Random
from typing import Final, assert_never

from crdt.protocol.frames import PATH

READ_BYTES = 65536
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)


class Direction(StrEnum):
    UP = "up"
    DOWN = "down"


class Kind(StrEnum):
    NONE = "none"
    CUT = "cut"
    """Both ends see the end of the stream."""
    RESET = "reset"
    """Both ends see an error, and may lose what was under way."""
    STALL = "stall"
    """Nothing goes on in this direction for a while."""
    THROTTLE = "throttle"
    """All goes on in this direction, some bytes at a time."""
    HALF_OPEN = "half-open"
    """Nothing arrives any more in either direction, not even the end; both ends find out by themselves."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """What comes to a connection, as the frame of that number goes by in that direction. The HTTP head is frame 0.

    `part` of the frame gets through before: 0.0 is before it, 1.0 after it, all else within it.
    """

    kind: Kind
    direction: Direction
    frame: int
    part: float
    pause_s: float
    """Of a stall; and of each piece of a throttled stream."""
    piece_bytes: int


KINDS = frozenset(Kind) - {Kind.NONE}
NO_TROUBLE = Trouble(Kind.NONE, Direction.UP, 0, 0.0, 0.0, 1)
_DECK = (Kind.CUT,) * 3 + (Kind.RESET,) * 2 + (Kind.STALL, Kind.THROTTLE, Kind.HALF_OPEN)
_FRAMES = (0, 1, 1, 2, 2, 3, 4, 5, 7, 9)
FRAMES_AFTER = 15
"""Whoever has survived its trouble is cut so many frames later, so that others come."""


def troubles(seed: int) -> Callable[[int], Trouble]:
    """The trouble of the n-th connection. Of each so many, every kind comes to some."""

    def draw(connection: int) -> Trouble:
        deal, card = divmod(connection, len(_DECK))
        kind = Random(f"{seed}/deal {deal}").sample(_DECK, len(_DECK))[card]
        rng = Random(f"{seed}/connection {connection}")
        return Trouble(
            kind=kind,
            direction=rng.choice(list(Direction)),
            frame=rng.choice(_FRAMES),
            part=rng.choice((0.0, 1.0, rng.random())),
            pause_s=rng.uniform(0.02, 1.0) if kind is Kind.STALL else rng.uniform(0.001, 0.01),
            piece_bytes=rng.randint(20, 200),
        )

    return draw


class Frames:
    """Cuts one direction of a WebSocket connection into its HTTP head and its frames."""

    def __init__(self) -> None:
        self.rest = bytearray()
        """What is of no whole frame yet."""
        self._is_upgraded = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        self.rest += data
        while (size := self._size()) is not None and len(self.rest) >= size:
            frame = bytes(self.rest[:size])
            del self.rest[:size]
            self._is_upgraded = True
            yield frame

    def _size(self) -> int | None:
        """Bytes of the next frame; None where that is not known yet."""
        if not self._is_upgraded:
            end = self.rest.find(b"\r\n\r\n")
            return end + 4 if end >= 0 else None
        if len(self.rest) < 2:
            return None
        mask_bytes, size = 4 * (self.rest[1] >> 7), self.rest[1] & 127
        size_bytes = {126: 2, 127: 8}.get(size, 0)
        if len(self.rest) < 2 + size_bytes:
            return None
        if size_bytes:
            size = int.from_bytes(self.rest[2 : 2 + size_bytes])
        return 2 + size_bytes + mask_bytes + size


class _Ended(Exception):
    """The connection is over, on both sides."""


class FaultProxy:
    """Listens at `url`. Each connection has the trouble that `draw` says, until `heal`."""

    def __init__(self, target: tuple[str, int], draw: Callable[[int], Trouble]) -> None:
        self.url = ""
        self.connections = 0
        self.happened: Counter[str] = Counter()
        """Troubles that came, by kind."""
        self.healed = asyncio.Event()
        self._target = target
        self._draw = draw

    def heal(self) -> None:
        """From now on all goes well. Who is on a half-open connection has still to find out."""
        self.healed.set()

    async def pause(self, seconds: float) -> None:
        """Hold something up, unless all goes well from now on."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.healed.wait()

    async def relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection of a device."""
        trouble = NO_TROUBLE if self.healed.is_set() else self._draw(self.connections)
        self.connections += 1
        try:
            server_reader, server_writer = await asyncio.open_connection(*self._target)
        except OSError:
            writer.close()
            return
        link = _Link(self, trouble, (writer, server_writer))
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(link.carry(Direction.UP, reader, server_writer))
                group.create_task(link.carry(Direction.DOWN, server_reader, writer))
        except* (_Ended, OSError):
            pass
        finally:
            link.close()


class _Link:
    """One device's connection and its continuation to the server."""

    def __init__(self, proxy: FaultProxy, trouble: Trouble, ends: tuple[asyncio.StreamWriter, ...]) -> None:
        self._proxy = proxy
        self._trouble = trouble
        self._ends = ends
        self._is_dead = self._is_slow = False

    async def carry(self, direction: Direction, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        """What comes from `source`, until its end, which is the end of both sides unless nobody is to know."""
        frames, passed = Frames(), 0
        while data := await source.read(READ_BYTES):
            for frame in frames.feed(data):
                is_due = (direction, passed) == (self._trouble.direction, self._trouble.frame)
                if is_due and self._trouble.kind is not Kind.NONE:
                    cut = int(len(frame) * self._trouble.part)
                    await self._pass(frame[:cut], direction, target)
                    await self._happen()
                    frame = frame[cut:]
                await self._pass(frame, direction, target)
                passed += 1
            if self._has_lived(direction, passed):
                raise _Ended
        if not self._is_dead:
            await self._pass(bytes(frames.rest), direction, target)
            raise _Ended

    def _has_lived(self, direction: Direction, passed: int) -> bool:
        is_late = direction is self._trouble.direction and passed > self._trouble.frame + FRAMES_AFTER
        return is_late and not self._is_dead and not self._proxy.healed.is_set()

    async def _happen(self) -> None:
        self._proxy.happened[self._trouble.kind] += 1
        match self._trouble.kind:
            case Kind.NONE:
                pass
            case Kind.CUT:
                raise _Ended
            case Kind.RESET:
                for end in self._ends:
                    end.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
                raise _Ended
            case Kind.STALL:
                await self._proxy.pause(self._trouble.pause_s)
            case Kind.THROTTLE:
                self._is_slow = True
            case Kind.HALF_OPEN:
                self._is_dead = True
            case _:
                assert_never(self._trouble.kind)

    async def _pass(self, data: bytes, direction: Direction, target: asyncio.StreamWriter) -> None:
        is_slow = self._is_slow and direction is self._trouble.direction
        step = self._trouble.piece_bytes if is_slow else len(data) or 1
        for start in range(0, len(data), step):
            if self._is_dead:
                return
            if is_slow:
                await self._proxy.pause(self._trouble.pause_s)
            target.write(data[start : start + step])
            await target.drain()

    def close(self) -> None:
        for end in self._ends:
            end.close()


@asynccontextmanager
async def fault_proxy(target: tuple[str, int], draw: Callable[[int], Trouble]) -> AsyncIterator[FaultProxy]:
    """A proxy in front of a server at that address; all its connections are gone at the end."""
    proxy = FaultProxy(target, draw)
    relays: dict[asyncio.Task[None], None] = {}

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        relays[group.create_task(proxy.relay(reader, writer))] = None

    async with asyncio.TaskGroup() as group:
        listening = await asyncio.start_server(accept, "127.0.0.1", 0)
        host, port = listening.sockets[0].getsockname()
        proxy.url = f"ws://{host}:{port}{PATH}"
        try:
            yield proxy
        finally:
            listening.close()
            for relay in relays:
                relay.cancel()
