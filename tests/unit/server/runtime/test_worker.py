"""The worker process may die at any time; the server must not notice more than one failed piece of work."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import threading
import time
from multiprocessing.context import ForkServerProcess

import pytest
from pebble import ProcessPool

from server.runtime.worker import Worker, WorkerDied, WorkerMissing
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
            except WorkerDied:
                continue  # one piece of work may be lost with it
        assert not _is_gone(second)


async def test_a_worker_that_dies_at_work_is_an_error_of_that_work() -> None:
    with Worker() as worker:
        with pytest.raises(WorkerDied) as died:
            await worker.run(os._exit, 9)
        assert died.type is WorkerDied, "the work is to blame"
        for _ in range(3):
            try:
                assert await worker.run(abs, -1) == 1
                break
            except WorkerDied:
                continue


async def test_work_that_swells_dies_of_it_and_the_next_is_done() -> None:
    with Worker(memory_bytes_max=1 << 30) as worker:
        with pytest.raises(WorkerDied):
            await worker.run(bytearray, 2 << 30)
        assert await worker.run(abs, -1) == 1


async def test_work_that_hangs_is_given_up_and_others_go_on() -> None:
    with Worker() as worker:
        await worker.run(abs, -1)
        async with asyncio.TaskGroup() as tasks:
            hung = tasks.create_task(_is_given_up(worker))
            assert await worker.run(abs, -2) == 2
            assert not hung.done()


async def _is_given_up(worker: Worker) -> None:
    with pytest.raises(WorkerDied):
        await worker.run_within(1.0, pow, 3, 10**9)


async def test_while_no_worker_can_be_started_each_work_fails_and_then_all_is_well(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The system may have no process or descriptor left, for a while."""
    with Worker() as worker:
        with monkeypatch.context() as exhausted:
            exhausted.setattr(ForkServerProcess, "start", _out_of_processes)
            for _ in range(3):
                with pytest.raises(WorkerMissing):
                    await worker.run(abs, -1)
        assert await worker.run(abs, -1) == 1


async def test_work_that_is_lost_with_all_workers_is_not_to_blame(monkeypatch: pytest.MonkeyPatch) -> None:
    """The work of another killed its worker, and there is none in its place."""
    with Worker() as worker:
        await worker.run(abs, -1)
        monkeypatch.setattr(ForkServerProcess, "start", _out_of_processes)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_is_lost(worker))
            with pytest.raises(WorkerDied):
                await worker.run(os._exit, 9)


async def _is_lost(worker: Worker) -> None:
    with pytest.raises(WorkerMissing):
        await worker.run(pow, 3, 10**9)


async def test_a_server_that_never_had_a_worker_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ForkServerProcess, "start", _out_of_processes)
    with Worker() as worker, pytest.raises(WorkerDied):
        await worker.run(abs, -1)


def _out_of_processes(process: ForkServerProcess) -> None:
    raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))


async def test_what_the_work_raises_is_raised() -> None:
    with Worker() as worker:
        with pytest.raises(ZeroDivisionError):
            await worker.run(divmod, 1, 0)
        assert await worker.run(time.gmtime, 0) is not None


async def test_the_loop_goes_on_while_the_first_processes_start(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, may_start = threading.Event(), threading.Event()
    start = ProcessPool._start_pool

    def start_slowly(pool: ProcessPool) -> None:
        begun.set()
        assert may_start.wait(10.0), "the loop stood still"
        start(pool)  # type: ignore[no-untyped-call]

    monkeypatch.setattr(ProcessPool, "_start_pool", start_slowly)
    with Worker() as worker:
        work = asyncio.create_task(worker.run(abs, -1))
        await wait_until(begun.is_set)
        may_start.set()
        assert await work == 1
