"""Who is gone, or lacks the document's line, or is not known to the server, is noticed."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from benchmarks.figures import WorkloadFailed
from benchmarks.histories import generated
from benchmarks.visitor import NOTHING, CaughtUp, Visit, Visitor
from benchmarks.workloads import connections
from benchmarks.workloads.connections import check, shared
from crdt.protocol.frames import Cursor, Mode

SERVER: Any = None
"""What it counts is made up."""
LINE = generated(1, 0.0).updates


def seated(updates: tuple[bytes, ...]) -> Visitor:
    """A device that was answered with these updates."""
    visit = Visit("main", NOTHING)
    visit.caught_up.set_result(CaughtUp(Mode.DIFF, updates, Cursor(b"epoch-01", 1), 0))
    return Visitor("token", "phone", [visit])


@pytest.fixture(autouse=True)
def counted(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """What the server counts."""
    metrics = {"syncline_sessions": 2.0, "syncline_rooms": 2.0}

    async def read(_: object) -> dict[str, float]:
        return metrics

    monkeypatch.setattr(connections, "read_metrics", read)
    monkeypatch.setattr(connections, "LOOK_S", 0.0)
    return metrics


async def test_everybody_has_the_line_whether_as_an_answer_or_later() -> None:
    later = seated(())
    later.visits[0].deltas.extend(LINE)
    await check(SERVER, [seated(LINE), later], 2)


async def test_a_run_fails_when_a_device_lacks_the_line() -> None:
    with pytest.raises(WorkloadFailed, match="lacks"):
        await check(SERVER, [seated(LINE), seated(())], 2)


async def test_a_run_fails_when_a_device_is_gone() -> None:
    gone = seated(LINE)
    gone.left = asyncio.get_running_loop().create_future()
    gone.left.set_result(None)
    with pytest.raises(WorkloadFailed, match="1 are gone"):
        await check(SERVER, [seated(LINE), gone], 2)


@pytest.mark.parametrize("what", ["syncline_sessions", "syncline_rooms"])
async def test_a_run_fails_when_the_server_counts_others(counted: dict[str, float], what: str) -> None:
    counted[what] = 3.0
    with pytest.raises(WorkloadFailed, match="the server has"):
        await check(SERVER, [seated(LINE), seated(LINE)], 2)


@pytest.mark.parametrize("number", [0, 59, 60, 14_999])
def test_devices_of_a_document_are_of_one_user_and_the_first_writes(number: int) -> None:
    seat = shared(number)
    assert (seat.user, seat.device, seat.writes) == (f"user-{number // 60}", f"device-{number % 60}", number % 60 == 0)
