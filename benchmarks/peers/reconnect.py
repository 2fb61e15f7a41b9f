"""A device that has everything comes back to a document of which much was deleted."""

from __future__ import annotations

import asyncio
from functools import cache
from typing import Any

from pycrdt import Doc, Text

from benchmarks.figures import Figure, Run, WorkloadFailed
from benchmarks.peers.device import Device, clock, connected
from benchmarks.peers.dialects import Known
from benchmarks.peers.fanout import text_of, until_idle
from benchmarks.peers.servers import Peer, Server
from crdt.replica import Replica

WARM = 5
ARRIVES_WITHIN_S = 60
SETTLE_S = 0.1
"""For what the last one said."""
PIECE = 500
"""Characters typed at once."""
DELETED_AT_ONCE = 100


@cache
def _document(ranges: int) -> tuple[tuple[bytes, ...], Replica]:
    """The updates of a text of which every second character was deleted, and the text as it is then."""
    replica = Replica(client_id=7)
    made = [
        replica.edit(lambda doc, at=start: doc.get("t", type=Text).insert(at, "x" * PIECE))  # type: ignore[misc]
        for start in range(0, 2 * ranges, PIECE)
    ]
    for first in range(0, ranges, DELETED_AT_ONCE):

        def delete(doc: Doc[Any], first: int = first) -> None:
            text = doc.get("t", type=Text)
            for number in range(first, min(first + DELETED_AT_ONCE, ranges)):
                del text[number + 1]

        made.append(replica.edit(delete))
    return tuple(update for update in made if update is not None), replica


async def reconnected(peer: Peer, server: Server, *, ranges: int, times: int) -> Run:
    """What one return costs, over `times` of them one after another while another device has the document open."""
    updates, replica = _document(ranges)
    writer = await connected(server, peer.dialect, 0, "writer")
    writer.on_data = _passed_over
    writer.load(updates)
    writer.push(len(updates))
    known = await _arrived(peer, server, replica)
    await until_idle(server, 3, 30)
    for _ in range(WARM):
        await _return(peer, server, known, replica)
    await until_idle(server, 0.5, 10)
    cpu_s, taken_s = server.cpu_s(), 0.0
    device = writer
    for _ in range(times):
        start = clock()
        device = await _return(peer, server, known, replica)
        taken_s += clock() - start
    await asyncio.sleep(SETTLE_S)
    cpu_ms = (server.cpu_s() - cpu_s) / times * 1000
    writer.close()
    figures = (
        Figure("down", device.bytes_in, "bytes"),
        Figure("up", device.bytes_out, "bytes"),
        Figure("server CPU", cpu_ms, "ms"),
        Figure("until current", taken_s / times * 1000, "ms"),
    )
    return Run(peer.name, figures)


async def _return(peer: Peer, server: Server, known: Known, replica: Replica) -> Device:
    """Connect with everything, and give the server what it asks for."""
    device = await connected(server, peer.dialect, 0, "returning", known)
    if peer.dialect.asks:
        asked = await device.asked
        device.answer(_diff(replica, asked.state_vector))
    device.close()
    return device


@cache
def _diff(replica: Replica, state_vector: bytes) -> bytes:
    """Made once: what it costs a device is not what is measured."""
    return replica.diff(state_vector)


async def _arrived(peer: Peer, server: Server, replica: Replica) -> Known:
    """Wait until the server has it all; what a device then knows that has it all, too."""
    expected = text_of((replica.state(),))
    deadline = clock() + ARRIVES_WITHIN_S
    while clock() < deadline:
        newcomer = await connected(server, peer.dialect, 0, "newcomer")
        newcomer.close()
        opened = newcomer.opened.result()
        if text_of(opened.updates or ()) == expected:
            return Known(replica.state_vector_bytes(), opened.cursor)
        await asyncio.sleep(0.1)
    raise WorkloadFailed("not all that was sent arrived")


def _passed_over(device: Device, data: bytes) -> None:
    """The writer has no use for what it hears."""
