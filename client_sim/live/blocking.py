"""A device for an app of plain threads: the event loop runs in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar

from client_sim.core.counters import Counters
from client_sim.core.errand import Done
from client_sim.core.pacing import Policy
from client_sim.core.pending import Pending
from client_sim.core.roots import Roots
from client_sim.core.status import Status
from client_sim.live.device import AsyncDevice, DeviceEnded
from client_sim.live.document import AsyncDocument
from crdt.replica import Values

T = TypeVar("T")

BlockingTokenSource = Callable[[str], str]
"""As TokenSource, but a plain function, which is called in a thread of its own: it may wait."""


class Device:
    """AsyncDevice for threads: the same options, methods and errors, and they wait where those are awaited.

    All methods may be called from any thread. The callbacks are called in the device's own thread, one at a time; in
    them everything may be called but what waits (`open`, `wait_...`, `background_sync`), which raises DeviceEnded's
    parent, RuntimeError. What a callback raises ends the device: it comes out of the `with` block.
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
        **options: Any,
    ) -> None:
        """`options` are AsyncDevice's others."""
        self._make = partial(AsyncDevice, url, token=_awaitable(token), device=device, **options)
        self._on_change = on_change
        self._on_status = on_status
        self._on_presence = on_presence
        self._documents: dict[int, Document] = {}
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None

    def __enter__(self) -> Self:
        """Raises as AsyncDevice does."""
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
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._leaving.set)
            self._thread.join()
        self._thread = None
        if self._failure is not None:
            raise self._failure

    # --- the device's thread

    def _run(self, started: Future[None]) -> None:
        asyncio.run(self._live(started))

    async def _live(self, started: Future[None]) -> None:
        self._loop, self._leaving = asyncio.get_running_loop(), asyncio.Event()
        try:
            async with self._make() as device:
                device.on_change = self._changed
                device.on_status = self._status_changed
                device.on_presence = self._presence_changed
                self.asynchronous = device
                started.set_result(None)
                await self._leaving.wait()
        except BaseException as exc:  # noqa: BLE001 - it is raised where the app waits for it
            if started.done():
                self._failure = exc
            else:
                started.set_exception(exc)

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
        return self._documents.setdefault(id(document), Document(self, document))

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
        if self._is_inside or self._thread is None or not self._thread.is_alive():
            coroutine.close()
            if self._is_inside:
                raise RuntimeError("a callback can not wait for what only its own thread can do")
            raise DeviceEnded("the device is not running") from self._failure
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    # --- for the app: as AsyncDevice has it

    def open(self, name: str = "main", **options: Any) -> Document:
        """As AsyncDevice.open."""
        return self._twin(self.wait_for(self.asynchronous.open(name, **options)))

    def close(self, name: str) -> None:
        self.call(lambda: self.asynchronous.close(name))

    def connect(self) -> None:
        self.call(self.asynchronous.connect)

    def disconnect(self) -> None:
        self.call(self.asynchronous.disconnect)

    def suspend(self) -> None:
        self.call(self.asynchronous.suspend)

    def resume(self) -> None:
        self.call(self.asynchronous.resume)

    def background_sync(self, within_s: float, bytes_max: int) -> Done:
        return self.wait_for(self.asynchronous.background_sync(within_s, bytes_max))

    def network_is_back(self) -> None:
        self.call(self.asynchronous.network_is_back)

    def network(self, name: str | None, *, metered: bool = False) -> None:
        self.call(lambda: self.asynchronous.network(name, metered=metered))

    def set_policy(self, policy: Policy | None, latency_s: float | None = None) -> None:
        self.call(lambda: self.asynchronous.set_policy(policy, latency_s))

    def flush(self) -> None:
        self.call(self.asynchronous.flush)

    @property
    def status(self) -> Status:
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

    def wait_durable(self, within_s: float | None = None) -> None:
        self.wait_for(self.asynchronous.wait_durable(within_s))

    def wait_current(self, within_s: float | None = None) -> None:
        self.wait_for(self.asynchronous.wait_current(within_s))


class Document:
    """AsyncDocument for threads. `change` of `edit` runs in the device's thread, while the caller waits."""

    def __init__(self, device: Device, twin: AsyncDocument) -> None:
        self._device = device
        self.asynchronous = twin

    @property
    def name(self) -> str:
        return self.asynchronous.name

    @property
    def status(self) -> Status:
        return self._device.call(lambda: self.asynchronous.status)

    @property
    def pending(self) -> Pending:
        return self._device.call(lambda: self.asynchronous.pending)

    @property
    def peers(self) -> dict[str, bytes]:
        return self._device.call(lambda: self.asynchronous.peers)

    def values(self) -> Values:
        return self._device.call(self.asynchronous.values)

    def text(self, root: str) -> str:
        return self._device.call(lambda: self.asynchronous.text(root))

    def map(self, root: str) -> dict[str, Any]:
        return self._device.call(lambda: self.asynchronous.map(root))

    def list(self, root: str) -> list[Any]:
        return self._device.call(lambda: self.asynchronous.list(root))

    def edit(self, change: Callable[[Roots], object]) -> None:
        self._device.call(lambda: self.asynchronous.edit(change))

    def set_presence(self, payload: bytes | None) -> None:
        self._device.call(lambda: self.asynchronous.set_presence(payload))

    def unblock(self) -> None:
        self._device.call(self.asynchronous.unblock)

    def close(self) -> None:
        self._device.call(self.asynchronous.close)

    def wait_durable(self, within_s: float | None = None) -> None:
        self._device.wait_for(self.asynchronous.wait_durable(within_s))

    def wait_current(self, within_s: float | None = None) -> None:
        self._device.wait_for(self.asynchronous.wait_current(within_s))


def _awaitable(token: str | BlockingTokenSource) -> str | Callable[[str], Awaitable[str]]:
    if isinstance(token, str):
        return token
    source = token

    async def fetch(device: str) -> str:
        return await asyncio.to_thread(source, device)

    return fetch
