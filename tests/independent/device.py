"""A small device, written from docs/PROTOCOL.md alone: it shares no line with `crdt`, `server` or `client_sim`.

It stands for the apps on phones that nobody updates: they must go on working against every later server. So this file,
and those that it imports here, are frozen with protocol 1.0, and may change only where the document was wrong. The
sections that the comments name are the document's.

Its "store" is memory: a `Document` outlives connections, not the process. Every handler runs without an `await`, which
makes it one transaction.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress
from itertools import groupby
from typing import Any

import msgpack
from pycrdt import Doc
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.typing import Subprotocol

from . import framing as wire
from .store import Arrival, Document, Payload
from .updates import digest

MESSAGE_BYTES = 32 << 20


class Device:
    def __init__(
        self, url: str, device: str, get_token: Callable[[str], str], *, deflate: bool = True, header: bool = False,
        sends_sv: bool = True,
    ) -> None:  # fmt: skip
        self.url, self.name, self.get_token = url, device, get_token
        self.deflate, self.header, self.sends_sv = deflate, header, sends_sv
        self.socket_options: dict[str, Any] = {}  # for the WebSocket library: `ssl`, `sock`
        self.documents: dict[str, Document] = {}
        self.link = "idle"
        self.user = ""
        self.limits: dict[str, int] = {}
        self.heartbeat_s = 30.0
        self.close_code: int | None = None
        self.errors: list[tuple[str, Any]] = []  # code, detail
        self.pongs: list[int] = []
        self.going_away = False
        self.retry_after_s = 0.0
        self.tries = self.renewals = 0
        self._refs = 0
        self._handles: dict[int, Document] = {}
        self._socket: ClientConnection | None = None
        self._outgoing: asyncio.Queue[bytes] = asyncio.Queue()
        self._tasks: list[asyncio.Task[None]] = []
        self._timers: list[asyncio.TimerHandle] = []

    # The link

    async def connect(self) -> None:
        """One try. Returns when wire.HELLO was sent; raises OSError or InvalidHandshake if there is no connection."""
        await self.disconnect()
        self.link, self.close_code = "connecting", None
        self.tries += 1
        token = self.get_token(self.name)
        headers = {"Authorization": f"Bearer {token}"} if self.header else None
        try:
            self._socket = await connect(
                self.url, subprotocols=[Subprotocol("syncline.v1")], compression=None, proxy=None, ping_interval=None,
                max_size=MESSAGE_BYTES, additional_headers=headers, **self.socket_options,
            )  # fmt: skip
        except (OSError, InvalidHandshake):
            self.link = "waiting"
            raise
        self.link, self.going_away, self._outgoing = "greeting", False, asyncio.Queue()
        opens = [self._opening(document) for document in list(self.documents.values())[:64]]
        hello_token = "" if self.header else token
        self.send([wire.HELLO, 1, hello_token, self.name, "independent/1", {"deflate": self.deflate}, opens])
        self._tasks = [asyncio.create_task(self._read(self._socket)), asyncio.create_task(self._write(self._socket))]

    async def stay_connected(self) -> None:
        while self.link != "stopped":
            with suppress(OSError, InvalidHandshake):
                await self.connect()
                await asyncio.wait(self._tasks[:1])
            if self.link != "stopped":
                await asyncio.sleep(random.uniform(0, min(60, 0.5 * 2**self.tries)) + self.retry_after_s)

    def drop(self) -> None:
        """End the connection as a network does."""
        if self._socket:
            self._socket.transport.abort()

    async def disconnect(self) -> None:
        if self._socket:
            await self._socket.close()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _write(self, socket: ClientConnection) -> None:
        with suppress(ConnectionClosed):
            while True:
                await socket.send(await self._outgoing.get())

    async def _read(self, socket: ClientConnection) -> None:
        silent = 0
        try:
            while silent < 2:
                try:
                    message = await asyncio.wait_for(socket.recv(), self.heartbeat_s)
                except TimeoutError:
                    silent += 1
                    self.send([wire.PING, silent])
                    continue
                silent = 0
                frame = wire.read_frame(message)
                if frame is not None:
                    self.receive(frame)
        except ConnectionClosed:
            pass
        except wire.BadFrameError as error:
            self.errors.append(("bad_frame", str(error)))
            await socket.close(4400)
        finally:
            if silent == 2:
                self.drop()
            self._closed(socket.close_code)

    def _closed(self, code: int | None) -> None:
        self.close_code = code
        self.link = "stopped" if code in (4403, 4406, 4409) else "waiting"
        if code == 4403:
            self.documents.clear()
        if code in (4400, 4413, 1009):
            self.tries = max(self.tries, 7)
        for task in self._tasks[1:]:
            task.cancel()
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        self._handles.clear()
        for document in self.documents.values():
            document.state, document.awaited, document.handle = "closed", None, -1
            document.others.clear()

    def send(self, frame: wire.Frame) -> None:
        self._outgoing.put_nowait(msgpack.packb(frame))

    def _later(self, seconds: float, action: Callable[[Document], None], document: Document) -> None:
        self._timers.append(asyncio.get_running_loop().call_later(seconds, action, document))

    # What the app does

    def open(self, name: str) -> Document:
        document = self.documents.setdefault(name, Document(name))
        if self.link == "ready":
            self.send([wire.OPEN, *self._opening(document)])
        return document

    def leave(self, name: str) -> None:
        document = self.documents.pop(name)
        if self._handles.pop(document.handle, None):
            self.send([wire.LEAVE, document.handle])

    def edit(self, name: str, change: Callable[[Doc[Any]], None]) -> None:
        """A local edit: into the store first, then, if possible, to the server."""
        document = self.documents[name]
        subscription = document.replica.observe(lambda event: document.edits.append(event.update))
        with document.replica.transaction():
            change(document.replica)
        document.replica.unobserve(subscription)
        self._push(document)

    def show(self, name: str, payload: bytes | None) -> None:
        document = self.documents[name]
        document.mine = payload
        if document.handle in self._handles:
            self.send([wire.PRESENCE, document.handle, payload])

    def audit(self, name: str) -> None:
        document = self.documents[name]
        if document.state == "live" and document.cursor and not document.outbox and not document.edits:
            self.send([wire.AUDIT, document.handle, document.cursor[1], digest(document.replica)])

    def authenticate(self) -> None:
        self.send([wire.AUTH, self.get_token(self.name)])

    # What the device asks for

    def _opening(self, document: Document) -> wire.Frame:
        """The fields of an wire.OPEN; after a chunked answer was cut off, the same as before."""
        self._refs += 1
        sv = document.replica.get_state() if self.sends_sv or not document.cursor else None
        document.asked, resume = (document.cursor, sv), None
        if document.payload:
            document.asked = document.payload.asked
            resume = [document.payload.payload_id, len(document.payload.data)]
        document.state, document.awaited = "opening", self._refs
        return [self._refs, document.name, *document.asked, resume]

    def _resync(self, document: Document, cursor: list[Any] | None) -> None:
        document.asked, document.payload = (cursor, document.replica.get_state()), None
        document.state, document.awaited = "resyncing", 0
        self.send([wire.RESYNC, document.handle, *document.asked])

    def _rebuild(self, document: Document) -> None:
        """Into a fresh replica; what is still in the outbox is put on top when the server's state is there."""
        document.replica, document.cursor, document.payload = Doc(), None, None
        if self.link == "ready":
            self.send([wire.OPEN, *self._opening(document)])

    def _misfit(self, document: Document) -> None:
        document.misfits += 1
        if document.misfits == 1:
            self._resync(document, None)
        else:
            self._rebuild(document)

    def _push(self, document: Document) -> None:
        healing = document.payload is not None and document.payload.arrival.heals
        ready = document.state == "live" or (document.state == "chunking" and not healing)
        if not ready or document.access != "rw" or self.going_away:
            return
        document.number_edits()
        waiting = [op for op in document.window() if op.number > document.sent]
        for heal, group in groupby(waiting, key=lambda op: op.heal):
            ops = list(group)
            updates = wire.write_updates([op.update for op in ops], deflate=self.deflate)
            document.sent = ops[-1].number
            self.send([wire.PUSH, document.handle, ops[0].number, updates, heal])

    def _push_from(self, document: Document, op: int) -> None:
        document.sent = op - 1
        self._push(document)

    def _fork(self) -> None:
        """Somebody else is this device: a new name, what is pending is numbered anew, and a new connection."""
        self.name = f"{self.name[:100]}-{random.randbytes(8).hex()}"
        for document in self.documents.values():
            document.edits = [op.update for op in document.outbox] + document.edits
            document.outbox, document.payload, document.state = [], None, "closed"
            document.acked, document.acked_chain, document.sent = 0, bytes(8), 0
        self.drop()

    # What the server sends

    def receive(self, frame: wire.Frame) -> None:
        kind, *fields = frame
        if kind in (wire.OPENED, wire.WELCOME, wire.ERROR, wire.GOAWAY, wire.PONG, wire.EXPIRING):
            handler: dict[int, Callable[..., None]] = {
                wire.WELCOME: self._welcome, wire.OPENED: self._opened, wire.ERROR: self._error,
                wire.GOAWAY: self._goaway, wire.PONG: lambda n, *_: self.pongs.append(n),
                wire.EXPIRING: self._expiring,
            }  # fmt: skip
            handler[kind](*fields)
        elif kind != wire.NONCE and (document := self._handles.get(fields[0])):
            of_document: dict[int, Callable[..., None]] = {
                wire.DELTA: self._delta, wire.ACK: self._ack, wire.OTHERS_PRESENCE: self._presence,
                wire.CHUNK: self._chunk, wire.AUDITED: self._audited,
            }  # fmt: skip
            of_document[kind](document, *fields[1:])

    def _welcome(
        self, _version: int, _session: str, user: str, _now: int, limits: dict[str, int], heartbeat_ms: int,
        _expires: int, *_: Any,
    ) -> None:  # fmt: skip
        self.link, self.user, self.limits, self.heartbeat_s = "ready", user, limits, heartbeat_ms / 1000
        self.tries, self.retry_after_s, self.renewals = 0, 0.0, 0
        for document in self.documents.values():
            if document.state == "closed":
                self.send([wire.OPEN, *self._opening(document)])

    def _opened(
        self, ref: int, handle: int, mode: str, cursor: list[Any], updates: Any, acked_op: int, sv: bytes | None,
        access: str, more: bool, chain: bytes, payload_id: bytes | None = None, *_: Any,
    ) -> None:  # fmt: skip
        asking = [document for document in self.documents.values() if ref and document.awaited == ref]
        document = asking[0] if asking else self._handles.get(handle)
        if document is None:
            return
        heals = document.epoch not in (None, cursor[0])
        if document.epoch is None:
            document.epoch, document.acked, document.acked_chain = cursor[0], acked_op, chain
        verdict = "new" if heals else document.settle(acked_op, chain)
        unasked = ref == 0 and sv is None
        welcome = document.state == "live" or (document.state == "chunking" and mode == "need_sv")
        if verdict == "forked":
            self._fork()
        elif welcome if unasked else document.awaited == ref:
            document.awaited, document.handle, document.access, document.sent = None, handle, access, document.acked
            document.modes.append(mode)
            self._handles[handle] = document
            if ref:
                self._show_again(document)
            heals = heals or verdict == "back"
            arrival = Arrival(cursor[:2], acked_op, chain, sv, heals)
            if mode == "need_sv" or (heals and sv is None):
                self._resync(document, None if heals else document.cursor)
            elif more and payload_id is not None:
                self._expect_chunks(document, arrival, payload_id)
            else:
                self._arrive(document, arrival, wire.read_updates(updates))

    def _show_again(self, document: Document) -> None:
        document.others.clear()
        if document.mine is not None:
            self.send([wire.PRESENCE, document.handle, document.mine])

    def _expect_chunks(self, document: Document, arrival: Arrival, payload_id: bytes) -> None:
        if document.payload is None or document.payload.payload_id != payload_id:
            document.payload = Payload(payload_id, document.asked, arrival)
        document.payload.arrival, document.state = arrival, "chunking"
        self._push(document)

    def _arrive(self, document: Document, arrival: Arrival, updates: list[bytes]) -> None:
        """All of an answer is there."""
        document.payload = None
        if not document.apply(updates):
            self._misfit(document)
            return
        if arrival.heals:
            document.heal(arrival)
        elif document.cursor is None:  # maybe rebuilt: then it lacks what is on its way
            for update in [*(op.update for op in document.outbox), *document.edits]:
                document.apply([update])
        document.epoch, document.cursor = arrival.cursor[0], arrival.cursor
        document.state, document.misfits = "live", 0
        self._push(document)

    def _chunk(self, document: Document, offset: int, total: int, data: bytes, *_: Any) -> None:
        if document.state != "chunking" or document.payload is None:
            return
        if offset != len(document.payload.data):
            self._resync(document, document.cursor)
            return
        document.payload.data += data
        if len(document.payload.data) == total:
            whole = bytes(document.payload.data)
            updates = wire.read_updates(whole if self.deflate else wire.unpack(whole))
            self._arrive(document, document.payload.arrival, updates)

    def _delta(self, document: Document, seq: int, updates: Any, *_: Any) -> None:
        if document.state != "live" or document.cursor is None or seq <= document.cursor[1]:
            return
        if seq > document.cursor[1] + 1:
            self._resync(document, document.cursor)
        elif document.apply(wire.read_updates(updates)):
            document.cursor = [document.cursor[0], seq]
        else:
            self._misfit(document)

    def _ack(self, document: Document, op: int, seq: int, chain: bytes, *_: Any) -> None:
        if document.settle(op, chain) == "forked":
            self._fork()
            return
        if document.state == "live" and document.cursor and seq == document.cursor[1] + 1:
            document.cursor = [document.cursor[0], seq]
        elif document.state == "live" and document.cursor and seq > document.cursor[1]:
            self._resync(document, document.cursor)
        self._push(document)

    def _presence(self, document: Document, device: str, payload: bytes | None, *_: Any) -> None:
        document.others.pop(device, None)
        if payload is not None:
            document.others[device] = payload

    def _audited(self, document: Document, _seq: int, ok: bool, *_: Any) -> None:
        document.audits.append(ok)
        if document.audits[-2:] == [False, False]:
            self._rebuild(document)
        elif not ok:
            self._resync(document, None)

    def _expiring(self, seconds: int, *_: Any) -> None:
        """At once, but only once: a fresh token that ends within a minute as well is announced at once as well."""
        if self.renewals == 0:
            self.authenticate()
        else:
            self._timers.append(asyncio.get_running_loop().call_later(seconds / 2, self.authenticate))
        self.renewals += 1

    def _goaway(self, _reason: str, retry_after_ms: int, *_: Any) -> None:
        self.going_away, self.retry_after_s = True, retry_after_ms / 1000

    def _error(
        self, ref: int | None, handle: int | None, code: str, _message: str, retry: str,
        retry_after_ms: int | None = None, detail: dict[str, Any] | None = None, *_: Any,
    ) -> None:  # fmt: skip
        self.errors.append((code, detail))
        asking = [document for document in self.documents.values() if ref and document.awaited == ref]
        document = asking[0] if asking else self._handles.get(-1 if handle is None else handle)
        delay_s = (retry_after_ms or 0) / 1000
        if code == "device_forked":
            self._fork()
        elif document is None:
            self.retry_after_s = delay_s
        elif detail and "op" in detail:
            self._refused(document, code, retry, delay_s, detail)
        elif code == "bad_state":
            self._rebuild(document)
        elif ref is not None or code == "forbidden":
            self._handles.pop(document.handle, None)
            blocks = code in ("forbidden", "doc_quarantined", "reset_required") or retry == "never"
            document.state, document.awaited = "blocked" if blocks else "closed", None
            if not blocks:
                self._later(delay_s or 1, lambda document: self.send([wire.OPEN, *self._opening(document)]), document)

    def _refused(self, document: Document, code: str, retry: str, delay_s: float, detail: dict[str, Any]) -> None:
        """An op was refused, and all after it ("Pushing")."""
        op = detail["expected"] if code == "op_gap" else detail["op"]
        index = op - document.acked - 1
        if code == "forbidden":
            document.access = "r"
        elif not 0 <= index < len(document.outbox):
            self._resync(document, document.cursor)
        elif code == "missing_deps":
            del document.outbox[index:]
            document.edits = [document.replica.get_update(detail["sv"])]
            self._push_from(document, op)
        elif code == "op_gap":
            self._push_from(document, op)
        elif retry == "now":  # at once, then with backoff
            wait_s = random.uniform(0, min(60, 0.5 * 2**document.failures)) if document.failures else 0
            document.failures += 1
            self._later(wait_s, lambda document: self._push_from(document, op), document)
        elif retry == "later":
            self._later(delay_s, lambda document: self._push_from(document, op), document)
        elif retry == "after_resync":
            self._resync(document, document.cursor)
        else:
            document.set_aside += [made.update for made in document.outbox[index:]] + document.edits
            del document.outbox[index:]
            document.edits.clear()
            self._rebuild(document)
