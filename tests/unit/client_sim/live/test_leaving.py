"""The end of a device's block: whoever calls in meanwhile gets an error, and nobody hangs."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from client_sim import AsyncDevice, Device, DeviceEnded, Document, Outcome
from client_sim.core.roots import Roots

SOAK = "SYNCLINE_SOAK" in os.environ
NOWHERE = "ws://127.0.0.1:1/v1/sync"


def append(roots: Roots) -> None:
    roots.text("body").append("x")


CALLS: tuple[Callable[[Device, Document], object], ...] = (
    lambda phone, notes: notes.edit(append),
    lambda phone, notes: notes.text("body"),
    lambda phone, notes: phone.status,
    lambda phone, notes: phone.flush(),
    lambda phone, notes: phone.open("other", wait=True),
    lambda phone, notes: phone.wait_durable(),
    lambda phone, notes: notes.wait_current(),
    lambda phone, notes: phone.background_sync(within_s=3600.0, bytes_max=1_000_000),
)


class Caller(threading.Thread):
    """Makes one call after the other, until there is no device any more."""

    def __init__(self, phone: Device, notes: Document, make: Callable[[Device, Document], object]) -> None:
        super().__init__(daemon=True)
        self.ended: BaseException | None = None
        self.called = threading.Event()
        self._make = partial(make, phone, notes)

    def run(self) -> None:
        while self.ended is None:
            self.called.set()
            try:
                self._make()
            except DeviceEnded as exc:
                self.ended = exc
            except RuntimeError:  # of two background syncs at a time
                continue


@pytest.mark.parametrize("fails", [False, True])
def test_whoever_calls_while_the_block_is_left_gets_device_ended(fails: bool) -> None:
    for _ in range(100 if SOAK else 6):
        callers: list[Caller] = []

        def use(callers: list[Caller] = callers) -> None:
            with Device(NOWHERE, token="t", device="phone") as phone:
                notes = phone.open()
                callers += [Caller(phone, notes, make) for make in CALLS for _ in range(2)]
                for caller in callers:
                    caller.start()
                for caller in callers:
                    assert caller.called.wait(10)
                if fails:
                    raise KeyError("the app's")

        if fails:
            with pytest.raises(KeyError):
                use()
        else:
            use()
        for caller in callers:
            caller.join(10)
            assert isinstance(caller.ended, DeviceEnded)


def test_a_callback_that_fails_ends_those_who_wait() -> None:
    gone = threading.Event()

    def broken(document: Document) -> None:
        raise KeyError("the app's")

    def wait(phone: Device) -> None:
        try:
            phone.wait_current()
        except DeviceEnded:
            gone.set()

    def use() -> None:
        with Device(NOWHERE, token="t", device="phone", on_change=broken) as phone:
            notes = phone.open()
            threading.Thread(target=wait, args=(phone,), daemon=True).start()
            notes.edit(append)
            assert gone.wait(10)

    with pytest.raises(KeyError):
        use()


def test_a_token_function_that_waits_holds_nobody_up() -> None:
    asked, over = threading.Event(), threading.Event()

    def source(device: str) -> str:
        asked.set()
        assert over.wait(60)
        return "t"

    with Device(NOWHERE, token=source, device="phone") as phone:
        phone.open()
        assert asked.wait(10)
    (fetching,) = [thread for thread in threading.enumerate() if thread.name == "syncline-token"]
    over.set()
    fetching.join(10)
    assert not fetching.is_alive()


# --- windows


async def test_a_window_that_is_under_way_at_the_end_is_device_ended() -> None:
    async with AsyncDevice(NOWHERE, token="t", device="phone") as phone:
        await phone.open()
        sync = asyncio.create_task(phone.background_sync(within_s=3600.0, bytes_max=1_000_000))
        await phone.wait(lambda: phone.counters.retries > 0, 10)
    with pytest.raises(DeviceEnded):
        await sync
    with pytest.raises(DeviceEnded):
        await phone.background_sync(within_s=1.0, bytes_max=1)


async def test_there_is_one_window_at_a_time_and_its_bounds_stay() -> None:
    async with AsyncDevice(NOWHERE, token="t", device="phone") as phone:
        await phone.open()
        sync = asyncio.create_task(phone.background_sync(within_s=0.2, bytes_max=1_000_000))
        await phone.wait(lambda: phone.counters.retries > 0, 10)
        with pytest.raises(RuntimeError, match="one at a time"):
            await phone.background_sync(within_s=3600.0, bytes_max=1_000_000)
        assert (await sync).outcome is Outcome.OUT_OF_TIME


async def test_a_window_whose_caller_is_cancelled_is_over() -> None:
    async with AsyncDevice(NOWHERE, token="t", device="phone") as phone:
        await phone.open()
        sync = asyncio.create_task(phone.background_sync(within_s=3600.0, bytes_max=1_000_000))
        await phone.wait(lambda: phone.counters.retries > 0, 10)
        sync.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sync
        assert phone.status.reason == "suspended"
        assert (await phone.background_sync(within_s=0.2, bytes_max=1_000_000)).outcome is Outcome.OUT_OF_TIME


@pytest.mark.parametrize("bound", [float("nan"), -1, float("inf")])
async def test_a_window_has_bounds(bound: Any) -> None:
    async with AsyncDevice(NOWHERE, token="t", device="phone") as phone:
        with pytest.raises(ValueError, match="within_s"):
            await phone.background_sync(bound, 1)
        with pytest.raises(ValueError, match="bytes_max"):
            await phone.background_sync(1.0, bound)


async def test_a_wait_is_a_time() -> None:
    async with AsyncDevice(NOWHERE, token="t", device="phone") as phone:
        with pytest.raises(ValueError, match="within_s"):
            await phone.wait_durable(within_s=float("nan"))


async def test_a_window_may_be_cancelled_in_the_moment_in_which_the_block_is_left() -> None:
    async with AsyncDevice(NOWHERE, token="t", device="phone") as phone:
        await phone.open()
        sync = asyncio.create_task(phone.background_sync(within_s=3600.0, bytes_max=1_000_000))
        await phone.wait(lambda: phone.counters.retries > 0, 10)
        sync.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sync


async def test_outside_of_its_block_a_device_says_so() -> None:
    phone = AsyncDevice(NOWHERE, token="t", device="phone")
    waits = (phone.open, phone.wait_current, phone.wait_durable, partial(phone.background_sync, 1.0, 1000))
    for wait in waits:
        with pytest.raises(DeviceEnded):
            await wait()
    async with phone:
        notes = await phone.open()
    for call in (partial(notes.edit, append), phone.flush, phone.suspend, notes.close):
        with pytest.raises(DeviceEnded):
            call()
    for wait in (*waits, *waits):
        with pytest.raises(DeviceEnded):
            await wait()
