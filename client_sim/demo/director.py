"""The demo's course: who types, who goes offline, what is killed and when, and what came of it."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any, Final

from client_sim.demo.board import Board, Picture, Row
from client_sim.demo.history import History, concurrent_edits, longest_stretch, tail, write_edits
from client_sim.demo.processes import DemoFailed, DeviceProcess, Processes, ServerProcess
from client_sim.demo.typist import AWAY
from client_sim.demo.verdict import judge, replay_database
from client_sim.demo.words import Report, Tally, Task
from client_sim.tokens import mint

USER: Final = "demo"
PLAY_S: Final = 60.0
"""How long the typing takes, at the speed that is taken if none is given."""
BEFORE_START_S: Final = 1.5
"""For the devices' processes to start."""

OFFLINE_BETWEEN: Final = (0.15, 0.4)
"""Of all edits: among these one device goes offline for a while, where it can type longest on its own."""
DEVICE_KILLED_AT: Final = 0.5
SERVER_KILLED_AT: Final = 0.7

POLL_S: Final = 0.05
STALLED_S: Final = 60.0
TOKEN_TTL_S: Final = 24 * 3600


@dataclass(frozen=True, slots=True)
class Outcome:
    """`problems` is empty if all is as promised."""

    rows: tuple[Row, ...]
    concurrent: int
    offline_at_end: int
    convergence_s: float
    problems: tuple[str, ...]


class Director:
    """One performance of a history in `folder`, which is empty. `speed` divides the times of the history."""

    def __init__(self, history: History, folder: Path, board: Board, *, seed: int, speed: float) -> None:
        self._history = history
        self._folder = folder
        self._board = board
        self._rng = Random(seed)
        self._speed = speed
        self._length_s = history.length_s() / speed
        self._down_s = min(2.0, max(0.3, self._length_s / 30))
        self._secret = secrets.token_hex(32)
        self._tail = tail(history)
        self._devices: list[DeviceProcess] = []
        self._told: dict[str, Report] = {}

    async def perform(self) -> Outcome:
        """From an empty folder to the verdict. Raises DemoFailed."""
        async with Processes() as processes:
            self._server = ServerProcess(processes, self._folder, self._secret)
            await self._server.start()
            self._board.say(f"the server listens at {self._server.url}")
            self._cast(processes)
            try:
                async with asyncio.TaskGroup() as group:
                    convergence_s = await self._play(group)
            except ExceptionGroup as exc:
                failed = [error for error in exc.exceptions if isinstance(error, DemoFailed)]
                if len(failed) < len(exc.exceptions):
                    raise
                raise failed[0] from exc
            await self._server.stop()
            problems = [*self._broken_acks(), *judge(self._history, await self._holders())]
            return Outcome(
                self._rows(), concurrent_edits(self._history), sum(self._history.ends) - sum(self._tail),
                convergence_s, tuple(problems),
            )  # fmt: skip

    # --- before

    def _cast(self, processes: Processes) -> None:
        """Hand out the tasks."""
        vanishing = longest_stretch(self._history, *OFFLINE_BETWEEN)
        others = [number for number in range(len(self._history.devices)) if number != vanishing.device]
        self._killed = self._rng.choice(others)
        started_at = time.time() + BEFORE_START_S
        for number, device in enumerate(self._history.devices):
            edits = self._folder / f"{device}.edits"
            write_edits(edits, self._history.edits[number])
            task = Task(
                url=self._server.url,
                token=self._token(device),
                device=device,
                devices=self._history.devices,
                ends=self._history.ends,
                edits=str(edits),
                store=str(self._folder / f"{device}.db"),
                values=str(self._folder / f"{device}.json"),
                tail=self._tail[number],
                offline_at=vanishing.number if number == vanishing.device else None,
                offline_s=min(10.0, max(0.5, self._length_s * 0.15)),
                speed=self._speed,
                started_at=started_at,
            )
            self._devices.append(DeviceProcess(processes, self._folder, task))

    def _token(self, device: str) -> str:
        return mint(self._secret, USER, device, TOKEN_TTL_S)

    # --- the course of events

    async def _play(self, group: asyncio.TaskGroup) -> float:
        """How long it took from the last reconnect until all had everything, in seconds."""
        for device in self._devices:
            group.create_task(device.run())
        self._board.say(f"{', '.join(device.name for device in self._devices)} type at once")
        await self._until(lambda: self._done() >= DEVICE_KILLED_AT, "half of the edits")
        await self._kill_device(self._devices[self._killed], group)
        await self._until(lambda: self._done() >= SERVER_KILLED_AT, "more edits")
        await self._kill_server()
        await self._until(lambda: all(device.report.finished for device in self._devices), "all edits")
        self._board.say("all is typed, the last of it offline; everybody reconnects at once")
        reconnected_at = time.time()
        for device in self._devices:
            device.reconnect()
        await self._until(
            lambda: all(device.report.converged_at for device in self._devices), "everybody to be current"
        )
        self._board.show(self._picture())
        for device in self._devices:
            await device.dismiss()
        return max(device.report.converged_at or 0.0 for device in self._devices) - reconnected_at

    async def _kill_device(self, device: DeviceProcess, group: asyncio.TaskGroup) -> None:
        await device.kill()
        self._board.say(f"{device.name} is killed with -9, with {device.report.pending} edits not acknowledged")
        await self._wait_s(self._down_s)
        group.create_task(device.run())
        self._board.say(f"{device.name} starts again on its store")

    async def _kill_server(self) -> None:
        await self._server.kill()
        self._board.say("the server is killed with -9; the devices type on")
        await self._wait_s(self._down_s)
        await self._server.start()
        self._board.say("the server is back on its port and its file")

    async def _wait_s(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        await self._until(lambda: time.monotonic() >= end, "the time")

    async def _until(self, condition: Callable[[], object], what: str) -> None:
        """Show how things are until the condition holds. Raises DemoFailed if they stay as they are for long."""
        last, changed_at = self._progress(), time.monotonic()
        while not condition():
            await asyncio.sleep(POLL_S)
            self._tell_who_is_offline()
            self._board.show(self._picture())
            if (progress := self._progress()) != last:
                last, changed_at = progress, time.monotonic()
            elif time.monotonic() > changed_at + STALLED_S:
                raise DemoFailed(f"nothing happened for {STALLED_S:g} s, waiting for {what}")

    def _tell_who_is_offline(self) -> None:
        for device in self._devices:
            before, now = self._told.get(device.name, device.report), device.report
            self._told[device.name] = now
            if now.state == AWAY != before.state:
                self._board.say(f"{device.name} goes offline")
            elif before.state == AWAY != now.state:
                self._board.say(f"{device.name} is back, with {before.pending} edits that nobody else has")

    # --- how things are

    def _progress(self) -> list[Report]:
        """What does not change of itself, as byte counts do."""
        return [replace(device.report, tally=Tally()) for device in self._devices]

    def _done(self) -> float:
        return self._picture().done

    def _picture(self) -> Picture:
        return Picture(self._rows(), self._server.is_up)

    def _rows(self) -> tuple[Row, ...]:
        return tuple(map(self._row, self._devices, self._history.edits))

    def _row(self, device: DeviceProcess, edits: tuple[Any, ...]) -> Row:
        report, tally = device.report, device.tally
        return Row(
            device.name, report.state, report.typed, len(edits), report.pending, tally.resent,
            tally.bytes_up, tally.bytes_down, tally.catch_ups, max(0, tally.connections - 1),
        )  # fmt: skip

    def _broken_acks(self) -> list[str]:
        return [
            f"the server had lost what it had acknowledged to {device.name}, which gave it back"
            for device in self._devices
            if device.tally.heals
        ]

    async def _holders(self) -> dict[str, Any]:
        """The values that the database and each device have at the end, by holder."""
        return {
            "the database": await replay_database(self._server, USER),
            **{device.name: _read_values(Path(device.task.values)) for device in self._devices},
        }


def _read_values(file: Path) -> Any:
    return json.loads(file.read_bytes())
