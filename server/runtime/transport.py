"""What all connections of one listener share: options, the sink for what they receive, counters, one flush a turn."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING, Final, Protocol

from crdt.limits import Limits
from server.core.events import SessionId
from server.runtime.lobby import Lobby, Network, Sockets

if TYPE_CHECKING:
    from server.runtime.connection import Connection

ROUND_S: Final = 0.001
REST_S: Final = 0.001
"""After each: the loop polls, and threads that commit get the interpreter."""


@dataclass(frozen=True, slots=True)
class TransportOptions:
    """Bounds in bytes and times in seconds, for each connection; those of all connections together say so."""

    origins: tuple[str, ...] = ()
    """The web origins that may connect, as in `https://app.example.com`, or `*`. Native apps send no Origin."""
    unverified_max: int = 4096
    """Connections at once that have no verified token: beyond it the oldest goes. 0 is no limit."""
    unverified_bytes_max: int = 64 << 20
    """What all of them together may have sent of requests and messages that are not whole. 0 is no limit."""
    sockets_max: int = 0
    """WebSockets at once: beyond it, 503. 0 is no limit."""
    sockets_per_address_max: int = 0
    """The same from one IPv4 address or IPv6 /64, but for those of `proxies`."""
    proxies: tuple[Network, ...] = ()
    head_bytes_max: int = 16 << 10
    """The head of the first HTTP request, with its token."""
    open_timeout_s: float = 5.0
    """From accepting a connection to a whole request head; before that, as long again for the TLS handshake."""
    http_lifetime_s: float = 60.0
    """A plain HTTP connection (probes, metrics) lives no longer."""
    hello_bytes_max: int = Limits().hello_bytes
    """One message, before `accept_large_messages`."""
    message_bytes_max: int = Limits().message_bytes
    """One message, after it."""
    idle_frames_max: int = 4096
    """Frames that complete no message (pings, fragments) within `ping_interval_s`: more of them are an attack.
    A message of 4 MiB may come in fragments of 1 KiB."""
    unverified_idle_frames_max: int = 256
    """The same before the token was verified."""
    ping_interval_s: float = 20.0
    """A peer that is silent for so long is pinged."""
    ping_timeout_s: float = 20.0
    """A pinged peer that stays silent for so long is gone."""
    close_timeout_s: float = 5.0
    """From our close frame, or our end of stream, to the peer's answer."""
    outbox_drained_bytes: int = 256 << 10
    """With no more than this waiting, a reader has caught up (`Sink.outbox_drained`)."""
    outbox_bytes_max: int = 1 << 20
    """With more than this waiting, a reader is slow (`Sink.outbox_overfull`)."""
    outbox_bytes_cap: int = 16 << 20
    """With more than this waiting the connection is cut. Room for several of the largest messages."""
    accept_backlog: int = 1024
    """Connections that the kernel holds until we accept them: all devices return at once after a restart."""


class Socket(Protocol):
    """A WebSocket, as whoever uses it sees it: `Connection`, or one that another server accepted (`asgi_socket`)."""

    ping_interval_s: float

    def send(self, frames: bytes) -> None:
        """Queue encoded frames of a server, one or several; dropped if it is closing."""
        ...

    def close(self, code: int, reason: str = "") -> None:
        """Send what is queued, then close. `reason` has at most 123 bytes of UTF-8."""
        ...

    def await_drain(self) -> None:
        """Ask for one `Sink.outbox_drained`, in a later turn."""
        ...

    def pause_reading(self) -> None:
        """Deliver nothing until `resume_reading`."""
        ...

    def resume_reading(self) -> None: ...

    def give_back(self, messages: Sequence[bytes]) -> None:
        """The sink paused and did not look at these: they are told again, before all else."""
        ...

    def accept_large_messages(self) -> None:
        """The peer is known now."""
        ...


class Sink(Protocol):
    """Who is told what happens to WebSockets. Called from the event loop, never from inside a call to a Socket.

    What a sink raises is a bug of ours: it is reported, and closes that one connection with 1011.
    """

    def socket_opened(self, connection: Socket, bearer: str | None) -> SessionId:
        """A WebSocket is up; name it. `bearer` is the token of its Authorization header."""
        ...

    def messages_received(self, session: SessionId, messages: list[bytes]) -> None:
        """Whole binary messages, in order: one, or several of one read."""
        ...

    def socket_closed(self, session: SessionId) -> None:
        """Once for each `socket_opened`: nothing more comes from it or goes to it."""
        ...

    def outbox_overfull(self, session: SessionId) -> None:
        """More than `outbox_bytes_max` waits for this reader. Told again only after it has caught up."""
        ...

    def outbox_drained(self, session: SessionId) -> None:
        """Answers `Connection.await_drain`."""
        ...


class Entrance(Protocol):
    """Takes WebSockets on paths that are not the protocol's."""

    def takes(self, path: str) -> bool:
        """Whether a path, as it stands in the request, is one of them."""
        ...

    def may_have_token(self, path: str) -> bool:
        """Whether a token may stand in the query there, for clients that can put it nowhere else."""
        ...

    def connection(self, path: str, shared: Shared, transport: asyncio.Transport, address: str) -> Connection:
        """For an accepted handshake on such a path. Its token is told to `Connection.open`."""
        ...


@dataclass(slots=True)
class TransportCounters:
    """Totals since the listener opened. Bytes are those of TCP, inside TLS, with heads and framing."""

    bytes_received: int = 0
    bytes_sent: int = 0
    connections_accepted: int = 0
    sockets_opened: int = 0
    sockets_closed: int = 0
    """WebSockets that are up: opened less closed."""
    handshakes_refused: int = 0
    connections_aborted: int = 0
    """Cut by us: a deadline passed, or the outbox was over its cap."""
    crowded_out: int = 0
    """Had no verified token, and gave way to others."""


class Flusher:
    """Writes what all connections queued in one turn of the loop, for the price of one callback."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: list[Connection] = []

    def add(self, connection: Connection) -> None:
        if not self._waiting:
            self._loop.call_soon(self._flush)
        self._waiting.append(connection)

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        for connection in waiting:
            connection.flush()


class Rounds:
    """Gives connections with more to parse one short turn after another, for `ROUND_S` at a time: however many of them
    there are, all others wait little longer.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: deque[Connection] = deque()
        self._is_scheduled = False
        self._is_taken = False

    def gives_turn(self) -> bool:
        """Whether one may go on at once, since nobody waits and nobody else did so in this turn of the loop."""
        if self._waiting or self._is_taken:
            return False
        self._is_taken = True
        self._loop.call_soon(self._turn_ends)  # no clock tells turns apart
        return True

    def _turn_ends(self) -> None:
        self._is_taken = False

    def add(self, connection: Connection) -> None:
        self._waiting.append(connection)
        self._schedule()

    def _schedule(self) -> None:
        if self._waiting and not self._is_scheduled:
            self._is_scheduled = True
            self._loop.call_later(REST_S, self._run)

    def _run(self) -> None:
        self._is_scheduled = False
        ends_at = monotonic() + ROUND_S  # the loop's clock tells whole milliseconds
        try:
            while self._waiting and monotonic() < ends_at:
                self._waiting.popleft().go_on()
        finally:
            self._schedule()


class Member(Protocol):
    """A connection of any kind, as its listener sees it."""

    def shut_down(self, code: int, reason: str) -> None:
        """End politely; the close code is for those that have one."""
        ...

    def give_way(self) -> None:
        """End now: others wait (`Lobby`)."""
        ...

    def abort(self) -> None:
        """End now."""
        ...


class Members:
    """The connections that there are, oldest first. A connection is a member until `connection_lost`."""

    def __init__(self) -> None:
        self._members: dict[Member, None] = {}
        self._gone = asyncio.Event()
        self._gone.set()

    def add(self, member: Member) -> None:
        self._members[member] = None
        self._gone.clear()

    def remove(self, member: Member) -> None:
        del self._members[member]
        if not self._members:
            self._gone.set()

    def all(self) -> list[Member]:
        """A copy: ending a connection may change what there is."""
        return list(self._members)

    async def wait_gone(self) -> None:
        await self._gone.wait()


@dataclass(frozen=True, slots=True)
class Shared:
    """What a listener lends to each of its connections."""

    loop: asyncio.AbstractEventLoop
    sink: Sink
    options: TransportOptions
    on_error: Callable[[Exception], None]
    """Told of each exception that the sink raised."""
    flusher: Flusher
    rounds: Rounds
    lobby: Lobby
    sockets: Sockets
    entrance: Entrance | None = None
    members: Members = field(default_factory=Members)
    counters: TransportCounters = field(default_factory=TransportCounters)

    @classmethod
    def of(
        cls,
        sink: Sink,
        options: TransportOptions,
        on_error: Callable[[Exception], None],
        entrance: Entrance | None = None,
    ) -> Shared:
        """For one server, on the loop that runs."""
        loop = asyncio.get_running_loop()
        lobby = Lobby(options.unverified_max, options.unverified_bytes_max)
        sockets = Sockets(options.sockets_max, options.sockets_per_address_max, options.proxies)
        return cls(loop, sink, options, on_error, Flusher(loop), Rounds(loop), lobby, sockets, entrance)
