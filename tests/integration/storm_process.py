"""Many devices that all say HELLO within a moment, in a process of their own."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe
from typing import Any

from websockets.frames import Frame, Opcode

from crdt.protocol import codec
from crdt.protocol.codes import Code
from crdt.protocol.frames import PATH, PROTOCOL_VERSION, Error, Hello, Open, Welcome
from tests.integration.server_process import PROCESSES
from tests.server_fixture import make_token

WITHIN_S = 120.0
BINARY = 0x82
"""The first byte of a whole binary message."""
CLOSE = 0x88
BACKOFF_MS = 1_000
OPENING = 50
"""Connections that are opened at the same time."""


@dataclass(frozen=True)
class Greeted:
    """What came of a storm."""

    let_in: int
    sent_away: int
    sent_within_s: float
    answered_within_s: float


class Storm:
    """Devices that are connected, and have not said HELLO."""

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe

    async def hello(self) -> Greeted:
        """All say HELLO now."""
        self._pipe.send("hello")
        greeted = await self._answer()
        assert isinstance(greeted, Greeted), greeted
        return greeted

    async def return_all(self) -> int:
        """Those who were sent away come back, when they were told to, until all are in; how many that were."""
        self._pipe.send("return")
        returned: int = await self._answer()
        return returned

    async def _answer(self) -> Any:
        there = await asyncio.to_thread(self._pipe.poll, WITHIN_S)
        assert there, "the storm is not over"
        return self._pipe.recv()


@asynccontextmanager
async def storm(address: tuple[str, int], count: int, *opens: Open, first: int = 0) -> AsyncIterator[Storm]:
    """So many devices, each of a user of its own from number `first` on, with a WebSocket each."""
    here, there = PROCESSES.Pipe()
    process = PROCESSES.Process(target=_run, args=(address, range(first, first + count), opens, there))
    await asyncio.to_thread(process.start)
    there.close()
    try:
        assert await asyncio.to_thread(here.poll, WITHIN_S), "they could not connect"
        here.recv()
        yield Storm(here)
    finally:
        here.close()
        await asyncio.to_thread(process.join, 5.0)
        process.kill()
        await asyncio.to_thread(process.join)
        process.close()


def _run(address: tuple[str, int], numbers: range, opens: tuple[Open, ...], pipe: Pipe) -> None:
    try:
        asyncio.run(_rage(address, numbers, opens, pipe))
    except EOFError as exc:
        if isinstance(exc, asyncio.IncompleteReadError):
            raise  # a device lost its connection; else the test is done


async def _rage(address: tuple[str, int], numbers: range, opens: tuple[Open, ...], pipe: Pipe) -> None:
    loop = asyncio.get_running_loop()
    devices = [_Device(address, number, opens) for number in numbers]
    await _in_groups(devices)
    pipe.send("ready")
    await asyncio.to_thread(pipe.recv)
    started_s = loop.time()
    for device in devices:
        device.say_hello()
    sent_s = loop.time()
    answers = await asyncio.gather(*(device.answer() for device in devices))
    waits_ms = [answer for answer in answers if answer is not None]
    pipe.send(Greeted(answers.count(None), len(waits_ms), sent_s - started_s, loop.time() - started_s))
    await asyncio.to_thread(pipe.recv)
    await asyncio.gather(*(device.come_back(wait) for device, wait in zip(devices, answers, strict=True)))
    pipe.send(len(waits_ms))
    await asyncio.to_thread(pipe.recv)


async def _in_groups(devices: list[_Device]) -> None:
    for begin in range(0, len(devices), OPENING):
        await asyncio.gather(*(device.connect() for device in devices[begin : begin + OPENING]))


class _Device:
    def __init__(self, address: tuple[str, int], number: int, opens: tuple[Open, ...]) -> None:
        self._address = address
        name = f"u{number}"
        hello = Hello(PROTOCOL_VERSION, make_token(name, "d"), "d", "storm/1", {}, opens)
        self._hello = Frame(Opcode.BINARY, codec.encode(hello)).serialize(mask=True)

    async def connect(self) -> None:
        loop = asyncio.get_running_loop()
        raw = socket.socket()
        raw.setblocking(False)
        await loop.sock_connect(raw, self._address)
        self._reader, self._writer = await asyncio.open_connection(sock=raw)
        self._writer.write(
            f"GET {PATH} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        head = await self._reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101"), head

    def say_hello(self) -> None:
        self._writer.write(self._hello)

    async def answer(self) -> int | None:
        """None if it is in, else the wait that it was told."""
        while True:
            head = await self._reader.readexactly(2)
            size = head[1] if head[1] < 126 else int.from_bytes(await self._reader.readexactly(2))
            data = await self._reader.readexactly(size)
            if head[0] == CLOSE:  # it gave way to others before its HELLO was read
                assert data[2:] == b"overloaded", data
                self._writer.close()
                return BACKOFF_MS
            frame = codec.decode_server_frame(data) if head[0] == BINARY else None
            if isinstance(frame, Welcome):
                return None
            if isinstance(frame, Error):
                assert frame.code == Code.OVERLOADED, frame
                assert frame.retry_after_ms is not None
                self._writer.close()
                return frame.retry_after_ms

    async def come_back(self, wait_ms: int | None) -> None:
        while wait_ms is not None:
            await asyncio.sleep(wait_ms / 1000)
            await self.connect()
            self.say_hello()
            wait_ms = await self.answer()
