"""A device for an asyncio app."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random, SystemRandom
from types import TracebackType
from typing import Self, assert_never

from websockets.asyncio.client import connect

from client_sim.core import effects, events
from client_sim.core.cache import Cache
from client_sim.core.checking import check_type
from client_sim.core.counters import Counters
from client_sim.core.device import Device
from client_sim.core.document import Document
from client_sim.core.documents import NotOpen
from client_sim.core.driving import drive
from client_sim.core.effects import Effect, Problem
from client_sim.core.errand import Done
from client_sim.core.pacing import Policy
from client_sim.core.pending import Pending
from client_sim.core.ports import DeviceStore
from client_sim.core.status import Status
from client_sim.live import arguments
from client_sim.live.connection import Connection, Dial
from client_sim.live.document import AsyncDocument, Edits, check_unblocked
from client_sim.live.ending import DeviceEnded, only_one, result_of
from client_sim.live.keys import DeviceKey
from client_sim.live.lifemark import LifeMark
from client_sim.live.tokens import TokenSource, always, answer
from client_sim.live.window import Window
from client_sim.store import open_store


class AsyncDevice:
    """An offline-first device. Inside `async with` it connects by itself, and again whenever it has to.

    `token` must be made out to `device`; a function is told for which name, and is asked again whenever a fresh one is
    needed. `store` is a file that only this device uses, or a store that was opened before; None keeps all in memory.
    Every edit is one synced transaction of that file, made in the calling thread.

    `policy` says how edits are sent, and `latency_s` how long the oldest may wait for others to go with, in seconds;
    without a policy a device is interactive, and a saver on a metered network. `key` proves that a token bound to it
    (`cnf.jkt`) is used by this device. `dial` makes the connections.

    `store_key`, 32 bytes, encrypts the file `store` at rest; `client_sim.store.sealing` says what that hides.
    `cache_bytes_max` is how much of documents may be kept on the device beside what is open, pinned, or not on a server
    yet: then the longest unused go. A file that is damaged is rebuilt, and `on_error` gets a `store_rebuilt`.

    `platform` and the app's `version` are what the device reports itself as to the server's operator, with counts of
    failures, retries and crashes (`client_sim.core.reporting`): never content.

    The callbacks are called in the event loop: `on_change(document)` when content changed, here or elsewhere;
    `on_status(document, status)`, with None for the device itself; `on_error(problem)`; `on_presence(document, device,
    payload)` when another device, named `user/device`, tells something of itself, None when it left. What they raise
    ends the `async with` block and comes out of it, as does a store that can not be read.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | TokenSource,
        device: str,
        store: str | Path | DeviceStore | None = None,
        store_key: bytes | None = None,
        cache_bytes_max: int | None = None,
        key: DeviceKey | None = None,
        policy: Policy | None = None,
        latency_s: float | None = None,
        on_change: Callable[[AsyncDocument], object] | None = None,
        on_status: Callable[[AsyncDocument | None, Status], object] | None = None,
        on_error: Callable[[Problem], object] | None = None,
        on_presence: Callable[[AsyncDocument, str, bytes | None], object] | None = None,
        platform: str | None = None,
        version: str = "0.1",
        rng: Random | None = None,
        dial: Dial = connect,
    ) -> None:
        """Raises TypeError and ValueError, which name the argument, before anything is opened."""
        arguments.check_device(url, token, device, key, dial)
        arguments.check_storage(store, store_key, cache_bytes_max)
        arguments.check_policy(policy, latency_s)
        arguments.check_callbacks(on_change=on_change, on_status=on_status, on_error=on_error, on_presence=on_presence)
        self.on_change = on_change
        self.on_status = on_status
        self.on_error = on_error
        self.on_presence = on_presence
        self._pace = events.PolicyChosen(policy, latency_s)
        self._url = url
        self._source = always(token, device) if isinstance(token, str) else token
        self._name = device
        self._place = store
        self._about = arguments.about(platform, version)
        self._lifemark = LifeMark(Path(store) if isinstance(store, str | Path) else None)
        self._store_key = store_key
        self._cache_bytes_max = cache_bytes_max
        self._dial = dial
        self._key = key
        self._rng = rng or SystemRandom()
        self._documents: dict[str, AsyncDocument] = {}
        self._connection: Connection | None = None
        self._effects: deque[Effect] = deque()
        self._executing = False
        self._entered: Device | None = None
        self._is_up = False
        self._window = Window()

    async def __aenter__(self) -> Self:
        """Raises StoreError, StoreRefused, StoreLocked, ValueError for a bad store key; RuntimeError if it is up."""
        arguments.check_not_up(is_up=self._is_up)
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()
        self._store = open_store(self._place, self._store_key)
        try:
            about = replace(self._about, crashes=self._lifemark.begin())
            self._entered = Device(self._name, self._store, self._rng, key=self._key, about=about)
            self.cache.bytes_max = self._cache_bytes_max
            self._group = await asyncio.TaskGroup().__aenter__()
        except BaseException:
            self._store.close()
            raise
        self._token_task: asyncio.Task[None] | None = None
        self._is_up = True
        self._since_1970_s = time.time() - self._loop.time()
        self._clock_task = self._group.create_task(self._clock())
        self._failure: asyncio.Future[None] = self._loop.create_future()
        self._group.create_task(result_of(self._failure))
        self.feed(self._pace)
        self.feed(events.Started())
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.on_change = self.on_status = self.on_error = self.on_presence = None
        failure: BaseException | None = None
        self._window.close(DeviceEnded("the device's block was left"))
        try:
            self.feed(events.Stopped())
            self._clock_task.cancel()
            self._failure.cancel()
            self._is_up = False
            self._wake()
            if self._token_task:
                self._token_task.cancel()
        finally:
            try:
                await self._group.__aexit__(exc_type, exc, traceback)
            except BaseExceptionGroup as group:
                failure = only_one(group)
            finally:
                self._store.close()
        if exc is None and failure is None:
            self._lifemark.clear()
        if failure is not None:
            raise failure

    @property
    def _core(self) -> Device:
        """Of the block, or of the one that was left. Raises DeviceEnded before it."""
        if self._entered is None:
            raise DeviceEnded
        return self._entered

    def _check_up(self) -> None:
        if not self._is_up:
            raise DeviceEnded

    # --- for the app

    async def open(
        self,
        name: str = "main",
        *,
        max_stale_s: float | None = None,
        wait: bool = False,
        within_s: float | None = None,
    ) -> AsyncDocument:
        """A document, kept in sync from now on: at once, as the store has it, or empty, until the server answers.

        With `wait`, once it is fresh enough: when it is live, or the server's state of less than `max_stale_s` seconds
        ago is in (0: what it has now; None: any, but not none at all). `document.stale` goes by `max_stale_s`, too.

        `name` is the user's own document, `owner/name` a granted one. Raises StoreError and ValueError; while it waits
        TimeoutError after `within_s` seconds, and Blocked. The document is open then all the same.
        """
        arguments.check_number("max_stale_s", max_stale_s)
        arguments.check_limit(within_s)
        document = self._document(self.key_of(name)) or self._documents.setdefault(name, AsyncDocument(self, name))
        self.feed(events.OpenRequested(name))  # which tells of its status
        document.max_stale_s = max_stale_s
        if wait:
            await document.wait_fresh(within_s)
        return document

    def prefetch(self, names: Iterable[str]) -> None:
        """Fetch these documents when all that is open is current, to have them when they are opened without a network.

        A few at a time, on no metered network; each is left when it is current, and counts against `cache_bytes_max`.
        What a lost connection interrupts goes on; what is not fetched when the app ends is forgotten. Raises ValueError
        for names that are none, and for more than 1,000 that wait; TypeError for one name that is no list.
        """
        self.feed(events.PrefetchRequested(arguments.check_names("names", names)))

    def pin(self, name: str, *, pinned: bool = True) -> None:
        """Keep a document on the device whatever `cache_bytes_max`, over restarts too. Raises StoreError, ValueError.

        It does not fetch it: that is `prefetch`.
        """
        check_type("name", name, str)
        self.feed(events.Pinned(name, pinned))

    def unpin(self, name: str) -> None:
        """Keep it only as long as there is room. Raises as `pin`."""
        self.pin(name, pinned=False)

    @property
    def cache(self) -> Cache:
        """What is kept, and how fresh it is, by name."""
        cache = self._core.documents.cache
        cache.set_clock(time.time(), self._loop.time())
        return cache

    def close(self, name: str) -> None:
        """Keep a document in sync no longer. What the store has of it stays; `open` begins again. Raises NotOpen.

        Edits that no server has are sent all the same, by this process or the next.
        """
        key = self.core_of(name).name
        self._documents = {given: document for given, document in self._documents.items() if document.name != key}
        self.feed(events.CloseRequested(name))

    def core_of(self, name: str) -> Document:
        """What the core has of a document. Raises NotOpen."""
        return self._core.document(self.key_of(name))

    def key_of(self, name: str) -> str:
        """What a document is called: one of the user's own goes without its owner. Raises TypeError."""
        check_type("name", name, str)
        return self._core.documents.key(name)

    def _document(self, key: str) -> AsyncDocument | None:
        """The app's object; it may have opened it under another name, before the user was known."""
        known = self._documents.get(key)
        return known or next((document for document in self._documents.values() if document.name == key), None)

    def disconnect(self) -> None:
        """Be offline until `connect`. Edits go on, and wait in the store."""
        self.feed(events.Stopped())

    def connect(self) -> None:
        """Be online again, or try now: there is a network again, the user has logged in or wants this device back."""
        self.feed(events.Started())

    def reconnect(self) -> None:
        """As `connect`."""
        self.connect()

    # --- lifecycle and network, as an OS tells them

    def suspend(self) -> None:
        """The app goes into the background: what waits is sent once more, then the device hangs up until `resume`."""
        self.feed(events.Suspended())
        self._lifemark.clear()

    def resume(self) -> None:
        """The app is in the foreground again."""
        self._lifemark.set()
        self.connect()

    async def background_sync(self, within_s: float, bytes_max: int) -> Done:
        """Connect, push what is pending, fetch what is missing, hang up; what was done.

        It takes at most `within_s` seconds, and `bytes_max` bytes of messages both ways together (TLS and TCP come on
        top). A kill at any moment is safe. The device is suspended afterwards, and so it is at once where the caller is
        cancelled. Raises RuntimeError while another one is under way, ValueError for bounds that are none, and
        DeviceEnded if the block is left first.
        """
        arguments.check_window(within_s, bytes_max)
        self._check_up()
        done = self._window.open()
        self.feed(events.WindowOpened(within_s, bytes_max))
        try:
            return await done
        except asyncio.CancelledError:
            if self._is_up:
                self.feed(events.Suspended())
            raise

    def network_is_back(self) -> None:
        """There is a network again: the backoff is over, but for what the server asked for."""
        self.feed(events.NetworkBack())

    def network(self, name: str | None, *, metered: bool = False) -> None:
        """The device is on this network now, named as the app likes: what was learnt of it is used again.

        On a metered one a device without a policy is a saver, and fetches nothing that is not open.
        """
        check_type("name", name, str, None)
        self.feed(events.NetworkChanged(name, metered))

    def set_policy(self, policy: Policy | None, latency_s: float | None = None) -> None:
        """How edits are sent from now on; see the class. Raises ValueError for a latency that is none."""
        arguments.check_policy(policy, latency_s)
        self.feed(events.PolicyChosen(policy, latency_s))

    def flush(self) -> None:
        """Send now what waits, and fetch what is missing, whatever the policy."""
        self.feed(events.Hurried())

    # --- how it stands

    @property
    def status(self) -> Status:
        """How it stands, why, and since when, in seconds since 1970. `explain(status.reason)` says it to a user."""
        return self._dated(self._core.status)

    def status_of(self, name: str) -> Status:
        """The same of one document."""
        return self._dated(self._core.document_status(self.key_of(name)))

    def _dated(self, status: Status) -> Status:
        return status if status.since is None else status.began(status.since + self._since_1970_s)

    @property
    def pending(self) -> Pending:
        """What the server has not acknowledged, of all documents: closed ones, too, and what an earlier run left."""
        return self._core.pending(self.now())

    def current_at(self, name: str) -> float | None:
        """When a document was current last, by the clock of `now`; None if it never was."""
        return self._core.current_at(self.key_of(name))

    def now(self) -> float:
        """The event loop's clock, in seconds."""
        return self._loop.time()

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
        """Return once `done()`, asked after all that happens. Raises TimeoutError, and what `done` raises.

        Raises DeviceEnded if the block is left first.
        """
        arguments.check_limit(within_s)
        async with asyncio.timeout(within_s):
            while self._is_up:
                if done():
                    return
                await self._news.wait()
        raise DeviceEnded("the device's block was left")

    async def wait_durable(self, within_s: float | None = None) -> None:
        """Return once every edit made so far is durable on the server, in documents that are closed, too.

        Raises as AsyncDocument's.
        """
        find = self._core.documents.synced_one
        edits = {document.name: Edits(partial(find, document.name)) for document in self._core.documents.synced()}
        self.feed(events.Hurried())
        await self.wait(lambda: self._are_durable(edits), within_s)

    def _are_durable(self, edits: dict[str, Edits]) -> bool:
        """Raises Blocked if one of these documents is, whichever else has to be waited for."""
        check_unblocked("the device", self.status)
        for name in edits:
            if document := self._core.documents.synced_one(name):
                check_unblocked(name, document.status())
        return all(its.are_acknowledged for its in edits.values())

    async def wait_current(self, within_s: float | None = None) -> None:
        """Return once all documents are current. Raises as AsyncDocument's, and DeviceEnded."""
        arguments.check_limit(within_s)
        self._check_up()
        async with asyncio.timeout(within_s):
            for document in [*self._documents.values()]:
                with suppress(NotOpen):  # it is closed meanwhile
                    await document.wait_current()

    # --- the driver

    def feed(self, event: events.Event) -> None:
        """Let the core handle one event, and do what it asks. Effects of a nested call wait for those before them.

        Raises DeviceEnded, and what the core raises, once what it asks for even then is done; never what a callback
        raises.
        """
        self._check_up()
        self._core.documents.cache.set_clock(time.time(), self._loop.time())
        try:
            drive(self._core, event, self._loop.time(), self._effects.append)
        finally:
            if not self._executing:
                self._execute_all()

    def _execute_all(self) -> None:
        self._executing = True
        try:
            while self._effects:
                try:
                    self._execute(self._effects.popleft())
                except Exception as exc:  # noqa: BLE001 - the task group raises it
                    self._fail(exc)
        finally:
            self._executing = False
            self._wake()

    def _fail(self, exc: Exception) -> None:
        """The block ends with the first thing that a callback raised."""
        if not self._failure.done():
            self._failure.set_exception(exc)

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
                self._tell_of(name, self.on_change)
            case effects.PresenceChanged(name, device, payload):
                self._tell_of(name, self.on_presence, device, payload)
            case effects.StatusChanged(name, status):
                document = None if name is None else self._document(name)
                if self.on_status and (name is None or document is not None):
                    self.on_status(document, self._dated(status))
            case effects.Problem():
                if self.on_error:
                    self.on_error(effect)
            case effects.WindowClosed(done):
                self._window.close(done)
            case effects.Acknowledged() | effects.DataWiped():
                pass  # seen by those who wait, and in the documents
            case _:
                assert_never(effect)

    def _tell_of(self, name: str, callback: Callable[..., object] | None, *news: object) -> None:
        document = self._document(name)
        if callback is not None and document is not None:
            callback(document, *news)

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
        self.feed(await answer(self._source, device))
