"""One Yjs socket: the sink of its connection, and the documents that it has open."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Final, Protocol, cast

from crdt.errors import PeerError
from crdt.protocol.codes import CLOSE, Code
from server.core import events
from server.core.events import SessionId
from server.core.rates import Bucket
from server.runtime.transport import Socket
from server.runtime.wire import encode_fragment, encode_message
from server.yjs import messages
from server.yjs.dialect import Hocuspocus, YWebsocket, is_final, reason_of
from server.yjs.link import End, Link
from server.yjs.messages import Fragment

if TYPE_CHECKING:
    from server.runtime.yjs import Links

DOCUMENTS_MAX: Final = 256
"""On one Hocuspocus socket."""
HELD_BYTES_MAX: Final = 1 << 20
"""What may wait on one socket for the end of a large message."""
TOO_BIG: Final = (CLOSE[Code.TOO_BIG], reason_of(Code.TOO_BIG, "a message is over its limit"))
"""How a message that is too long ends a socket whose token is known."""
TOKEN_WITHIN_S: Final = 60.0
"""For a Hocuspocus socket, which an app may open well before its first document; so long Hocuspocus's own server waits.
Until then it is in the lobby, and gives way to others."""
DENIED_MAX: Final = 100
"""Documents that a socket may ask for in vain: each time costs a look at a token."""
ASIDE_PER_S: Final = 100
"""Messages that are for no open document: tokens, closes, pings, and what crosses a refusal. More are an attack."""
ASIDE_BYTES_PER_S: Final = 1 << 20
ASIDE_BURST_S: Final = 10.0
"""So many seconds' worth may come at once."""


class YjsWire(Socket, Protocol):
    """What carries a Yjs socket."""

    def broken(self, error: Exception) -> None:
        """A bug of ours ends it, and nothing else."""
        ...


class YjsMember:
    """A document on a Yjs socket. To the driver it is a connection like others."""

    def __init__(self, session: SessionId, socket: YjsSocket, link: Link) -> None:
        self.session = session
        self.socket = socket
        self.link = link
        self.awaits_drain = False

    def close(self, code: int, reason: str) -> None:
        self.link.closed(code, reason)
        self.socket.deliver(self)

    def await_drain(self) -> None:
        self.awaits_drain = True
        self.socket.await_drain()

    def pause_reading(self) -> None:
        self.socket.pause(self)

    def give_back(self, frames: Sequence[bytes]) -> None:
        self.link.frames[:0] = frames

    def resume_reading(self) -> None:
        self.socket.resume(self)

    def accept_large_messages(self) -> None:
        self.socket.verified()


class YjsSocket:
    """The sink of one connection (`transport.Sink`). What its links say to the hub is fed in a later turn of the loop,
    or at the end of a read: never while the hub's effects are executed."""

    SIGN_OF_LIFE: ClassVar[bytes] = b""
    """Clients end a socket on which no message comes for long."""

    def __init__(self, links: Links, loop: asyncio.AbstractEventLoop) -> None:
        self._links = links
        self._loop = loop
        self._connection: YjsWire | None = None
        self._members: dict[SessionId, YjsMember] = {}
        self._paused: dict[SessionId, None] = {}
        """Documents that wait: while there are any nothing is read."""
        self._awake: dict[SessionId, YjsMember] = {}
        """Documents whose links may have something to say to the hub."""
        self._is_scheduled = self._is_overfull = False
        self._streaming: YjsMember | None = None
        """Whose message goes out in fragments."""
        self._held: list[bytes | tuple[YjsMember, Fragment]] = []
        self._held_bytes = 0

    # --- what the connection tells

    def socket_opened(self, connection: Socket, bearer: str | None) -> SessionId:
        self._connection = cast("YjsWire", connection)  # made for this sink
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
                return
            self._flush()
            if self._paused:
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
            if self._streaming in (None, member):
                member.awaits_drain = False
                self._links.feed(events.OutboxDrained(member.session))

    # --- what the members ask for

    def send(self, framed: bytes) -> None:
        """Behind the message that goes out in fragments, if one does."""
        if self._streaming is not None:
            self._hold(framed)
        elif self._connection is not None and framed:
            self._connection.send(framed)

    def show_life(self) -> None:
        """Send a message that says nothing, but never within a large one: whose parts are signs of life enough."""
        if self._streaming is None:
            self.send(encode_message(self.SIGN_OF_LIFE))

    def deliver(self, member: YjsMember) -> None:
        """Pass on what a link has to say, and what becomes of it."""
        link = member.link
        said, link.out = link.out, []
        for message in said:
            if isinstance(message, bytes):
                self.send(encode_message(message))
            else:
                self._send_fragment(member, message)
        if link.end is not None and member.session in self._members:
            self._ended(member, link.end)
        if link.frames or link.end is not None:
            self._wake(member)

    def _send_fragment(self, member: YjsMember, fragment: Fragment) -> None:
        if self._streaming not in (None, member):
            self._held.append((member, fragment))
            return
        self._streaming = None if fragment.is_last else member
        if self._connection is not None:
            self._connection.send(
                encode_fragment(fragment.data, is_first=fragment.is_first, is_last=fragment.is_last)
            )  # fmt: skip
        if fragment.is_last:
            self._go_on()

    def _go_on(self) -> None:
        """A large message is out: send what came meanwhile."""
        held, self._held, self._held_bytes = self._held, [], 0
        for item in held:
            if isinstance(item, bytes):
                self.send(item)
            else:
                self._send_fragment(*item)
        if any(member.awaits_drain for member in self._members.values()):
            self.await_drain()

    def _hold(self, framed: bytes) -> None:
        """What waits here is bounded, as what waits for the reader is: documents get no more, and catch up later."""
        before, self._held_bytes = self._held_bytes, self._held_bytes + len(framed)
        self._held.append(framed)
        if before <= HELD_BYTES_MAX < self._held_bytes:
            self._is_overfull = True
            self._schedule()

    def await_drain(self) -> None:
        if self._connection is not None:
            self._connection.await_drain()

    def pause(self, member: YjsMember) -> None:
        self._paused[member.session] = None
        if self._connection is not None:
            self._connection.pause_reading()

    def resume(self, member: YjsMember) -> None:
        """Read again as soon as no document is to wait."""
        if member.session in self._paused:
            del self._paused[member.session]
            if not self._paused and self._connection is not None:
                self._connection.resume_reading()
            self._wake(member)

    def broken(self, error: Exception) -> None:
        """A bug of ours ends this socket."""
        if self._connection is not None:
            self._connection.broken(error)

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

    def _join(self, link: Link) -> YjsMember:
        member = self._links.join(self, link)
        self._members[member.session] = member
        return member

    def _greet(self, member: YjsMember, token: str | None, agent: str) -> None:
        self._links.open(member, token)
        member.link.greet("", agent)
        self._wake(member)

    def _leave(self, member: YjsMember) -> None:
        if self._streaming is member:  # nobody can end its message
            self._fail(CLOSE[Code.OVERLOADED], Code.OVERLOADED)
        self._members.pop(member.session, None)
        self._awake.pop(member.session, None)
        self.resume(member)
        self._links.leave(member)

    def _fail(self, code: int, reason: str) -> None:
        if self._connection is not None:
            self._connection.close(code, reason)

    def _wake(self, member: YjsMember) -> None:
        """Its link may have something to say to the hub."""
        if member.session in self._members:
            self._awake[member.session] = member
            self._schedule()

    def _schedule(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            self._loop.call_soon(self._run)

    def _run(self) -> None:
        self._is_scheduled = False
        try:
            if self._is_overfull:
                self._is_overfull = False
                self.outbox_overfull(0)
            self._flush()
        except Exception as error:  # noqa: BLE001 - as in Connection._tell
            self.broken(error)

    def _flush(self) -> None:
        """Feed the hub what links say, as long as they have something to say and it listens."""
        while self._awake:
            self._pass_on(self._awake.pop(next(iter(self._awake))))

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
        if link.frames and member.session not in self._paused:
            said, link.frames = link.frames, []
            self._links.feed(events.MessagesReceived(member.session, said))
        if link.has_more and member.session not in self._paused:
            link.go_on()
            self._loop.call_soon(self._wake, member)


class YWebsocketSocket(YjsSocket):
    """One document, named by the path."""

    SIGN_OF_LIFE = messages.NOBODY_NEW

    def __init__(self, links: Links, loop: asyncio.AbstractEventLoop, document: str) -> None:
        super().__init__(links, loop)
        self._link = Link(document, YWebsocket(), links.uploads, links.presence_bytes_max)

    def _opened(self, bearer: str | None) -> None:
        self._member = self._join(self._link)
        self._greet(self._member, bearer, "y-websocket")

    def _read(self, message: bytes) -> None:
        self._link.receive(messages.read_message(message, 0, self._link.dialect.kinds), len(message))
        self._wake(self._member)

    def _ended(self, member: YjsMember, end: End) -> None:
        self._fail(end.close_code, end.reason)


class HocuspocusSocket(YjsSocket):
    """Several documents, each with a token of its own. Each message has the document's name in front."""

    SIGN_OF_LIFE = messages.PING

    def __init__(self, links: Links, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(links, loop)
        self._by_name: dict[str, YjsMember] = {}
        self._denied = 0
        self._aside = Bucket()
        self._timer = loop.call_later(TOKEN_WITHIN_S, self._auth_is_due)
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
        if data in (messages.PING, messages.PONG):
            self._charge(len(data))
            if data == messages.PING:
                self.send(encode_message(messages.PONG))
            return
        name, at = messages.read_name(data)
        member = self._by_name.get(name)
        if member is None:
            self._charge(len(data))
            message = messages.read_message(data, at)
            if isinstance(message, messages.Token):
                self._open(name, message.token)
            return
        try:
            message = messages.read_message(data, at)
            if not isinstance(message, messages.Token | messages.CloseDocument):
                member.link.receive(message, len(data))
        except PeerError as exc:
            self._charge(len(data))
            member.link.fail(exc)
            message = None
        match message:
            case messages.Token(token):
                member.link.renew(token)
            case messages.CloseDocument():
                self._charge(len(data))
                self._drop(name, member)
            case _:
                pass
        self._wake(member)

    def _open(self, name: str, token: str) -> None:
        if len(self._by_name) >= DOCUMENTS_MAX:
            prefix = messages.sized(name.encode())
            self.send(encode_message(prefix + messages.denied("too many documents are open on this socket")))
            return
        link = Link(
            name.partition("\0")[0],
            Hocuspocus(),
            self._links.uploads,
            self._links.presence_bytes_max,
            messages.sized(name.encode()),
        )
        member = self._by_name[name] = self._join(link)
        self._greet(member, token or self._bearer, "hocuspocus")

    def _drop(self, name: str, member: YjsMember) -> None:
        self._by_name.pop(name, None)
        self._leave(member)

    def _charge(self, size: int) -> None:
        """What no document's session pays for. Raises PeerError."""
        cost_s = 1 / ASIDE_PER_S + size / ASIDE_BYTES_PER_S
        if self._aside.charge(cost_s, self._loop.time()) > ASIDE_BURST_S:
            raise PeerError(Code.BAD_FRAME, "messages for documents that are not open")

    def _ended(self, member: YjsMember, end: End) -> None:
        """What time heals ends the socket: then the provider comes back. Else the one document is denied."""
        name, _ = messages.read_name(member.link.prefix)
        if self._by_name.get(name) is not member:
            return
        del self._by_name[name]
        was_open = member.link.handle is not None
        self._denied += not was_open
        if not is_final(end.close_code) or self._denied > DENIED_MAX:
            self._fail(end.close_code, end.reason)
            return
        self.send(encode_message(member.link.prefix + messages.denied(end.reason)))
        if was_open:
            self.send(encode_message(member.link.prefix + messages.document_closed(end.reason)))
