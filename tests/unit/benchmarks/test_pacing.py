"""Many at a time, and what fails among them is told as it is."""

from __future__ import annotations

import asyncio

import pytest

from benchmarks.figures import WorkloadFailed
from benchmarks.pacing import each, run


async def test_each_is_acted_on_once_and_no_more_at_once_than_may() -> None:
    done: list[int] = []
    busy = most = 0

    async def act(item: int) -> None:
        nonlocal busy, most
        busy += 1
        most = max(most, busy)
        await asyncio.sleep(0)
        busy -= 1
        done.append(item)

    await each(range(10), act, at_once=3)
    assert (sorted(done), most) == (list(range(10)), 3)


def test_a_failed_workload_is_told_out_of_its_groups() -> None:
    async def fail(_: int) -> None:
        raise WorkloadFailed("a device lacks something")

    async def nested() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(each([1], fail, at_once=1))

    with pytest.raises(WorkloadFailed, match="a device lacks something"):
        run(nested())


def test_what_is_no_failed_workload_stays_what_it_is() -> None:
    async def break_down(_: int) -> None:
        raise KeyError("a defect")

    with pytest.raises(ExceptionGroup) as caught:
        run(each([1], break_down, at_once=1))
    assert caught.group_contains(KeyError)
