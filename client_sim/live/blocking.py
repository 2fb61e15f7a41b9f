"""A device for an app of plain threads: the event loop runs in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import CancelledError, Future
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Any, Self, TypedDict, TypeVar, Unpack

from client_sim.core.cache import Cache
from client_sim.core.counters import Counters
from client_sim.core.effects import Problem
from client_sim.core.pacing import Policy
from client_sim.core.pending import Pending
from client_sim.core.ports import DeviceStore
from client_sim.core.status import Status
from client_sim.live import arguments
from client_sim.live.connection import Dial
from client_sim.live.device import AsyncDevice
from client_sim.live.document import AsyncDocument
from client_sim.live.ending import DeviceEnded
from client_sim.live.keys import DeviceKey
from client_sim.live.tokens import BlockingTokenSource, in_a_thread
from client_sim.live.twins import Twin, awaited, called

T = TypeVar("T")


class Options(TypedDict, total=False):
    """What AsyncDevice takes beside, and Device alike."""

    store: str | Path | DeviceStore | None
    store_key: bytes | None
    cache_bytes_max: int | None
    key: DeviceKey | None
    policy: Policy | None
    latency_s: float | None
    on_error: Callable[[Problem], object] | None
    platform: str | None
    version: str
    rng: Random | None
    dial: Dial


class Device(Twin[AsyncDevice]):
    """AsyncDevice for threads: the same options, methods and errors, and they wait where those are awaited.

    All methods may be called from any thread. The callbacks are called in the device's own thread, one at a time; in
    them everything may be called but what waits (`open`, `wait_...`, `background_sync`), which raises RuntimeError.
    What a callback raises ends the device: it comes out of the `with` block.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | BlockingTokenSource,
        device: str,
        on_change: Callable[[Document], object] | None = None,
        on_status: Callable[[Document | None, Status], object] | None = None,
        on_presence: Callable[[Document, str, bytes | None], object] | None = None,
        **options: Unpack[Options],
    ) -> None:
        """`options` are AsyncDevice's others. Raises as that does."""
        arguments.check_callbacks(on_change=on_change, on_status=on_status, on_presence=on_presence)
        if not isinstance(token, str):
            arguments.check_function("token", token)
        source = token if isinstance(token, str) else in_a_thread(token)
        super().__init__(self, AsyncDevice(url, token=source, device=device, **options))
        self._on_change = on_change
        self._on_status = on_status
        self._on_presence = on_presence
        self._documents: dict[AsyncDocument, Document] = {}
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None
        self._gate = threading.Lock()
        """Held by who lets a call in, and by who lets no more in."""
        self._is_up = False

    def __enter__(self) -> Self:
        """Raises as AsyncDevice does."""
        arguments.check_not_up(is_up=self._thread is not None)
        started: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, args=(started,), name="syncline-device")
        self._thread.start()
        try:
            started.result()
        except BaseException:
            self._thread.join()
            self._thread = None
            raise
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._thread is not None
        with self._gate:
            if self._is_up:
                self._loop.call_soon_threadsafe(self._leaving.set)
        self._thread.join()
        self._thread = None
        if self._failure is not None:
            raise self._failure

    # --- the device's thread

    def _run(self, started: Future[None]) -> None:
        """The loop ends the calls that it was handed while `_is_up`."""
        asyncio.run(self._live(started))

    async def _live(self, started: Future[None]) -> None:
        self._loop, self._leaving = asyncio.get_running_loop(), asyncio.Event()
        device = self.asynchronous
        device.on_change = self._changed
        device.on_status = self._status_changed
        device.on_presence = self._presence_changed
        try:
            async with device:
                self._is_up = True
                started.set_result(None)
                await self._leaving.wait()
        except BaseException as exc:  # noqa: BLE001 - it is raised where the app waits for it
            if started.done():
                self._failure = exc
            else:
                started.set_exception(exc)
        finally:
            with self._gate:
                self._is_up = False

    def _changed(self, document: AsyncDocument) -> None:
        if self._on_change:
            self._on_change(self._twin(document))

    def _status_changed(self, document: AsyncDocument | None, status: Status) -> None:
        if self._on_status:
            self._on_status(None if document is None else self._twin(document), status)

    def _presence_changed(self, document: AsyncDocument, device: str, payload: bytes | None) -> None:
        if self._on_presence:
            self._on_presence(self._twin(document), device, payload)

    def _twin(self, document: AsyncDocument) -> Document:
        return self._documents.setdefault(document, Document(self, document))

    # --- calls into it

    @property
    def _is_inside(self) -> bool:
        return self._thread is threading.current_thread()

    def call(self, act: Callable[[], T]) -> T:
        """What `act`, which does not wait, gives in the device's thread."""
        if self._is_inside:
            return act()

        async def acted() -> T:
            return act()

        return self.wait_for(acted())

    def wait_for(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """What a coroutine gives that runs in the device's loop. Raises DeviceEnded, and what it raises."""
        if self._is_inside:
            coroutine.close()
            raise RuntimeError("a callback can not wait for what only its own thread can do")
        with self._gate:
            if not self._is_up:
                coroutine.close()
                raise DeviceEnded from self._failure
            future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result()
        except CancelledError as exc:
            raise DeviceEnded("the device's block was left") from exc

    # --- for the app: as AsyncDevice has it

    def open(
        self,
        name: str = "main",
        *,
        max_stale_s: float | None = None,
        wait: bool = False,
        within_s: float | None = None,
    ) -> Document:
        """As AsyncDevice.open."""
        opening = self.asynchronous.open(name, max_stale_s=max_stale_s, wait=wait, within_s=within_s)
        return self._twin(self.wait_for(opening))

    prefetch = called(AsyncDevice.prefetch)
    pin = called(AsyncDevice.pin)
    unpin = called(AsyncDevice.unpin)
    close = called(AsyncDevice.close)

    connect = called(AsyncDevice.connect)
    disconnect = called(AsyncDevice.disconnect)
    reconnect = called(AsyncDevice.reconnect)
    suspend = called(AsyncDevice.suspend)
    resume = called(AsyncDevice.resume)
    background_sync = awaited(AsyncDevice.background_sync)
    network_is_back = called(AsyncDevice.network_is_back)
    network = called(AsyncDevice.network)
    set_policy = called(AsyncDevice.set_policy)
    flush = called(AsyncDevice.flush)

    status_of = called(AsyncDevice.status_of)
    current_at = called(AsyncDevice.current_at)
    now = called(AsyncDevice.now)
    wait = awaited(AsyncDevice.wait)
    wait_durable = awaited(AsyncDevice.wait_durable)
    wait_current = awaited(AsyncDevice.wait_current)

    @property
    def cache(self) -> DeviceCache:
        """What is kept, and how fresh it is, by name."""
        return DeviceCache(self, self.call(lambda: self.asynchronous.cache))

    @property
    def status(self) -> Status:
        """As AsyncDevice's; so are the others."""
        return self.call(lambda: self.asynchronous.status)

    @property
    def pending(self) -> Pending:
        return self.call(lambda: self.asynchronous.pending)

    @property
    def name(self) -> str:
        return self.call(lambda: self.asynchronous.name)

    @property
    def user(self) -> str | None:
        return self.call(lambda: self.asynchronous.user)

    @property
    def counters(self) -> Counters:
        return self.call(lambda: self.asynchronous.counters)


class DeviceCache(Twin[Cache]):
    """What AsyncDevice.cache tells."""

    as_of = called(Cache.as_of)
    is_stale = called(Cache.is_stale)
    is_pinned = called(Cache.is_pinned)


class Document(Twin[AsyncDocument]):
    """AsyncDocument for threads. `change` of `edit` runs in the device's thread, while the caller waits."""

    values = called(AsyncDocument.values)
    text = called(AsyncDocument.text)
    map = called(AsyncDocument.map)
    list = called(AsyncDocument.list)
    version = called(AsyncDocument.version)

    edit = called(AsyncDocument.edit)
    set_presence = called(AsyncDocument.set_presence)
    audit = called(AsyncDocument.audit)
    unblock = called(AsyncDocument.unblock)
    close = called(AsyncDocument.close)

    wait_durable = awaited(AsyncDocument.wait_durable)
    wait_current = awaited(AsyncDocument.wait_current)
    wait_fresh = awaited(AsyncDocument.wait_fresh)

    @property
    def name(self) -> str:
        return self.asynchronous.name

    @property
    def status(self) -> Status:
        """As AsyncDocument's; so are the others."""
        return self._runner.call(lambda: self.asynchronous.status)

    @property
    def pending(self) -> Pending:
        return self._runner.call(lambda: self.asynchronous.pending)

    @property
    def peers(self) -> dict[str, bytes]:
        return self._runner.call(lambda: self.asynchronous.peers)

    @property
    def aside(self) -> Sequence[bytes]:
        return self._runner.call(lambda: self.asynchronous.aside)

    @property
    def as_of(self) -> float | None:
        return self._runner.call(lambda: self.asynchronous.as_of)

    @property
    def stale(self) -> bool:
        return self._runner.call(lambda: self.asynchronous.stale)

    @property
    def max_stale_s(self) -> float | None:
        return self.asynchronous.max_stale_s

    @max_stale_s.setter
    def max_stale_s(self, seconds: float | None) -> None:
        self.asynchronous.max_stale_s = seconds
