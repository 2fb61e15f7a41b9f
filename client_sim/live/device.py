"""A device for an asyncio app."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random, SystemRandom
from types import TracebackType
from typing import Self, TypeAlias, assert_never

from websockets.asyncio.client import connect

from client_sim.core import effects, events
from client_sim.core.counters import Counters
from client_sim.core.device import Device
from client_sim.core.document import Document
from client_sim.core.effects import Effect, Problem
from client_sim.core.ports import DeviceStore
from client_sim.core.roots import Roots
from client_sim.core.status import State, Status
from client_sim.live.connection import Connection, Dial
from client_sim.live.keys import DeviceKey
from client_sim.store import MemoryStore, SqliteStore
from crdt.replica import Values
from crdt.update import StateVector

TokenSource: TypeAlias = Callable[[str], Awaitable[str]]
"""Called with the name that the token has to be made out to: the device's, which is a new one once it was cloned.

OSError and TimeoutError mean that asking later may help.
"""

TOKEN_S = 30.0


class LoginRefused(Exception):
    """A token source raises this where the user has to log in again: the device is then blocked."""


class Blocked(Exception):
    """What was waited for does not come of itself: `status.reason` says what the app, or the user, has to do."""

    def __init__(self, what: str, status: Status) -> None:
        super().__init__(f"{what} is {status}")
        self.status = status


class AsyncDevice:
    """An offline-first device. Inside `async with` it connects by itself, and again whenever it has to.

    `token` must be made out to `device`; a function is told for which name. `store` is a file that only this device
    uses, or a store that was opened before; None keeps all in memory. Every edit is one synced transaction of that
    file, made in the calling thread.

    `key` proves that a token bound to it (`cnf.jkt`) is used by this device. `dial` makes the connections.

    The callbacks are called in the event loop: `on_change(document)` when content changed, here or elsewhere;
    `on_status(document, status)`, with None for the device itself; `on_error(problem)`. What they raise ends the
    `async with` block and comes out of it, as does a store that can not be read.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | TokenSource,
        device: str,
        store: str | Path | DeviceStore | None = None,
        key: DeviceKey | None = None,
        on_change: Callable[[AsyncDocument], object] | None = None,
        on_status: Callable[[AsyncDocument | None, Status], object] | None = None,
        on_error: Callable[[Problem], object] | None = None,
        rng: Random | None = None,
        dial: Dial = connect,
    ) -> None:
        self.on_change = on_change
        self.on_status = on_status
        self.on_error = on_error
        self._url = url
        self._source = _always(token, device) if isinstance(token, str) else token
        self._name = device
        self._place = store
        self._dial = dial
        self._key = key
        self._rng = rng or SystemRandom()
        self._documents: dict[str, AsyncDocument] = {}
        self._connection: Connection | None = None
        self._effects: deque[Effect] = deque()
        self._executing = False

    async def __aenter__(self) -> Self:
        """Raises StoreError and StoreDamaged."""
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()
        self._store = _open_store(self._place)
        try:
            self._core = Device(self._name, self._store, self._rng, key=self._key)
            self._group = await asyncio.TaskGroup().__aenter__()
        except BaseException:
            self._store.close()
            raise
        self._token_task: asyncio.Task[None] | None = None
        self._clock_task = self._group.create_task(self._clock())
        self.feed(events.Started())
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.on_change = self.on_status = self.on_error = None
        failure: BaseException | None = None
        try:
            self.feed(events.Stopped())
            self._clock_task.cancel()
            if self._token_task:
                self._token_task.cancel()
        finally:
            try:
                await self._group.__aexit__(exc_type, exc, traceback)
            except BaseExceptionGroup as group:
                failure = _only_one(group)
            finally:
                self._store.close()
        if failure is not None:
            raise failure

    # --- for the app

    async def open(self, name: str = "main") -> AsyncDocument:
        """A document, kept in sync from now on: as the store has it, or empty, until the server answers.

        `name` is the user's own document, `owner/name` a granted one. Raises StoreError, StoreDamaged and ValueError.
        """
        self.feed(events.OpenRequested(name))
        core = self._core.document(name)
        return self._documents.setdefault(core.name, AsyncDocument(self, core))

    def close(self, name: str) -> None:
        """Keep a document in sync no longer. What the store has of it stays; `open` begins again."""
        self._documents.pop(name)
        self.feed(events.CloseRequested(name))

    def disconnect(self) -> None:
        """Be offline until `connect`. Edits go on, and wait in the store."""
        self.feed(events.Stopped())

    def connect(self) -> None:
        """Be online again, or try now: there is a network again, the user has logged in or wants this device back."""
        self.feed(events.Started())

    def reconnect(self) -> None:
        """As `connect`."""
        self.connect()

    @property
    def status(self) -> Status:
        return self._core.status

    @property
    def name(self) -> str:
        """As its tokens have to call it: another one than the app gave once a clone was found."""
        return self._core.name

    @property
    def user(self) -> str | None:
        """Whose device it is; None until a server has said it once."""
        return self._core.user

    @property
    def counters(self) -> Counters:
        return self._core.counters

    async def wait(self, done: Callable[[], bool], within_s: float | None = None) -> None:
        """Return once `done()`, asked after all that happens. Raises TimeoutError, and what `done` raises."""
        async with asyncio.timeout(within_s):
            while not done():
                await self._news.wait()

    # --- the driver

    def feed(self, event: events.Event) -> None:
        """Let the core handle one event, and do what it asks. Effects of a nested call wait for those before them."""
        self._effects.extend(self._core.handle(event, self._loop.time()))
        if self._executing:
            return
        self._executing = True
        try:
            while self._effects:
                self._execute(self._effects.popleft())
        finally:
            self._executing = False
            self._wake()

    def _wake(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()

    def _execute(self, effect: Effect) -> None:
        match effect:
            case effects.FetchToken(device):
                if self._token_task:
                    self._token_task.cancel()
                self._token_task = self._group.create_task(self._fetch_token(device))
            case effects.Connect():
                self._connection = Connection(self._url, self._feed_of, self._dial)
                self._group.create_task(self._connection.run())
            case effects.Send(data):
                if self._connection:
                    self._connection.send(data)
            case effects.CloseConnection():
                if self._connection:
                    self._connection.hang_up(effect)
                self._connection = None
            case _:
                self._tell(effect)

    def _tell(self, effect: effects.Telling) -> None:
        match effect:
            case effects.DocumentChanged(name):
                if self.on_change and name in self._documents:
                    self.on_change(self._documents[name])
            case effects.StatusChanged(name, status):
                if self.on_status:
                    self.on_status(self._documents.get(name) if name else None, status)
            case effects.Problem():
                if self.on_error:
                    self.on_error(effect)
            case effects.Acknowledged() | effects.PresenceChanged() | effects.DataWiped() | effects.WindowClosed():
                pass  # seen by those who wait, and in the documents
            case _:
                assert_never(effect)

    def _feed_of(self, connection: Connection, event: events.LinkEvent) -> None:
        """What happens to a connection that was hung up is nobody's concern."""
        if self._connection is connection:
            self.feed(event)

    async def _clock(self) -> None:
        while True:
            news = self._news
            try:
                async with asyncio.timeout_at(self._core.next_deadline()):
                    await news.wait()
            except TimeoutError:
                self.feed(events.TimePassed())

    async def _fetch_token(self, device: str) -> None:
        event: events.TokenFetched | events.TokenFailed
        try:
            async with asyncio.timeout(TOKEN_S):
                event = events.TokenFetched(device, await self._source(device))
        except LoginRefused as exc:
            event = events.TokenFailed(device, str(exc), refused=True)
        except (OSError, TimeoutError) as exc:
            event = events.TokenFailed(device, str(exc), refused=False)
        self.feed(event)


def _open_store(place: str | Path | DeviceStore | None) -> DeviceStore:
    match place:
        case None:
            return MemoryStore()
        case str() | Path():
            return SqliteStore(Path(place))
        case _:
            return place


def _only_one(failure: BaseException) -> BaseException:
    """What a task failed with, if nothing else did: a group of one says no more than its one."""
    while isinstance(failure, BaseExceptionGroup) and len(failure.exceptions) == 1:
        failure = failure.exceptions[0]
    return failure


def _always(token: str, owner: str) -> TokenSource:
    """The source of a token that is all there is."""

    async def source(device: str) -> str:
        if device != owner:
            raise LoginRefused(f"the token is for {owner}, and this device is {device} since it was cloned")
        return token

    return source


class AsyncDocument:
    """One document of an AsyncDevice. Reads and edits are local and immediate, online or not."""

    def __init__(self, device: AsyncDevice, core: Document) -> None:
        self._device = device
        self._core = core

    @property
    def name(self) -> str:
        return self._core.name

    @property
    def status(self) -> Status:
        return self._core.status()

    @property
    def pending(self) -> int:
        """Edits that the server has not acknowledged."""
        return self._core.pending

    @property
    def peers(self) -> dict[str, bytes]:
        """What the others' devices, as `user/name`, tell of themselves now."""
        return dict(self._core.presence.peers)

    @property
    def aside(self) -> list[bytes]:
        """Edits, as v1 updates, that the server refused for good. Export them before `unblock`, which drops them."""
        return self._core.aside

    def version(self) -> StateVector:
        """How much it has of each writer: whoever has the same has all that this device has, but for deletions."""
        return self._core.copy.replica.state_vector()

    def values(self) -> Values:
        """The content as JSON values, by root. Costs a load of the whole document."""
        return self._core.values()

    def text(self, root: str) -> str:
        """A text root's content; empty if there is none. Costs a load of the whole document."""
        return str(self.values().get(root, ""))

    def edit(self, change: Callable[[Roots], object]) -> None:
        """Run `change(roots)` as one edit, which is durable on this device when this returns.

        Raises what `change` raises, EditTooBig and StoreError: then the document is as it was.
        """
        self._device.feed(events.Edited(self.name, change))

    def set_presence(self, payload: bytes | None) -> None:
        """Tell the others on the document something ephemeral; None takes it back."""
        self._device.feed(events.PresenceSet(self.name, payload))

    def audit(self) -> None:
        """Compare with the server's document, and mend a difference. Only where nothing is pending."""
        self._device.feed(events.AuditRequested(self.name))

    def unblock(self) -> None:
        """Go on, after the app has seen why the document is blocked."""
        self._device.feed(events.Unblocked(self.name))

    def close(self) -> None:
        """As AsyncDevice.close."""
        self._device.close(self.name)

    async def wait_current(self, within_s: float | None = None) -> None:
        """Return once the server's state is in and all edits are acknowledged. Raises TimeoutError and Blocked."""
        await self._device.wait(lambda: self._unblocked().state is State.CURRENT, within_s)

    async def wait_durable(self, within_s: float | None = None) -> None:
        """Return once every edit made so far is durable on the server. Raises TimeoutError and Blocked."""
        await self._device.wait(lambda: bool(self._unblocked()) and not self.pending, within_s)

    def _unblocked(self) -> Status:
        for what, status in ((self.name, self.status), ("the device", self._device.status)):
            if status.state is State.BLOCKED:
                raise Blocked(what, status)
        return self.status
