"""All Yjs sockets of a server: y-websocket's, each with one document, and Hocuspocus's, each with several.

A document on a socket is a session of the hub. `Links` is what the driver knows of them all; a `YjsSocket` is the sink
of its one connection (`yjs_socket`); what they say is made by `server.yjs`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final
from urllib.parse import unquote

from crdt.protocol.codec import decode_server_frame
from crdt.protocol.frames import Delta, DevicePresence, ServerFrame
from server.core import events
from server.core.effects import Publish
from server.core.events import Event, SessionId
from server.runtime import yjs_socket
from server.runtime.connection import Connection
from server.runtime.parsers import Parser
from server.runtime.transport import Shared, Sink
from server.runtime.wire import encode_message
from server.runtime.yjs_socket import HocuspocusSocket, YjsMember, YjsSocket, YWebsocketSocket
from server.yjs import messages
from server.yjs.claims import Claims
from server.yjs.link import Link
from server.yjs.upload import Uploads

YJS_PATH: Final = "/yjs/"
HOCUSPOCUS_PATHS: Final = ("/hocuspocus", "/hocuspocus/")


class Links:
    """All documents on all Yjs sockets of a driver, by session."""

    def __init__(
        self,
        feed: Callable[[Event], None],
        new_session: Callable[[], SessionId],
        presence_bytes_max: int,
    ) -> None:
        self.feed = feed
        self.uploads = Uploads()
        self.presence_bytes_max = presence_bytes_max
        self._new_session = new_session
        self._members: dict[SessionId, YjsMember] = {}
        self._by_handle: dict[int, dict[SessionId, YjsMember]] = {}
        self._claims: dict[int, Claims] = {}

    def __len__(self) -> int:
        return len(self._members)

    # --- the entrance (`transport.Entrance`)

    def takes(self, path: str) -> bool:
        return path.startswith(YJS_PATH) or path in HOCUSPOCUS_PATHS

    def may_have_token(self, path: str) -> bool:
        return path.startswith(YJS_PATH)

    def connection(self, path: str, shared: Shared, transport: asyncio.Transport, address: str) -> Connection:
        return YjsConnection(shared, transport, address, self.sink(unquote(path), shared.loop))

    def sink(self, path: str, loop: asyncio.AbstractEventLoop) -> YjsSocket:
        """For a WebSocket on such a path, percent-decoded, whoever accepted it."""
        if path in HOCUSPOCUS_PATHS:
            return HocuspocusSocket(self, loop)
        return YWebsocketSocket(self, loop, path.removeprefix(YJS_PATH))

    # --- sessions

    def get(self, session: SessionId) -> YjsMember | None:
        return self._members.get(session)

    def join(self, socket: YjsSocket, link: Link) -> YjsMember:
        """A session of its own for a document on a socket; to be opened next."""
        member = YjsMember(self._new_session(), socket, link)
        self._members[member.session] = member
        return member

    def open(self, member: YjsMember, bearer: str | None) -> None:
        self.feed(events.SocketOpened(member.session, bearer, ephemeral=True))

    def leave(self, member: YjsMember) -> None:
        if self._members.pop(member.session, None) is None:
            return
        member.link.left()
        if member.link.handle is not None:
            del self._by_handle[member.link.handle][member.session]
            if not self._by_handle[member.link.handle]:
                del self._by_handle[member.link.handle]
                del self._claims[member.link.handle]
        self.feed(events.SocketClosed(member.session))

    def send(self, sessions: Sequence[SessionId], data: bytes) -> None:
        """One frame for these sessions, as far as they are Yjs documents."""
        frame: ServerFrame | None = None
        for session in sessions:
            member = self._members.get(session)
            if member is not None:
                frame = frame or self._admitted(decode_server_frame(data))
                self._tell(member, frame)

    def _admitted(self, frame: ServerFrame | None) -> ServerFrame | None:
        """A presence under another user's client id is shown as none at all."""
        if not isinstance(frame, DevicePresence):
            return frame
        claims = self._claims.get(frame.handle)
        if claims is None or claims.admits(frame.device, frame.payload):
            return frame
        return replace(frame, payload=None)

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
        try:
            member.link.told(frame)
        except Exception as error:  # noqa: BLE001 - a bug of ours ends this socket; others are told all the same
            member.socket.broken(error)
            return
        if not was_open and member.link.handle is not None:
            self._by_handle.setdefault(member.link.handle, {})[member.session] = member
            self._claims.setdefault(member.link.handle, Claims())
        member.socket.deliver(member)

    def relay(self, sender: YjsMember, text: messages.Stateless) -> None:
        """A stateless message for those who have the document open."""
        told = messages.stateless(text.payload)
        for member in list(self._by_handle.get(sender.link.handle or 0, {}).values()):
            if member.link.dialect.has_texts and (text.to_all or member is not sender):
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


class YjsConnection(Connection):
    """A connection whose sink is a Yjs socket."""

    __slots__ = ("_yjs",)

    def __init__(self, shared: Shared, transport: asyncio.Transport, address: str, sink: YjsSocket) -> None:
        super().__init__(shared, transport, address)
        self._sink: Sink = sink
        self._yjs = sink

    def broken(self, error: Exception) -> None:
        """A bug of ours ends this connection, never the listener."""
        self._sink_failed(error)

    def _borrow(self) -> Parser:
        """What is too long now will be so again, and clients would come back with it for ever."""
        parser = super()._borrow()
        if self._verified:
            parser.too_big = yjs_socket.TOO_BIG
        return parser

    def _ping(self) -> None:
        super()._ping()
        self._yjs.show_life()
