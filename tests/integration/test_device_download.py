"""A large first sync on a real server, in more than one life of the device's process."""

from __future__ import annotations

from pathlib import Path
from random import Random

from client_sim.live import Outcome
from crdt.protocol.frames import Chunk
from tests.integration.server_peers import WITHIN_S, new_device, tapped, write
from tests.server_fixture import running_server

LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
WINDOW_BYTES = 150_000


async def test_the_next_process_fetches_the_rest_alone(tmp_path: Path) -> None:
    text = "".join(Random(1).choices(LETTERS, k=400_000))
    store = tmp_path / "phone.db"
    async with running_server(tmp_path) as server, tapped(server.url) as tap:
        async with new_device(server.url, "laptop") as laptop:
            notes = await laptop.open()
            write(notes, text)
            await notes.wait_durable(WITHIN_S)
        async with new_device(tap.url, store=store) as phone:
            phone.suspend()
            await phone.open()
            done = await phone.background_sync(within_s=WITHIN_S, bytes_max=WINDOW_BYTES)
            assert done.outcome is Outcome.OUT_OF_BYTES
        kept_bytes = sum(len(chunk.data) for chunk in tap.of(Chunk))
        tap.forget()
        async with new_device(tap.url, store=store) as phone:
            notes = await phone.open()
            await notes.wait_current(WITHIN_S)
            assert notes.text("body") == text
    rest = tap.of(Chunk)
    assert 0 < rest[0].offset <= kept_bytes
    assert sum(len(chunk.data) for chunk in rest) == rest[0].total - rest[0].offset
