"""A device that stops reading costs the server a bound, its peers nothing, and itself nothing once it reads again."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import pytest

from client_sim.live import AsyncDocument
from crdt.protocol.frames import Delta, Mode, Opened
from server.runtime.connection import Connection
from server.runtime.transport import TransportOptions
from tests.integration.server_peers import WITHIN_S, Tap, converged, new_device, tapped, write
from tests.server_fixture import RunningServer, running_server

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
