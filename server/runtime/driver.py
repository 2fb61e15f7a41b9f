"""Drives the hub with real sockets, clocks and storage: feeds it events, executes its effects.

`feed()` is synchronous: nothing happens between an event and its effects. Whatever waits (a load, a commit, a
compaction) is a task of the driver's group that ends by feeding an event.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from itertools import count
from typing import Any, assert_never

import structlog

from crdt.errors import BadUpdate, PeerError, ReplicaBroken
from crdt.ids import DocumentId
from crdt.protocol.codes import Code
from crdt.protocol.frames import Cursor
from server.core import effects, events
from server.core.arrivals import TURN_BYTES
from server.core.auth import Authority
from server.core.effects import Effect
from server.core.events import Event, SessionId
from server.core.hub import Hub
from server.core.options import CoreOptions
from server.core.ports import CorruptDocument, Storage, StorageError
from server.core.records import AppendResult, DocumentAppend
from server.runtime.api.routes import Api
from server.runtime.devices import DeviceBook
from server.runtime.pace import Pace
from server.runtime.rehearsal import REHEARSAL_S_MAX, document_digest, packed_inspector, rehearse
from server.runtime.telemetry import Telemetry
from server.runtime.transport import Socket
from server.runtime.visits import Visit, Visits
from server.runtime.wire import encode_message
from server.runtime.worker import PROCESSES, Worker, WorkerDied, WorkerMissing
from server.runtime.yjs import Links
from server.runtime.yjs_socket import YjsMember
from server.storage.compaction import CompactionError, compact

CLOCK_READ_S = 10.0
"""How often the hub is told the wall clock, which may be set while we run."""
LAG_SAMPLE_S = 0.25
LOADS_MAX = 16
"""Documents that are read from storage at the same time; more of them would only delay commits."""


def resident_memory() -> int:
    """Bytes of memory that this process has, as Linux tells; 0 elsewhere."""
    try:
        with open("/proc/self/statm", "rb") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


class ImportRefused(Exception):
    """An operator's update was not taken; the text says why."""


class Driver:
    """One hub at work. Made by `running`; it is the sink of the transport's connections."""

    def __init__(
        self,
        storage: Storage,
        authority: Authority,
        options: CoreOptions,
        telemetry: Telemetry,
        tasks: asyncio.TaskGroup,
        worker: Worker,
    ) -> None:
        self._hub = Hub(options, authority, telemetry.meter, os.urandom)  # noqa: TID251 - the one place that draws it
        self.on_doubt: Callable[[], None] = lambda: None
        """Called when a token was refused: the keys may have changed."""
        self._storage = storage
        self._telemetry = telemetry
        self._tasks = tasks
        self.worker = worker
        self._loop = asyncio.get_running_loop()
        self._log = structlog.get_logger("syncline")
        self._sessions: dict[SessionId, Socket] = {}
        self._session_ids = count(1)
        self.links = Links(self.feed, lambda: next(self._session_ids), options.limits.presence_bytes)
        """Yjs documents, each a session as well."""
        self.visits = Visits(self.feed, lambda: next(self._session_ids))
        """HTTP requests, each one too."""
        self.api = Api(self.visits, worker, options.limits, telemetry.answered)
        self._imports: dict[int, asyncio.Future[int]] = {}
        self._import_ids = count(1)
        self._loads = asyncio.Semaphore(LOADS_MAX)
        self._rehearsals = asyncio.Semaphore(PROCESSES)
        self.devices = DeviceBook(storage, lambda revoked: self.feed(events.RevocationsRead(revoked)))
        self._drained = asyncio.Event()
        self._background: list[asyncio.Task[None]] = []
        self._work: dict[asyncio.Task[None], None] = {}
        self._turn_scheduled = False
        self._pace = Pace()
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at: float | None = None

    @classmethod
    @asynccontextmanager
    async def running(
        cls, storage: Storage, authority: Authority, options: CoreOptions, telemetry: Telemetry
    ) -> AsyncIterator[Driver]:
        """A driver at work. On leaving, what is under way is given up: call `drain` before.

        Raises StorageError where it can not be read who is shut out: then nobody is let in.
        """
        with Worker() as worker:
            async with asyncio.TaskGroup() as tasks:
                driver = cls(storage, authority, options, telemetry, tasks, worker)
                driver.keep_running(driver._tell_clock())
                driver.keep_running(driver._measure_lag())
                driver.keep_running(driver.devices.keep_reading())
                driver.keep_running(driver.devices.keep_writing())
                try:
                    await driver.devices.read_revocations()
                    yield driver
                finally:
                    for task in (*driver._background, *driver._work):
                        task.cancel()
                    if driver._alarm is not None:
                        driver._alarm.cancel()

    # --- what operators and the process ask for

    def trust(self, authority: Authority) -> None:
        """Verify tokens against these keys from now on."""
        self._hub.trust(authority)

    def keep_running(self, work: Coroutine[Any, Any, None]) -> None:
        """Run something that never ends beside the hub, until the driver ends."""
        self._background.append(self._tasks.create_task(work))

    async def import_update(self, document: DocumentId, update: bytes) -> int:
        """Put an update into a document as a device would; the seq of its entry, 0 if it changed nothing.

        A large one is rehearsed first. Raises ImportRefused.
        """
        if len(update) > TURN_BYTES:
            _, error = await self._rehearsed(document, (update,))
            if error is not None:
                raise ImportRefused(error.message)
        request = next(self._import_ids)
        answer: asyncio.Future[int] = self._loop.create_future()
        self._imports[request] = answer
        self.feed(events.ImportRequested(request, document, update))
        return await answer

    async def drain(self) -> None:
        """Say goodbye to all sessions and commit what is queued; returns when nothing is left to be saved."""
        self.feed(events.DrainRequested())
        await self._drained.wait()
        await self.devices.write_sightings()

    # --- the sink of the transport

    def socket_opened(self, connection: Socket, bearer: str | None) -> SessionId:
        session = next(self._session_ids)
        self._sessions[session] = connection
        self.feed(events.SocketOpened(session, bearer))
        return session

    def messages_received(self, session: SessionId, messages: list[bytes]) -> None:
        self._pace.has_read()
        self.feed(events.MessagesReceived(session, messages))

    def socket_closed(self, session: SessionId) -> None:
        self._sessions.pop(session, None)
        self.feed(events.SocketClosed(session))

    def outbox_overfull(self, session: SessionId) -> None:
        self.feed(events.OutboxOverfull(session))

    def outbox_drained(self, session: SessionId) -> None:
        self.feed(events.OutboxDrained(session))

    # --- events in, effects out

    def feed(self, event: Event) -> None:
        """Let the hub handle an event now."""
        for effect in self._hub.handle(event, self._loop.time()):
            self._execute(effect)
        self._schedule_turn()

    def _end_turn(self) -> None:
        """Once a turn of the loop, after its events: begin the commit that they ask for, set the alarm."""
        self._turn_scheduled = False
        deadline, now = self._hub.next_deadline(), self._loop.time()
        if deadline is not None and deadline <= now:
            if self._hub.may_gather(now) and self._pace.gathers(now):
                self._schedule_turn()
            else:
                self.feed(events.TimePassed())
        elif deadline != self._alarm_at:
            if self._alarm is not None:
                self._alarm.cancel()
            self._alarm = None if deadline is None else self._loop.call_at(deadline, self._ring)
            self._alarm_at = deadline

    def _schedule_turn(self) -> None:
        if not self._turn_scheduled:
            self._turn_scheduled = True
            self._loop.call_soon(self._end_turn)

    def _ring(self) -> None:
        self._alarm = self._alarm_at = None
        self.feed(events.TimePassed())

    def _execute(self, effect: Effect) -> None:  # noqa: C901 - one line for each effect
        match effect:
            case effects.Send(sessions, data):
                self._send(sessions, data)
            case effects.Publish():
                self._publish(effect)
            case effects.Append(batch):
                self._start(self._append(batch))
            case effects.Load(document):
                self._start(self._load(document))
            case effects.Close(session, code, reason):
                self._with_connection(session, lambda connection: connection.close(code, reason))
            case effects.AwaitDrain(session):
                self._with_connection(session, lambda connection: connection.await_drain())
            case effects.PauseReading(session):
                self._with_connection(session, lambda connection: connection.pause_reading())
            case effects.GiveBack(session, messages):
                self._with_connection(session, lambda connection: connection.give_back(messages))
            case effects.ResumeReading(session):
                self._with_connection(session, lambda connection: connection.resume_reading())
            case effects.HelloAccepted(session, heartbeat_s):
                self._with_connection(session, lambda connection: connection.accept_large_messages())
                if heartbeat_s is not None and session in self._sessions:
                    self._sessions[session].ping_interval_s = heartbeat_s
            case effects.DeviceSeen(device, agent, time_ms):
                self.devices.saw(device, agent, time_ms)
            case effects.Compact(document):
                self._start(self._compact(document))
            case effects.Rehearse(document, updates):
                self._start(self._rehearse(document, updates))
            case effects.Inspect(document):
                self._start(self._inspect(document))
            case effects.ReadDigest(document):
                self._start(self._read_digest(document))
            case effects.Quarantine(document, reason):
                self._start(self._quarantine(document, reason))
            case effects.BeginEpoch(document, epoch):
                self._start(self._begin_epoch(document, epoch))
            case effects.ImportFinished(request, seq, error):
                self._finish_import(request, seq, error)
            case effects.Drained():
                self._drained.set()
            case effects.DoubtKeys():
                self.on_doubt()
            case effects.Log(level, event, fields):
                getattr(self._log, level)(event, **fields)
            case _:
                assert_never(effect)

    def _send(self, sessions: tuple[SessionId, ...], data: bytes) -> None:
        frame = encode_message(data)
        for session in sessions:
            connection = self._sessions.get(session)
            if connection is not None:
                connection.send(frame)
        if self.links:
            self.links.send(sessions, data)
        if self.visits:
            self.visits.send(sessions, data)

    def _publish(self, publish: effects.Publish) -> None:
        framed = [encode_message(delta) for delta in publish.deltas]
        deltas_alone = b""
        for session in publish.receivers:
            connection = self._sessions.get(session)
            if connection is None:
                continue
            mixed = publish.for_receiver(session, framed, encode_message)
            if mixed is not framed:
                connection.send(b"".join(mixed))
                continue
            deltas_alone = deltas_alone or b"".join(framed)
            connection.send(deltas_alone)
        if self.links:
            self.links.publish(publish)
        if self.visits:
            self.visits.publish(publish)

    def _with_connection(self, session: SessionId, act: Callable[[Socket | YjsMember | Visit], None]) -> None:
        connection = self._sessions.get(session) or self.links.get(session) or self.visits.get(session)
        if connection is not None:
            act(connection)

    def _finish_import(self, request: int, seq: int, error: str | None) -> None:
        answer = self._imports.pop(request)
        if answer.done():
            return
        if error is None:
            answer.set_result(seq)
        else:
            answer.set_exception(ImportRefused(error))

    # --- what takes time

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._tasks.create_task(work)
        self._work[task] = None
        task.add_done_callback(self._work.pop)

    async def _append(self, batch: tuple[DocumentAppend, ...]) -> None:
        try:
            results = self._append_at_once(batch)
            if results is None:
                results = await self._storage.append(batch)
        except StorageError as exc:
            self._log.error("storage_failed", doing="append", reason=str(exc))
            self.feed(events.AppendFailed())
        else:
            self.feed(events.Appended(tuple(results)))

    def _append_at_once(self, batch: tuple[DocumentAppend, ...]) -> list[AppendResult] | None:
        """Commit here and now, if that is the cheaper way and can be done. Raises StorageError."""
        if not self._pace.may_hold_up(batch, self._loop.time()):
            return None
        began_s = time.monotonic()
        try:
            return self._storage.append_at_once(batch)
        finally:
            self._pace.held_up(time.monotonic() - began_s, self._loop.time())

    async def _load(self, document: DocumentId) -> None:
        try:
            async with self._loads:
                stored = await self._storage.load(document)
        except StorageError as exc:
            self._log.error("storage_failed", doing="load", document=str(document), reason=str(exc))
            self.feed(events.LoadFailed(document, corrupt=None))
        except CorruptDocument as exc:
            self.feed(events.LoadFailed(document, corrupt=str(exc)))
        else:
            self.feed(events.DocumentLoaded(document, stored))

    async def _compact(self, document: DocumentId) -> None:
        try:
            snapshot = await compact(self._storage, document, self.worker.run, int(time.time() * 1000))
        except (StorageError, CorruptDocument, CompactionError) as exc:
            self._log.error("compaction_failed", document=str(document), reason=str(exc))
            snapshot = None
        if snapshot is None:
            self.feed(events.CompactionFailed(document))
        else:
            self._telemetry.compacted(len(snapshot.state))
            self.feed(events.Compacted(document, snapshot.seq, len(snapshot.state)))

    async def _rehearse(self, document: DocumentId, updates: tuple[bytes, ...]) -> None:
        self.feed(events.Rehearsed(document, *await self._rehearsed(document, updates)))

    async def _rehearsed(self, document: DocumentId, updates: tuple[bytes, ...]) -> tuple[int, PeerError | None]:
        """How many of the updates do no harm to the document, and what is wrong with the one after them."""
        try:
            async with self._rehearsals:  # what waits for a worker is not in memory yet
                stored = await self._storage.load(document)
                return await self.worker.run_within(REHEARSAL_S_MAX, rehearse, stored, updates)
        except (StorageError, CorruptDocument, ReplicaBroken, WorkerMissing) as exc:
            self._log.error("rehearsal_failed", document=str(document), reason=str(exc))
            return 0, PeerError(Code.NOT_SAVED, "the push could not be tried: send it again")
        except WorkerDied as exc:
            self._log.warning("rehearsal_failed", document=str(document), reason=str(exc))
            return 0, PeerError(Code.TOO_EXPENSIVE, "the push takes more time or memory than is allowed")

    async def _inspect(self, document: DocumentId) -> None:
        cursor, packed = None, b""
        try:
            stored = await self._storage.load(document)
            packed = await self.worker.run(packed_inspector, stored)
            cursor = Cursor(stored.epoch, stored.head_seq)
        except (StorageError, CorruptDocument, WorkerDied, ReplicaBroken, BadUpdate) as exc:
            self._log.warning("inspection_failed", document=str(document), reason=str(exc))
        self.feed(events.Inspected(document, cursor, packed))

    async def _read_digest(self, document: DocumentId) -> None:
        cursor = digest = None
        try:
            stored = await self._storage.load(document)
            digest = await self.worker.run(document_digest, stored)
            cursor = Cursor(stored.epoch, stored.head_seq)
        except (StorageError, CorruptDocument, WorkerDied, ReplicaBroken, BadUpdate) as exc:
            self._log.warning("digest_failed", document=str(document), reason=str(exc))
        self.feed(events.DigestRead(document, cursor, digest))

    async def _quarantine(self, document: DocumentId, reason: str) -> None:
        try:
            await self._storage.quarantine(document, reason)
        except StorageError as exc:
            self._log.error("storage_failed", doing="quarantine", document=str(document), reason=str(exc))

    async def _begin_epoch(self, document: DocumentId, epoch: bytes) -> None:
        try:
            await self._storage.begin_epoch(document, epoch)
        except StorageError as exc:
            self._log.error("storage_failed", doing="begin_epoch", document=str(document), reason=str(exc))
            self.feed(events.EpochFailed(document))
        else:
            self.feed(events.EpochBegun(document))

    async def _tell_clock(self) -> None:
        while True:
            self.feed(events.ClockRead(time.time()))
            await asyncio.sleep(CLOCK_READ_S)

    async def _measure_lag(self) -> None:
        while True:
            due = self._loop.time() + LAG_SAMPLE_S
            await asyncio.sleep(LAG_SAMPLE_S)
            lag_s, memory_bytes = max(0.0, self._loop.time() - due), resident_memory()
            self.feed(events.PressureMeasured(lag_s, memory_bytes))
            self._telemetry.pressure(lag_s, memory_bytes)
            self._telemetry.levels(self._hub.levels())
