"""A server that dies at the worst moments: what was acknowledged is there, what was not is sent again, taken once."""

from __future__ import annotations

from pathlib import Path

import pytest

from client_sim.live import AsyncDevice, AsyncDocument
from tests.integration.crash_points import POINTS, WAYS
from tests.integration.server_peers import WITHIN_S, check_gapless, converged, new_device, stored, write
from tests.integration.server_process import server_process

IN_THE_LOG = ("after_commit", "after_append", "amid_sends", "amid_sends_backwards")


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("way", WAYS)
async def test_a_server_killed_on_an_ops_way_loses_and_repeats_nothing(tmp_path: Path, point: str, way: str) -> None:
    async with (
        server_process(tmp_path, crash=f"{point}/{way}") as server,
        new_device(server.url, "phone", store=tmp_path / "phone.db") as phone,
        new_device(server.url, "laptop") as laptop,
    ):
        mine, theirs = await phone.open(), await laptop.open()
        write(mine, "acknowledged ")
        await converged(mine, theirs, to={"body": "acknowledged "})

        server.arm()
        write(mine, "at risk")
        await server.exited()
        await _see_the_end(phone, laptop)
        log = await stored(server.database, "alice/main")
        ops = check_gapless(log)["alice/phone"]
        assert ops == (2 if point in IN_THE_LOG else 1)
        _check_who_knows(point, mine, theirs)

        await server.start()
        for device in (phone, laptop):
            device.reconnect()
        await converged(mine, theirs, to={"body": "acknowledged at risk"})
        write(theirs, "!")
        await converged(mine, theirs, to={"body": "acknowledged at risk!"})
        await server.kill()
        log = await stored(server.database, "alice/main")
        assert check_gapless(log) == {"alice/phone": 2, "alice/laptop": 1}
        assert log.head_seq == 3, "each op once"
        assert phone.counters.heals == laptop.counters.heals == 0


async def _see_the_end(*devices: AsyncDevice) -> None:
    for device in devices:
        await device.wait(lambda device=device: device.status.state == "offline", WITHIN_S)  # type: ignore[misc]


def _check_who_knows(point: str, mine: AsyncDocument, theirs: AsyncDocument) -> None:
    """Who was told is in the log; who was not told has it still to send, or to receive."""
    assert mine.pending.count == (0 if point == "amid_sends" else 1)
    told = point == "amid_sends_backwards"
    assert theirs.text("body") == ("acknowledged at risk" if told else "acknowledged ")
