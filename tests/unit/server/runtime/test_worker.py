"""The worker process may die at any time; the server must not notice more than one failed piece of work."""

from __future__ import annotations

import os
import signal
import time

import pytest

from server.runtime.worker import Worker
from server.storage.compaction import CompactionError
from tests.support import wait_until


def _is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


async def test_a_worker_that_was_killed_is_replaced() -> None:
    with Worker() as worker:
        first = await worker.run(os.getpid)
        assert first != os.getpid()
        os.kill(first, signal.SIGKILL)
        await wait_until(lambda: _is_gone(first))
        second = first
        while second == first:
            try:
                second = await worker.run(os.getpid)
            except CompactionError:
                continue  # one piece of work may be lost with it
        assert not _is_gone(second)


async def test_a_worker_that_dies_at_work_is_an_error_of_that_work() -> None:
    with Worker() as worker:
        with pytest.raises(CompactionError):
            await worker.run(os.kill, await worker.run(os.getpid), signal.SIGKILL)
        for _ in range(3):
            try:
                assert await worker.run(abs, -1) == 1
                break
            except CompactionError:
                continue


async def test_what_the_work_raises_is_raised() -> None:
    with Worker() as worker:
        with pytest.raises(ZeroDivisionError):
            await worker.run(divmod, 1, 0)
        assert await worker.run(time.gmtime, 0) is not None
