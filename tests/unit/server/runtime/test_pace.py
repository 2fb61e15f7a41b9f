"""When a commit begins, and on which thread."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import cast

import pytest

from crdt.ids import DeviceId, DocumentId
from server.core.auth import Authority
from server.core.options import CoreOptions
from server.core.ports import Storage, StorageError
from server.core.records import DocumentAppend, LogEntry
from server.runtime.driver import Driver
from server.runtime.pace import GATHER_READS, GATHER_S, HOLD_BYTES_MAX, REST, SLOW_S, Pace
from server.runtime.telemetry import Telemetry
from server.runtime.worker import Worker

PHONE = DeviceId("alice", "phone")


def batch(entries: int, update: bytes = b"update") -> list[DocumentAppend]:
    made = tuple(LogEntry(seq, PHONE, seq, seq, bytes(8), (update,), 0) for seq in range(1, entries + 1))
    return [DocumentAppend(DocumentId("alice", "main"), bytes(8), made)]


def read(pace: Pace, times: int) -> None:
    for _ in range(times):
        pace.has_read()


def test_an_idle_server_commits_at_once() -> None:
    pace = Pace()
    read(pace, GATHER_READS - 1)
    assert not pace.gathers(1.0)


def test_a_busy_one_gathers_as_long_as_much_comes_and_no_longer_than_that() -> None:
    pace = Pace()
    waited_s = 0.0
    while waited_s < GATHER_S:
        read(pace, GATHER_READS)
        assert pace.gathers(1.0 + waited_s)
        waited_s += GATHER_S / 4
    read(pace, GATHER_READS)
    assert not pace.gathers(1.0 + waited_s)


def test_what_was_gathered_goes_when_nothing_more_comes() -> None:
    pace = Pace()
    read(pace, GATHER_READS)
    assert pace.gathers(1.0)
    assert not pace.gathers(1.0 + GATHER_S / 4)


def test_each_commit_gathers_anew() -> None:
    pace = Pace()
    for now in (1.0, 1.0 + 2 * GATHER_S):
        read(pace, GATHER_READS)
        assert pace.gathers(now)
        assert not pace.gathers(now + GATHER_S / 4)


def test_only_a_single_small_entry_may_hold_up_the_loop() -> None:
    pace = Pace()
    assert pace.may_hold_up(batch(1), 1.0)
    assert not pace.may_hold_up(batch(2), 1.0)
    assert not pace.may_hold_up([*batch(1), *batch(1)], 1.0)
    assert not pace.may_hold_up(batch(1, bytes(HOLD_BYTES_MAX + 1)), 1.0)


def test_a_slow_disk_has_the_loop_for_a_hundredth_of_the_time() -> None:
    pace = Pace()
    pace.held_up(SLOW_S, 1.0)
    assert pace.may_hold_up(batch(1), 1.0)
    pace.held_up(2 * SLOW_S, 1.0)
    assert not pace.may_hold_up(batch(1), 1.0 + REST * 2 * SLOW_S * 0.99)
    assert pace.may_hold_up(batch(1), 1.0 + REST * 2 * SLOW_S)


class StuckStorage:
    """Takes its time to fail."""

    def __init__(self) -> None:
        self.asked = 0

    def append_at_once(self, batch: Sequence[DocumentAppend]) -> None:
        self.asked += 1
        time.sleep(2 * SLOW_S)
        raise StorageError("the database is locked")


async def test_a_commit_that_fails_slowly_holds_up_the_loop_no_second_time() -> None:
    storage = StuckStorage()
    async with asyncio.TaskGroup() as tasks:
        authority = Authority((), "", "")
        driver = Driver(cast("Storage", storage), authority, CoreOptions(), Telemetry(), tasks, cast("Worker", None))
        with pytest.raises(StorageError):
            driver._append_at_once(tuple(batch(1)))
        assert driver._append_at_once(tuple(batch(1))) is None
    assert storage.asked == 1
