"""One device of the demo, in a process of its own: it types its part of the history, each edit when its turn has come.

Standard input has the Task, then commands; its end is the end of this process. Standard output has Reports.
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

from client_sim.core import events
from client_sim.demo.history import Clock, Edit, read_edits
from client_sim.demo.words import DOCUMENT, PROGRESS_ROOT, RECONNECT, Report, Tally, Task
from client_sim.live import AsyncDevice, AsyncDocument, Roots
from crdt.values import canonical_json

REPORT_EVERY_S = 0.1
AWAY, WAITING = "away", "waiting"
"""States beside those of the document. `away`: offline because the task says so. `waiting`: for others' edits."""


class Typist:
    """Makes the edits of its task that its document does not have yet, in order."""

    def __init__(self, task: Task, device: AsyncDevice, document: AsyncDocument) -> None:
        self._task = task
        self._device = device
        self._document = document
        self._edits = read_edits(Path(task.edits))
        self._own = task.devices.index(task.device)
        self._reconnect = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._is_offline = self._has_left = self._is_waiting = self._finished = False
        self._converged_at: float | None = None
        self._typed = self._known()[self._own]

    def reconnect(self) -> None:
        self._reconnect.set()

    def report(self) -> Report:
        counters = self._device.counters
        state = AWAY if self._is_offline else WAITING if self._is_waiting else str(self._document.status)
        tally = Tally(
            counters.bytes_up, counters.bytes_down, counters.connections, counters.ops_resent, counters.heals,
            dict(counters.catch_ups),
        )  # fmt: skip
        return Report(state, self._typed, self._document.pending.count, self._finished, self._converged_at, tally)

    async def play(self) -> None:
        """From the first edit that is not made to the values of everybody's last one."""
        for number in range(self._typed, len(self._edits)):
            if number >= self._task.tail:
                await self._leave()
            elif number == self._task.offline_at:
                await self._vanish(number)
            await self._wait_for_time(self._edits[number].due_s)
            await self._type(self._edits[number])
        await self._leave()
        self._finished = True
        await self._reconnect.wait()
        self._return()
        await self._document.wait_current()
        await self._device.wait(lambda: self._has(self._task.ends) and not self._document.pending)
        converged_at = time.time()
        self._write_values()
        self._converged_at = converged_at

    def _write_values(self) -> None:
        Path(self._task.values).write_bytes(canonical_json(self._document.values()))

    # --- typing

    async def _type(self, edit: Edit) -> None:
        if not self._make(edit):
            self._return()
            self._is_waiting = True
            await self._device.wait(lambda: self._make(edit))
            self._is_waiting = False
        self._typed += 1

    def _make(self, edit: Edit) -> bool:
        """Make the edit if all is there that its author had seen. It and its count are one op."""
        made = False

        def change(roots: Roots) -> None:
            nonlocal made
            made = _covers(self._counts(roots), edit.needs)
            if made:
                roots.apply(edit.update)
                roots.map(PROGRESS_ROOT)[self._task.device] = edit.needs[self._own] + 1

        self._document.edit(change)
        return made

    def _known(self) -> Clock:
        """How many edits of each device are here. Reading is an edit that changes nothing."""
        known: list[Clock] = []
        self._document.edit(lambda roots: known.append(self._counts(roots)))
        return known[0]

    def _counts(self, roots: Roots) -> Clock:
        counts = roots.map(PROGRESS_ROOT)
        return tuple(int(counts.get(device) or 0) for device in self._task.devices)

    def _has(self, needs: Clock) -> bool:
        return _covers(self._known(), needs)

    async def _wait_for_time(self, due_s: float) -> None:
        await asyncio.sleep(max(0.0, self._task.started_at + due_s / self._task.speed - time.time()))

    # --- going offline

    async def _vanish(self, number: int) -> None:
        """Go offline with what the edit builds on, until this device can not go on alone, but not for too long."""
        await self._device.wait(lambda: self._has(self._edits[number].needs))
        self._go_offline()
        self._timer = asyncio.get_running_loop().call_later(self._task.offline_s, self._return)

    async def _leave(self) -> None:
        """Go offline for the last time: when this device has what its tail builds on, and others what theirs do."""
        if self._has_left:
            return
        self._return()
        needs = self._edits[-1].needs if self._edits else self._known()
        await self._device.wait(lambda: _covers(self._known(), needs, but=self._own))
        await self._document.wait_durable()
        self._go_offline()
        self._has_left = True

    def _go_offline(self) -> None:
        self._is_offline = True
        self._device.feed(events.Stopped())

    def _return(self) -> None:
        if self._timer:
            self._timer.cancel()
        if self._is_offline:
            self._is_offline = False
            self._device.reconnect()


def _covers(known: Clock, needs: Clock, but: int | None = None) -> bool:
    return all(have >= need for device, (have, need) in enumerate(zip(known, needs, strict=True)) if device != but)


async def report_regularly(typist: Typist) -> None:
    """Write down what changed."""
    last = None
    while True:
        report = typist.report()
        if report != last:
            sys.stdout.buffer.write(report.line())
            sys.stdout.buffer.flush()
            last = report
        await asyncio.sleep(REPORT_EVERY_S)


async def main() -> None:
    """Do as standard input says, until it ends."""
    orders = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    task = Task.read(await orders.readline())
    async with (
        AsyncDevice(task.url, token=task.token, device=task.device, store=task.store) as device,
        asyncio.TaskGroup() as group,
    ):
        typist = Typist(task, device, await device.open(DOCUMENT))
        work = [group.create_task(typist.play()), group.create_task(report_regularly(typist))]
        while order := await orders.readline():
            if order.decode().strip() == RECONNECT:
                typist.reconnect()
        for running in work:
            running.cancel()


if __name__ == "__main__":
    asyncio.run(main())
