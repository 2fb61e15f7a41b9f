"""A run of a fleet: devices are made, live for a while, come online all together, and are compared."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final, Protocol

from client_sim.core.status import State
from client_sim.demo.processes import ServerProcess
from client_sim.fleet.capacity import Capacity, Drawn
from client_sim.fleet.course import Course, without_stalls
from client_sim.fleet.figures import Figures, Sample, Spent, Verdict
from client_sim.fleet.habits import Person
from client_sim.fleet.inspection import Found, inspect
from client_sim.fleet.ledger import Ledger
from client_sim.fleet.old_store import write_version_1
from client_sim.fleet.phone import Disk, Identity, Phone
from client_sim.fleet.plan import Plan
from client_sim.fleet.quantiles import percentile
from client_sim.fleet.wire import Line
from client_sim.live.tokens import TokenSource
from client_sim.tokens import mint

SAMPLE_S: Final = 1.0
POLL_S: Final = 0.1
DOWN_S: Final = 2.0
"""From a server's kill to its new start."""
TOKEN_TTL_S: Final = 24 * 3600.0


class View(Protocol):
    """Whoever watches."""

    def say(self, at_s: float, text: str) -> None:
        """Something happened."""

    def show(self, sample: Sample, figures: Figures) -> None:
        """How things are now."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """`spent` is by device."""

    figures: Figures
    spent: Mapping[str, Spent]
    verdict: Verdict
    run_s: float


class Fleet:
    """All devices of one run. `server` is there if it is the run's own, and may be restarted."""

    def __init__(self, plan: Plan, url: str, secret: str, view: View, server: ServerProcess | None = None) -> None:
        self.figures = Figures()
        self._plan = plan
        self._url = url
        self._secret = secret
        self._view = view
        self._server = server
        self._rng = Random(plan.seed)
        self._loop = asyncio.get_running_loop()
        self._began_at = self._loop.time()
        self._run = secrets.token_hex(3)
        """In the users' names, so that a server may be visited again."""
        self._ledgers = [Ledger() for _ in range(plan.users)]
        self._users = [self._make_user(number) for number in range(plan.users)]
        self._phones = [phone for phones in self._users for phone in phones]

    def clock(self) -> float:
        """Seconds of the run."""
        return self._loop.time() - self._began_at

    async def perform(self) -> Outcome:
        """From the first start of an app to the comparison. Raises DemoFailed, and whatever a device raises."""
        async with asyncio.TaskGroup() as group:
            lives = [group.create_task(phone.live()) for phone in self._phones]
            watch = group.create_task(self._watch())
            events = group.create_task(self._happen())
            await asyncio.sleep(self._plan.duration_s)
            await events
            verdict = await self._end()
            for phone in self._phones:
                phone.dismiss()
            await asyncio.wait(lives)
            watch.cancel()
        problems = (*verdict.problems, *await self._compare())
        spent = {f"{phone.identity.user}/{phone.identity.name}": phone.spent for phone in self._phones}
        verdict = Verdict(len(self._phones), len(self._users), verdict.converged_s, problems)
        return Outcome(self.figures, spent, verdict, self.clock())

    # --- before

    def _make_user(self, number: int) -> Sequence[Phone]:
        user = f"fleet-{self._run}-{number}"
        phones = [
            self._make_phone(user, f"device-{device}", self._ledgers[number]) for device in range(self._plan.devices)
        ]
        for phone in phones:
            phone.siblings = [other for other in phones if other is not phone]
        return phones

    def _make_phone(self, user: str, name: str, ledger: Ledger) -> Phone:
        plan, rng = self._plan, Random(self._rng.getrandbits(64))
        profile, capacities = plan.profile, self._capacities(rng)
        if plan.recording is not None:
            profile = without_stalls(profile)
        line = Line(profile, Course(profile, rng, plan.speed), capacities, rng, self.clock)
        disk = Disk(None if plan.stores is None else plan.stores / f"{user}-{name}.db")
        identity = Identity(self._url, user, name, self._token_source(user), plan.policy, plan.latency_s)
        phone = Phone(identity, disk, line, Person(plan.habits, rng, plan.speed), ledger, self.figures)
        if disk.file is not None and rng.random() < plan.old_stores:
            visit = f"{name}/before"
            write_version_1(disk.file, name, visit, rng)
            phone.upgrades(visit)
        return phone

    def _capacities(self, rng: Random) -> tuple[Capacity, Capacity]:
        """Up and down. A recording is the same for both, and each device is somewhere else in it."""
        if (recording := self._plan.recording) is not None:
            begun = recording.begun(rng.random() * recording.length_s)
            return begun, begun
        return Drawn(self._plan.profile.up, rng), Drawn(self._plan.profile.down, rng)

    def _token_source(self, user: str) -> TokenSource:
        async def source(device: str) -> str:
            return mint(self._secret, user, device, TOKEN_TTL_S)

        return source

    # --- meanwhile

    async def _happen(self) -> None:
        """What the plan has for all, in order."""
        happenings: list[tuple[float, Callable[[], object]]] = [(at_s, self._notify) for at_s in self._plan.bursts_s]
        if self._plan.restart_at_s is not None:
            happenings.append((self._plan.restart_at_s, self._restart))
        for at_s, happening in sorted(happenings, key=lambda planned: planned[0]):
            await asyncio.sleep(max(0.0, at_s - self.clock()))
            if asyncio.iscoroutine(waiting := happening()):
                await waiting

    def _notify(self) -> None:
        self._say("a notification: everybody opens the app")
        for phone in self._phones:
            phone.call()

    async def _restart(self) -> None:
        assert self._server is not None
        await self._server.kill()
        self._say("the server is killed with -9")
        await asyncio.sleep(DOWN_S)
        await self._server.start()
        self._say("the server is back, on the same file and port")

    async def _watch(self) -> None:
        """Take a sample every second, for ever."""
        due = self._loop.time()
        while True:
            due += SAMPLE_S
            await asyncio.sleep(max(0.0, due - self._loop.time()))
            sample = self._sample(self._loop.time() - due)
            due = max(due, self._loop.time() - SAMPLE_S)
            self.figures.samples.append(sample)
            self._view.show(sample, self.figures)

    def _sample(self, lag_s: float) -> Sample:
        states = [phone.status.state for phone in self._phones if phone.status is not None]
        backlogs = [(phone.is_suspended, *phone.backlog()) for phone in self._phones]
        ages = sorted(age_s for is_suspended, count, age_s in backlogs if count and not is_suspended)
        asleep = sum(is_suspended and count > 0 for is_suspended, count, _ in backlogs)
        self.figures.ages += ages
        up, down = (sum(column) for column in zip(*(phone.traffic() for phone in self._phones), strict=True))
        return Sample(
            self.clock(), len(states), sum(state is State.CURRENT for state in states),
            len(ages), asleep, sum(count for _, count, _ in backlogs),
            percentile(ages, 0.95) or 0.0, max(ages, default=0.0),
            up, down, sum(ledger.edits for ledger in self._ledgers), max(0.0, lag_s),
        )  # fmt: skip

    def _say(self, text: str) -> None:
        self.figures.events.append((self.clock(), text))
        self._view.say(self.clock(), text)

    # --- the end

    async def _end(self) -> Verdict:
        """Bring all online, and wait until everybody has everything, within the budget."""
        self._say("networks are well, everybody comes online")
        began_s = self.clock()
        for phone in self._phones:
            phone.end()
        while not all(map(self._has_converged, self._users)):
            if self.clock() > began_s + self._plan.budget_s:
                return self._verdict(None, self._stuck())
            await asyncio.sleep(POLL_S)
        self._say(f"everybody has everything, {self.clock() - began_s:.1f} s later")
        return self._verdict(self.clock() - began_s, ())

    def _verdict(self, converged_s: float | None, problems: tuple[str, ...]) -> Verdict:
        return Verdict(len(self._phones), len(self._users), converged_s, problems)

    @staticmethod
    def _has_converged(phones: Sequence[Phone]) -> bool:
        return all(phone.is_settled and phone.version == phones[0].version for phone in phones)

    def _stuck(self) -> tuple[str, ...]:
        return tuple(
            f"{phone.identity.user}/{phone.identity.name} is {phone.status}, with {phone.backlog()[0]} edits pending"
            for phone in self._phones
            if not phone.is_settled
        ) or ("not all devices of a user have the same",)

    async def _compare(self) -> tuple[str, ...]:
        """Read each document with a device that is new, and compare it with what the others have, and with what was
        acknowledged."""
        self._say("every document is read from the server by a new device, and compared")
        user_of = [phones[0].identity.user for phones in self._users]
        found = await inspect(self._url, user_of, self._token_source)
        problems: list[str] = []
        for phones, ledger, (user, document) in zip(self._users, self._ledgers, found.items(), strict=True):
            problems += _differences(user, phones, ledger, document)
        return tuple(problems)


def _differences(user: str, phones: Sequence[Phone], ledger: Ledger, document: Found | None) -> Iterator[str]:
    """What is wrong with a user's document."""
    if document is None:
        yield f"{user}'s document could not be read from the server"
        return
    for phone in phones:
        if phone.values != document.values:
            yield f"{user}/{phone.identity.name} has other values than the server"
    for lost in ledger.missing(document.version, document.visits):
        yield f"{user}: lost, though acknowledged: {lost}"
