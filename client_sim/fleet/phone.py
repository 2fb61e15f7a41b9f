"""One device of a fleet: its app is opened, used, left open, closed or killed, and opened again from its store."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from client_sim.core.effects import Problem
from client_sim.core.pacing import Policy
from client_sim.core.ports import DeviceStore
from client_sim.core.reasons import PLANNED
from client_sim.core.roots import Roots
from client_sim.core.status import State, Status
from client_sim.fleet.figures import Figures, Spent, Timed
from client_sim.fleet.habits import VISITS, Leaving, Person
from client_sim.fleet.ledger import Ledger
from client_sim.fleet.wire import Line
from client_sim.live import AsyncDevice, AsyncDocument
from client_sim.live.tokens import TokenSource
from client_sim.store import MemoryStore
from crdt.update import StateVector

DOCUMENT = "main"
SUFFIXES = ("", "-wal")
"""Of the files of a store that has not been closed."""
WINDOW_S, WINDOW_BYTES = 20.0, 256 << 10
"""What a system grants a suspended app now and then."""
SETTLE_POLL_S = 0.2
DOWN, UP = (State.OFFLINE, State.CONNECTING), (State.SYNCING, State.CURRENT)


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose device it is, where its server is, how it gets tokens, and what the app chose for it."""

    url: str
    user: str
    name: str
    token: TokenSource
    policy: Policy | None = None
    latency_s: float | None = None


class Disk:
    """Where a device's store is: a file, or memory. A kill leaves the files as they are at that moment."""

    def __init__(self, file: Path | None) -> None:
        self.file = file
        self._memory = MemoryStore()
        self._dead: Path | None = None
        self._kills = 0

    def open(self) -> Path | DeviceStore:
        """The store as the next process finds it."""
        if self.file is not None:
            return self.file
        self._memory = self._memory.restarted()
        return self._memory

    def kill(self) -> None:
        """What the file and its log hold now is what the next life finds, and not what a tidy end makes of them."""
        if self.file is None:
            return
        self._kills += 1
        image = self.file.with_name(f"{self.file.name.partition('.')[0]}.{self._kills}.db")
        for suffix in SUFFIXES:
            with suppress(FileNotFoundError):
                shutil.copyfile(f"{self.file}{suffix}", f"{image}{suffix}")
        self.file, self._dead = image, self.file

    def bury(self) -> None:
        """The files of the process that is dead now are nobody's."""
        if self._dead is not None:
            for suffix in SUFFIXES:
                Path(f"{self._dead}{suffix}").unlink(missing_ok=True)
            self._dead = None


class Phone:
    """Runs until it is dismissed. `spent` and `values` are what is left of it."""

    def __init__(
        self, identity: Identity, disk: Disk, line: Line, person: Person, ledger: Ledger, figures: Figures
    ) -> None:
        self.identity = identity
        self.spent = Spent()
        self.is_settled = False
        """All is current and acknowledged, at the end of the run."""
        self.values: Mapping[str, Any] = {}
        self.version: StateVector = {}
        self.siblings: Sequence[Phone] = ()
        """The user's other devices."""
        self.line = line
        self._disk = disk
        self._person = person
        self._ledger = ledger
        self._figures = figures
        self._device: AsyncDevice | None = None
        self._document: AsyncDocument | None = None
        self._stirred = asyncio.Event()
        """By a notification, or by the end."""
        self._was_called = self.is_suspended = False
        self._ending = asyncio.Event()
        self._dismissed = asyncio.Event()
        self._visits: list[str] = []
        self._opened_s = 0.0
        self._behind_since_s: float | None = None
        self._is_opening = False
        line.on_break, line.on_return = self._fell_behind, self._network_is_back

    # --- what others see

    @property
    def status(self) -> Status | None:
        """None where the app is closed."""
        return self._device.status if self._device else None

    @property
    def is_online(self) -> bool:
        """It believes so: a connection that is half-open counts."""
        return self._device is not None and self._device.status.state in UP

    @property
    def is_current(self) -> bool:
        return self._device is not None and self._device.status.state is State.CURRENT

    def backlog(self) -> tuple[int, float]:
        """How many edits are pending, and for how many seconds the oldest has been."""
        if self._document is None:
            return 0, 0.0
        self._note_acknowledged()
        pending = self._document.pending
        return pending.count, pending.age_s

    def traffic(self) -> tuple[int, int]:
        return self.line.bytes_up, self.line.bytes_down

    # --- what happens to it

    def upgrades(self, visit: str) -> None:
        """Its store is of an older format, and has a visit that no server has seen."""
        self.spent.upgrades += 1
        self._visits.append(visit)

    def call(self) -> None:
        """A notification: whoever does not use the device opens the app soon."""
        self._stirred.set()

    def end(self) -> None:
        """The time of the run is over: come online, and stay."""
        self._ending.set()
        self._stirred.set()
        self.line.calm()
        if self._device:
            self._device.network_is_back()

    def dismiss(self) -> None:
        self._dismissed.set()

    async def live(self) -> None:
        await self._rest(self._person.first_away_s())
        while not self._ending.is_set():
            await self._run_app()
            self._disk.bury()
            await self._rest(self._person.away_s())
        if not self._dismissed.is_set():
            await self._run_app()
        self._settle_costs()

    # --- one life of the app

    async def _run_app(self) -> None:
        """Until it is closed, or killed."""
        identity = self.identity
        self.spent.lives += 1
        self._opened_s = self.line.clock()
        self._is_opening, self._behind_since_s = True, self._opened_s
        async with AsyncDevice(
            identity.url, token=identity.token, device=identity.name, store=self._disk.open(), dial=self.line.dial,
            policy=identity.policy, latency_s=identity.latency_s,
            on_change=self._on_change, on_status=self._on_status, on_error=self._on_error,
        ) as device:  # fmt: skip
            self._device, self._document = device, await device.open(DOCUMENT)
            try:
                await self._use_app(device, self._document)
            finally:
                self._note_acknowledged()
                self._count(device)
                self._device = self._document = None

    async def _use_app(self, device: AsyncDevice, document: AsyncDocument) -> None:
        leaving = Leaving.STAYS
        while leaving in (Leaving.STAYS, Leaving.SUSPENDED) and not self._ending.is_set():
            await self._attend(document, self.line.clock() + self._person.session_s())
            leaving = self._person.leaves()
            if leaving is Leaving.STAYS:
                await self._rest(self._person.away_s())
            elif leaving is Leaving.SUSPENDED:
                await self._be_suspended(device)
        if self._ending.is_set():
            await self._finish(device, document)
        elif leaving is Leaving.KILLED:
            self.spent.kills += 1
            self._disk.kill()
            self.line.kill()

    async def _be_suspended(self, device: AsyncDevice) -> None:
        began_s, away_s = self.line.clock(), self._person.away_s()
        self.is_suspended, self._behind_since_s = True, None
        device.suspend()
        if self._person.is_synced():
            await self._rest(away_s / 2)
            if not (self._was_called or self._ending.is_set()):
                done = await device.background_sync(WINDOW_S, WINDOW_BYTES)
                self._figures.windows[done.outcome] += 1
                await self._rest(away_s / 2)
        else:
            await self._rest(away_s)
        self.is_suspended = False
        self.spent.open_s -= self.line.clock() - began_s
        self._fell_behind()
        device.resume()

    async def _attend(self, document: AsyncDocument, until_s: float) -> None:
        """Have the device in hand: to write, or, if a notification called, perhaps only to look."""
        if self._was_called and not self._person.answers():
            await self._pause(until_s - self.line.clock(), self._ending)
        else:
            await self._type(document, until_s)

    async def _type(self, document: AsyncDocument, until_s: float) -> None:
        visit = f"{self.identity.name}/{self.spent.lives}/{self.spent.edits}"
        self._edit(document, lambda roots: roots.array(VISITS).append(visit))
        self._visits.append(visit)
        for stroke in self._person.typing():
            left_s = max(0.0, until_s - self.line.clock())
            if await self._pause(min(left_s, stroke.wait_s), self._ending) or left_s < stroke.wait_s:
                return
            self._edit(document, stroke.edit.make)

    def _edit(self, document: AsyncDocument, change: Callable[[Roots], object]) -> None:
        before = document.version()
        awaited = {
            phone.identity.name: self.is_online and phone.is_online
            for phone in self.siblings
            if phone.status is not None and not phone.is_suspended
        }
        document.edit(change)
        self.spent.edits += 1
        self._ledger.wrote(self.identity.name, before, document.version(), self.line.clock(), awaited)

    async def _finish(self, device: AsyncDevice, document: AsyncDocument) -> None:
        """Be current, and tell what is there, until nobody wants to know any more."""
        device.set_policy(Policy.INTERACTIVE)
        device.network_is_back()
        while not await self._pause(SETTLE_POLL_S, self._dismissed):
            self._note_acknowledged()
            self.is_settled = self.is_current and not document.pending
            if self.is_settled:
                self.version = document.version()
        self.values = document.values()

    # --- waiting

    async def _rest(self, seconds: float) -> None:
        """Be away: until the time is over, the run ends, or somebody who is called has reacted."""
        self._stirred.clear()
        if not self._ending.is_set():
            was_stirred = await self._pause(seconds, self._stirred)
            self._was_called = was_stirred and not self._ending.is_set()
            if self._was_called:
                await self._pause(self._person.reaction_s(), self._ending)

    @staticmethod
    async def _pause(seconds: float, unless: asyncio.Event) -> bool:
        """Wait; True if it was cut short."""
        try:
            async with asyncio.timeout(seconds):
                return await unless.wait()
        except TimeoutError:
            return False

    # --- what the device tells

    def _on_change(self, document: AsyncDocument) -> None:
        now_s = self.line.clock()
        for seen in self._ledger.saw(self.identity.name, document.version(), now_s):
            (self._figures.seen_live if seen.live else self._figures.seen_open).append(Timed(now_s, seen.seconds))

    def _on_status(self, document: AsyncDocument | None, status: Status) -> None:
        self._note_acknowledged()
        if document is not None:
            return
        if status.state in DOWN:
            if status.reason not in PLANNED:
                self._fell_behind()
        elif status.state is State.CURRENT and self._behind_since_s is not None:
            now_s = self.line.clock()
            since_s = max(self._behind_since_s, self.line.course.reachable_since(now_s))
            kind = self._figures.opened if self._is_opening else self._figures.reconnected
            kind.append(Timed(now_s, now_s - since_s))
            self._behind_since_s, self._is_opening = None, False

    def _on_error(self, problem: Problem) -> None:
        self._figures.errors[problem.code] += 1

    def _fell_behind(self) -> None:
        if self._behind_since_s is None:
            self._behind_since_s = self.line.clock()

    def _network_is_back(self) -> None:
        """The system says so."""
        if self._device is not None:
            self._device.network_is_back()

    def _note_acknowledged(self) -> None:
        if self._document is not None and not self._document.pending:
            self._ledger.acknowledged(self.identity.name, self._visits)
            self._visits = []

    # --- what it cost

    def _count(self, device: AsyncDevice) -> None:
        counters = device.counters
        self.spent.open_s += self.line.clock() - self._opened_s
        self.spent.connections += counters.connections
        self.spent.resent += counters.ops_resent
        self.spent.resyncs += counters.resyncs
        self.spent.heals += counters.heals
        self._figures.modes.update(counters.catch_ups)

    def _settle_costs(self) -> None:
        line, spent = self.line, self.spent
        line.close()
        spent.bytes_up, spent.bytes_down = line.bytes_up, line.bytes_down
        spent.awake_s, spent.joules, spent.wakeups = line.meter.awake_s, line.meter.joules, line.meter.wakeups
        spent.attempts, spent.failures = line.attempts, line.failures
