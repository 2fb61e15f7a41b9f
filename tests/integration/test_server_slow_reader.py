"""A device that stops reading costs the server a bound, its peers nothing, and itself nothing once it reads again."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import pytest
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

from client_sim.live import AsyncDocument
from crdt.protocol.frames import PROTOCOL_VERSION, SUBPROTOCOL, Delta, Hello, Mode, Open, Opened, Welcome
from crdt.replica import Replica
from server.runtime.connection import Connection
from server.runtime.transport import TransportOptions
from tests.integration.server_peers import WITHIN_S, RawDevice, Tap, converged, new_device, put, tapped, write
from tests.integration.server_process import ServerProcess, server_process
from tests.server_fixture import RunningServer, make_token, running_server

KIB = 1 << 10
OPTIONS = TransportOptions(outbox_drained_bytes=16 * KIB, outbox_bytes_max=64 * KIB, outbox_bytes_cap=512 * KIB)
EDIT = Random(1).randbytes(16 * KIB).hex()
"""It deflates to a little more than half."""
MANY_EDITS = 64
RESYNCS = "syncline_resyncs_total"


@asynccontextmanager
async def slow_reader(server: RunningServer, folder: Path) -> AsyncIterator[tuple[Tap, AsyncDocument, Connection]]:
    """A device whose network can be stopped, and the server's end of it, with little room in the kernel between."""
    async with tapped(server.url) as tap, new_device(tap.url, "slow", store=folder / "slow.db") as slow:
        document = await slow.open()
        await document.wait_current(WITHIN_S)
        connection = list(server.driver._sessions.values())[-1]
        assert isinstance(connection, Connection)
        raw: socket.socket = connection._transport.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16 * KIB)
        yield tap, document, connection


@pytest.mark.parametrize("missed", [2, MANY_EDITS])
async def test_a_slow_reader_is_bounded_and_brought_current_when_it_reads_again(tmp_path: Path, missed: int) -> None:
    async with (
        running_server(tmp_path, transport=OPTIONS) as server,
        new_device(server.url, "writer") as writer,
        new_device(server.url, "reader") as reader,
        slow_reader(server, tmp_path) as (tap, late, connection),
    ):
        mine, theirs = await writer.open(), await reader.open()
        await converged(mine, theirs, late)
        tap.taking.clear()
        tap.forget()

        async def write_on(text: str) -> None:
            """An edit reaches the others as ever, and the server holds no more than it may."""
            write(mine, text)
            await mine.wait_durable(WITHIN_S)
            await reader.wait(lambda: reader.counters.updates_received == writer.counters.ops_made, WITHIN_S)
            assert connection.buffered_bytes <= OPTIONS.outbox_bytes_max + len(EDIT)

        while not server.metric(RESYNCS):
            assert writer.counters.ops_made < MANY_EDITS, "the server did not notice"
            await write_on(EDIT)
        for _ in range(missed):
            await write_on(EDIT if missed == MANY_EDITS else "y")
        assert len(late.text("body")) < len(theirs.text("body")), "it reads nothing meanwhile"
        tap.taking.set()
        await converged(mine, theirs, late)
        _check_the_way_back(tap, missed)
        assert server.metric("syncline_connections_aborted_total") == 0


def _check_the_way_back(tap: Tap, missed: int) -> None:
    """Little is sent from the log; much as a diff, for which the device was asked to say what it has."""
    unasked = [opened for opened in tap.of(Opened) if opened.ref == 0]
    assert unasked[0].mode is (Mode.NEED_SV if missed == MANY_EDITS else Mode.TAIL)
    assert len(tap.of(Delta)) < 40, "what it was too slow for never went out one by one"


# --- what it costs in memory

MISSED = 1_000 if os.environ.get("SYNCLINE_SOAK") else 300
EDIT_BYTES = 400
QUIET = ("--compaction-bytes-min", "1GiB", "--compaction-entries-max", "1000000")
"""Nothing goes on beside, whose memory would be taken for the reader's."""


async def test_a_reader_that_is_a_thousand_deltas_behind_takes_less_than_a_mebibyte(tmp_path: Path) -> None:
    """The same is written on two servers, one of which has such a reader: their memory grows about as much.

    How little a reader may have waiting that is further behind, the test above holds to the byte.
    """
    grown = []
    for name in ("without", "with"):
        (tmp_path / name).mkdir()
        async with (
            server_process(tmp_path / name, arguments=QUIET) as server,
            new_device(server.url, "writer") as writer,
        ):
            document = await writer.open()
            await write_values(document, 300)
            async with narrow_socket(server) as slow:
                replica = await join(slow) if name == "with" else Replica()
                before = server.resident_bytes
                await write_values(document, MISSED)
                grown.append(server.resident_bytes - before)
                if name == "with":
                    await read_all(slow, replica)
                    assert replica.values() == document.values(), "it ends current"
    print(f"{grown[1] - grown[0] >> 10} KiB for the slow reader, {grown[0] >> 10} KiB for the rest")  # noqa: T201
    assert grown[1] - grown[0] < 1024 * KIB


async def write_values(document: AsyncDocument, edits: int) -> None:
    rng = Random(edits)
    for _ in range(edits):
        put(document, "value", rng.randbytes(EDIT_BYTES // 2).hex())
        await document.wait_durable(WITHIN_S)


async def join(slow: RawDevice) -> Replica:
    opens = (Open(1, "main", None, b"\0"),)
    await slow.send(Hello(PROTOCOL_VERSION, make_token("alice", "slow"), "slow", "slow/1", {}, opens))
    await slow.expect(Welcome)
    return Replica.load((await slow.expect(Opened)).updates)


@asynccontextmanager
async def narrow_socket(server: ServerProcess) -> AsyncIterator[RawDevice]:
    """A connection that reads only when it is asked to, with next to no room in the kernel."""
    narrow = socket.socket()
    narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * KIB)
    narrow.connect(server.address)
    narrow.setblocking(False)
    async with connect(
        server.url, sock=narrow, subprotocols=[Subprotocol(SUBPROTOCOL)], compression=None, proxy=None,
        ping_interval=None, close_timeout=1, max_queue=1,
    ) as connection:  # fmt: skip
        yield RawDevice(connection)


async def read_all(slow: RawDevice, replica: Replica) -> None:
    for _ in range(MISSED):
        replica.apply((await slow.expect(Delta)).updates)
