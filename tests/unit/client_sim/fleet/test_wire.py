"""Real sockets with a network in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from random import Random

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed, InvalidURI

from client_sim.fleet.capacity import Drawn
from client_sim.fleet.course import Course
from client_sim.fleet.profiles import Profile, Reach, Trouble
from client_sim.fleet.quantiles import Quantiles
from client_sim.fleet.radio import WIFI
from client_sim.fleet.wire import Line
from tests.support import wait_until

FAST = Quantiles.always(1e8)
CLEAR = Profile("test", Quantiles.always(0.02), FAST, FAST, 0.0, (), WIFI, ())


def with_trouble(reach: Reach, apart_s: float, lasts_s: float) -> Profile:
    trouble = Trouble(reach, Quantiles.always(apart_s), Quantiles.always(lasts_s), "made up")
    return replace(CLEAR, troubles=(trouble,))


class Echo:
    """A server that sends back what it gets, and remembers who is there."""

    def __init__(self) -> None:
        self.url = ""
        self.sockets: list[ServerConnection] = []
        self.ended = 0

    async def talk(self, socket: ServerConnection) -> None:
        self.sockets.append(socket)
        try:
            async for message in socket:
                await socket.send(message)
        except ConnectionClosed:
            pass
        self.ended += 1


@asynccontextmanager
async def echo() -> AsyncIterator[Echo]:
    server = Echo()
    async with serve(
        server.talk, "127.0.0.1", 0, compression=None, ping_interval=None, open_timeout=0.5, close_timeout=0.2
    ) as listening:
        host, port = next(iter(listening.sockets)).getsockname()
        server.url = f"ws://{host}:{port}"
        yield server


@pytest.fixture
async def line() -> AsyncIterator[Callable[[Profile], Line]]:
    """Makes lines, which are closed at the end."""
    loop, made = asyncio.get_running_loop(), list[Line]()
    began = loop.time()

    def make(profile: Profile) -> Line:
        rng = Random(1)
        made.append(
            Line(
                profile, Course(profile, rng), (Drawn(profile.up, rng), Drawn(profile.down, rng)), rng,
                lambda: loop.time() - began,
            )
        )  # fmt: skip
        return made[-1]

    yield make
    for each in made:
        each.close()


async def dial(line: Line, url: str) -> ClientConnection:
    return await line.dial(url, open_timeout=5.0, compression=None, ping_interval=None, close_timeout=0.5, proxy=None)


async def test_everything_arrives_in_order_and_not_at_once(line: Callable[[Profile], Line]) -> None:
    async with echo() as server:
        network = line(replace(CLEAR, up=Quantiles.always(200_000.0)))
        socket = await dial(network, server.url)
        began = network.clock()
        for number in range(20):
            await socket.send(bytes([number]) * 1000)
        answers = [await socket.recv() for _ in range(20)]
        assert answers == [bytes([number]) * 1000 for number in range(20)]
        assert network.clock() - began >= 20_000 / 200_000 + 0.02
        await socket.close()
        assert network.bytes_up > 20_000
        assert network.bytes_down > 20_000
        assert network.meter.wakeups >= 1
        await wait_until(lambda: server.ended == 1)


async def test_a_half_open_connection_is_told_to_nobody_until_all_is_calm(line: Callable[[Profile], Line]) -> None:
    async with echo() as server:
        network, broken = line(with_trouble(Reach.DEAD, 0.3, 100.0)), asyncio.Event()
        network.on_break = broken.set
        socket = await dial(network, server.url)
        await broken.wait()
        await socket.send(b"lost")
        assert server.ended == 0
        assert socket.close_code is None
        network.calm()
        with pytest.raises(ConnectionClosed):
            await socket.recv()
        assert server.ended == 0, "it finds out by silence, in its own time"
        again = await dial(network, server.url)
        await again.send(b"through")
        assert await again.recv() == b"through"
        await again.close()


async def test_where_there_is_no_network_the_device_knows(line: Callable[[Profile], Line]) -> None:
    async with echo() as server:
        network, back = line(with_trouble(Reach.OFF, 0.3, 0.3)), asyncio.Event()
        network.on_return = back.set
        socket = await dial(network, server.url)
        with pytest.raises(ConnectionClosed):
            await socket.recv()
        with pytest.raises(OSError, match="unreachable"):
            await dial(network, server.url)
        assert (network.attempts, network.failures) == (2, 1)
        await asyncio.wait_for(back.wait(), 5.0)
        await (await dial(network, server.url)).close()


async def test_a_reset_reaches_both_ends(line: Callable[[Profile], Line]) -> None:
    async with echo() as server:
        socket = await dial(line(with_trouble(Reach.RESET, 0.3, 1e-6)), server.url)
        with pytest.raises(ConnectionClosed):
            await socket.recv()
        await wait_until(lambda: server.ended == 1)


async def test_a_captive_portal_answers_in_the_servers_place(line: Callable[[Profile], Line]) -> None:
    async with echo() as server:
        portal = Trouble(Reach.PORTAL, Quantiles.always(100.0), Quantiles.always(0.5), "made up", at_once=True)
        network = line(replace(CLEAR, troubles=(portal,)))
        with pytest.raises(InvalidURI):
            await dial(network, server.url)
        assert server.sockets == []
        network.calm()
        await (await dial(network, server.url)).close()


async def test_a_killed_app_says_no_goodbye(line: Callable[[Profile], Line]) -> None:
    async with echo() as server:
        network = line(CLEAR)
        await dial(network, server.url)
        await wait_until(lambda: len(server.sockets) == 1)
        network.kill()
        await wait_until(lambda: server.ended == 1)
        assert server.sockets[0].close_code == 1006


async def test_a_slow_reader_holds_the_server_up(line: Callable[[Profile], Line]) -> None:
    async with echo() as server:
        network = line(replace(CLEAR, down=Quantiles.always(1000.0)))
        socket = await dial(network, server.url)
        await wait_until(lambda: len(server.sockets) == 1)
        sending = asyncio.create_task(server.sockets[0].send(b"x" * (32 << 20)))
        await wait_until(lambda: network._passages[0]._down.waiting_bytes > 0)
        assert network._passages[0]._down.waiting_bytes < 2 << 20, "the rest waits in the kernel and at the server"
        assert not sending.done()
        network.kill()
        await asyncio.wait([sending])
        assert isinstance(sending.exception(), ConnectionClosed)
        assert socket.close_code == 1006
