"""Yjs sockets: y-websocket's, each with one document, and Hocuspocus's, each with several.

A document on a socket is a session of the hub. `Links` is what the driver knows of them all; a `YjsSocket` is the sink
of its one connection; what they say is made by `server.yjs`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import ClassVar, Final
from urllib.parse import unquote

from crdt.errors import PeerError
from crdt.protocol.codec import decode_server_frame
from crdt.protocol.codes import CLOSE, Code
from crdt.protocol.frames import Delta, ServerFrame
from server.core import events
from server.core.effects import Publish
from server.core.events import Event, SessionId
from server.runtime.connection import Connection
from server.runtime.transport import Shared
from server.runtime.wire import encode_message
from server.yjs import messages
from server.yjs.dialect import Hocuspocus, YWebsocket, is_final, reason_of
from server.yjs.link import End, Link

YJS_PATH: Final = "/yjs/"
HOCUSPOCUS_PATHS: Final = ("/hocuspocus", "/hocuspocus/")
DOCUMENTS_MAX: Final = 256
"""On one Hocuspocus socket."""
STRAY_MAX: Final = 1_000
"""Messages for documents that are not open on the socket: some cross a refusal, more of them are an attack."""


class Links:
    """All documents on all Yjs sockets of a driver, by session."""

    def __init__(
        self, feed: Callable[[Event], None], new_session: Callable[[], SessionId], auth_timeout_s: float
    ) -> None:
        self.feed = feed
        self._auth_timeout_s = auth_timeout_s
        self._new_session = new_session
        self._members: dict[SessionId, YjsMember] = {}
        self._by_handle: dict[int, dict[SessionId, YjsMember]] = {}

    def __len__(self) -> int:
        return len(self._members)

    # --- the entrance (`transport.Entrance`)

    def takes(self, path: str) -> bool:
        return path.startswith(YJS_PATH) or path in HOCUSPOCUS_PATHS

    def may_have_token(self, path: str) -> bool:
        return path.startswith(YJS_PATH)

    def connection(self, path: str, shared: Shared, transport: asyncio.Transport, address: str) -> Connection:
        if path in HOCUSPOCUS_PATHS:
            hocuspocus = HocuspocusSocket(self, shared.loop, self._auth_timeout_s)
            return _HocuspocusConnection(shared, transport, address, hocuspocus)
        document = unquote(path.removeprefix(YJS_PATH))
        return _YWebsocketConnection(shared, transport, address, YWebsocketSocket(self, shared.loop, document))

    # --- sessions

    def get(self, session: SessionId) -> YjsMember | None:
        return self._members.get(session)

    def join(self, socket: YjsSocket, link: Link, bearer: str | None) -> YjsMember:
        """A session of its own for a document on a socket."""
        member = YjsMember(self._new_session(), socket, link)
        self._members[member.session] = member
        self.feed(events.SocketOpened(member.session, bearer, ephemeral=True))
        return member

    def leave(self, member: YjsMember) -> None:
        if self._members.pop(member.session, None) is None:
            return
        if member.link.handle is not None:
            del self._by_handle[member.link.handle][member.session]
            if not self._by_handle[member.link.handle]:
                del self._by_handle[member.link.handle]
        self.feed(events.SocketClosed(member.session))

    def send(self, sessions: Sequence[SessionId], data: bytes) -> None:
        """One frame for these sessions, as far as they are Yjs documents."""
        frame: ServerFrame | None = None
        for session in sessions:
            member = self._members.get(session)
            if member is not None:
                frame = frame or decode_server_frame(data)
                self._tell(member, frame)

    def publish(self, publish: Publish) -> None:
        """A commit's entries, translated once for all who call the document by the same name."""
        translated = _Translated(publish.deltas)
        for session in publish.receivers:
            member = self._members.get(session)
            if member is None:
                continue
            acks = publish.acks.get(session)
            if acks is None:
                member.socket.send(translated.whole(member.link.prefix))
                continue
            for index in range(len(publish.deltas)):
                if index in acks:
                    self._tell(member, decode_server_frame(acks[index]))
                else:
                    member.socket.send(translated.part(index, member.link.prefix))

    def _tell(self, member: YjsMember, frame: ServerFrame | None) -> None:
        was_open = member.link.handle is not None
        member.link.told(frame)
        if not was_open and member.link.handle is not None:
            self._by_handle.setdefault(member.link.handle, {})[member.session] = member
        member.socket.deliver(member)

    def relay(self, sender: YjsMember, text: messages.Stateless) -> None:
        """A stateless message for those who have the document open."""
        told = messages.stateless(text.payload)
        for member in list(self._by_handle.get(sender.link.handle or 0, {}).values()):
            if text.to_all or member is not sender:
                member.socket.send(encode_message(member.link.prefix + told))


class _Translated:
    """The entries of one commit as framed messages, by the name in front of them."""

    def __init__(self, deltas: tuple[bytes, ...]) -> None:
        self._deltas = deltas
        self._updates: list[tuple[bytes, ...]] | None = None
        self._parts: dict[tuple[int, bytes], bytes] = {}
        self._wholes: dict[bytes, bytes] = {}

    def whole(self, prefix: bytes) -> bytes:
        if prefix not in self._wholes:
            self._wholes[prefix] = b"".join(self.part(index, prefix) for index in range(len(self._deltas)))
        return self._wholes[prefix]

    def part(self, index: int, prefix: bytes) -> bytes:
        key = (index, prefix)
        if key not in self._parts:
            updates = self._read()[index]
            self._parts[key] = b"".join(
                encode_message(prefix + messages.update_message(update)) for update in updates
            )  # fmt: skip
        return self._parts[key]

    def _read(self) -> list[tuple[bytes, ...]]:
        if self._updates is None:
            self._updates = [_updates_of(delta) if delta else () for delta in self._deltas]
        return self._updates


def _updates_of(delta: bytes) -> tuple[bytes, ...]:
    frame = decode_server_frame(delta)
    assert isinstance(frame, Delta)
    return frame.updates


class YjsMember:
    """A document on a Yjs socket. To the driver it is a connection like others."""

    def __init__(self, session: SessionId, socket: YjsSocket, link: Link) -> None:
        self.session = session
        self.socket = socket
        self.link = link
        self.is_paused = False
        self.awaits_drain = False

    def close(self, code: int, reason: str) -> None:
        self.link.closed(code, reason)
        self.socket.deliver(self)

    def await_drain(self) -> None:
        self.awaits_drain = True
        self.socket.await_drain()

    def pause_reading(self) -> None:
        self.is_paused = True
        self.socket.pause()

    def give_back(self, frames: Sequence[bytes]) -> None:
        self.link.frames[:0] = frames

    def resume_reading(self) -> None:
        self.is_paused = False
        self.socket.resume()

    def accept_large_messages(self) -> None:
        self.socket.verified()


class YjsSocket:
    """The sink of one connection (`transport.Sink`). What its links say to the hub is fed in a later turn of the loop,
    or at the end of a read: never while the hub's effects are executed."""

    def __init__(self, links: Links, loop: asyncio.AbstractEventLoop) -> None:
        self._links = links
        self._loop = loop
        self._connection: Connection | None = None
        self._members: dict[SessionId, YjsMember] = {}
        self._is_scheduled = False

    # --- what the connection tells

    def socket_opened(self, connection: Connection, bearer: str | None) -> SessionId:
        self._connection = connection
        self._opened(bearer)
        self._flush()
        return 0

    def messages_received(self, session: SessionId, received: list[bytes]) -> None:
        assert self._connection is not None
        for index, message in enumerate(received):
            try:
                self._read(message)
            except PeerError as exc:
                self._fail(CLOSE.get(exc.code, CLOSE[Code.BAD_FRAME]), reason_of(exc.code, exc.message))
            self._flush()
            if self._is_paused:
                self._connection.give_back(received[index + 1 :])
                return

    def socket_closed(self, session: SessionId) -> None:
        self._connection = None
        for member in list(self._members.values()):
            self._leave(member)

    def outbox_overfull(self, session: SessionId) -> None:
        for member in list(self._members.values()):
            self._links.feed(events.OutboxOverfull(member.session))

    def outbox_drained(self, session: SessionId) -> None:
        for member in [member for member in self._members.values() if member.awaits_drain]:
            member.awaits_drain = False
            self._links.feed(events.OutboxDrained(member.session))

    # --- what the members ask for

    def send(self, framed: bytes) -> None:
        if self._connection is not None and framed:
            self._connection.send(framed)

    def deliver(self, member: YjsMember) -> None:
        """Pass on what a link has to say, and what becomes of it."""
        link = member.link
        if link.out:
            self.send(b"".join(map(encode_message, link.out)))
            link.out.clear()
        if link.end is not None and member.session in self._members:
            self._ended(member, link.end)
        if link.frames or link.end is not None:
            self._schedule()

    def await_drain(self) -> None:
        if self._connection is not None:
            self._connection.await_drain()

    def pause(self) -> None:
        if self._connection is not None:
            self._connection.pause_reading()

    def resume(self) -> None:
        if self._connection is not None and not self._is_paused:
            self._connection.resume_reading()
        self._schedule()

    def verified(self) -> None:
        if self._connection is not None:
            self._connection.accept_large_messages()

    # --- what each kind does its own way

    def _opened(self, bearer: str | None) -> None:
        raise NotImplementedError

    def _read(self, message: bytes) -> None:
        """Raises PeerError."""
        raise NotImplementedError

    def _ended(self, member: YjsMember, end: End) -> None:
        raise NotImplementedError

    # --- shared

    @property
    def _is_paused(self) -> bool:
        return any(member.is_paused for member in self._members.values())

    def _join(self, link: Link, token: str | None, agent: str) -> YjsMember:
        member = self._links.join(self, link, token)
        self._members[member.session] = member
        link.greet("", agent)
        return member

    def _leave(self, member: YjsMember) -> None:
        self._members.pop(member.session, None)
        self._links.leave(member)

    def _fail(self, code: int, reason: str) -> None:
        if self._connection is not None:
            self._connection.close(code, reason)

    def _schedule(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            self._loop.call_soon(self._run)

    def _run(self) -> None:
        self._is_scheduled = False
        self._flush()

    def _flush(self) -> None:
        """Feed the hub what the links say, as long as they have something to say and it listens."""
        while waiting := [member for member in self._members.values() if self._has_work(member)]:
            for member in waiting:
                self._pass_on(member)

    def _has_work(self, member: YjsMember) -> bool:
        link = member.link
        return link.end is not None or bool(link.out or link.texts or (link.frames and not member.is_paused))

    def _pass_on(self, member: YjsMember) -> None:
        link = member.link
        if link.end is not None:
            self.deliver(member)
            self._leave(member)
            return
        texts, link.texts = link.texts, []
        for text in texts:
            self._links.relay(member, text)
        if link.out:
            self.deliver(member)
        if link.frames and not member.is_paused:
            said, link.frames = link.frames, []
            self._links.feed(events.MessagesReceived(member.session, said))


class YWebsocketSocket(YjsSocket):
    """One document, named by the path."""

    def __init__(self, links: Links, loop: asyncio.AbstractEventLoop, document: str) -> None:
        super().__init__(links, loop)
        self._link = Link(document, YWebsocket())

    def _opened(self, bearer: str | None) -> None:
        self._join(self._link, bearer, "y-websocket")

    def _read(self, message: bytes) -> None:
        self._link.receive(messages.read_message(message), len(message))

    def _ended(self, member: YjsMember, end: End) -> None:
        self._fail(end.close_code, end.reason)


class HocuspocusSocket(YjsSocket):
    """Several documents, each with a token of its own. Each message has the document's name in front."""

    def __init__(self, links: Links, loop: asyncio.AbstractEventLoop, auth_timeout_s: float) -> None:
        super().__init__(links, loop)
        self._by_name: dict[str, YjsMember] = {}
        self._strays = 0
        self._timer = loop.call_later(auth_timeout_s, self._auth_is_due)
        self._bearer: str | None = None

    def _opened(self, bearer: str | None) -> None:
        self._bearer = bearer

    def socket_closed(self, session: SessionId) -> None:
        self._timer.cancel()
        super().socket_closed(session)

    def verified(self) -> None:
        self._timer.cancel()
        super().verified()

    def _auth_is_due(self) -> None:
        self._fail(CLOSE[Code.AUTH_TIMEOUT], Code.AUTH_TIMEOUT)

    def _read(self, data: bytes) -> None:
        if data == messages.PING:
            self.send(encode_message(messages.PONG))
        if data in (messages.PING, messages.PONG):
            return
        name, at = messages.read_name(data)
        message = messages.read_message(data, at)
        member = self._by_name.get(name)
        match message:
            case messages.Token(token) if member is None:
                self._open(name, token)
            case messages.Token(token) if member is not None:
                member.link.renew(token)
            case messages.CloseDocument() if member is not None:
                self._drop(name, member)
            case _ if member is not None:
                member.link.receive(message, len(data))
            case _:
                self._stray()

    def _open(self, name: str, token: str) -> None:
        if len(self._by_name) >= DOCUMENTS_MAX:
            prefix = messages.sized(name.encode())
            self.send(encode_message(prefix + messages.denied("too many documents are open on this socket")))
            return
        document = name.partition("\0")[0]
        link = Link(document, Hocuspocus(), messages.sized(name.encode()))
        member = self._by_name[name] = self._join(link, token or self._bearer, "hocuspocus")
        if link.end is not None:
            self._drop(name, member)

    def _drop(self, name: str, member: YjsMember) -> None:
        self._by_name.pop(name, None)
        self._leave(member)

    def _stray(self) -> None:
        self._strays += 1
        if self._strays > STRAY_MAX:
            raise PeerError(Code.BAD_FRAME, "messages for documents that are not open")

    def _ended(self, member: YjsMember, end: End) -> None:
        """What time heals ends the socket: then the provider comes back. Else the one document is denied."""
        name = next((name for name, other in self._by_name.items() if other is member), None)
        if name is None:
            return
        del self._by_name[name]
        if not is_final(end.close_code):
            self._fail(end.close_code, end.reason)
            return
        prefix = member.link.prefix
        self.send(encode_message(prefix + messages.denied(end.reason)))
        if member.link.handle is not None:
            self.send(encode_message(prefix + messages.document_closed(end.reason)))


class _YjsConnection(Connection):
    """A connection whose sink is a Yjs socket."""

    __slots__ = ()

    def __init__(self, shared: Shared, transport: asyncio.Transport, address: str, sink: YjsSocket) -> None:
        super().__init__(shared, transport, address)
        self._sink = sink


class _YWebsocketConnection(_YjsConnection):
    PING: ClassVar[bytes] = Connection.PING + encode_message(messages.NOBODY_NEW)
    __slots__ = ()


class _HocuspocusConnection(_YjsConnection):
    PING: ClassVar[bytes] = Connection.PING + encode_message(messages.PING)
    __slots__ = ()
