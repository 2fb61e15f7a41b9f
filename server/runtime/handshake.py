"""The first bytes of a connection: gathers one request head, and decides who serves the connection from then on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Any, Final, cast
from urllib.parse import parse_qsl

from websockets.http11 import Request
from websockets.protocol import State

from crdt.protocol.frames import PATH
from server.runtime.connection import Connection
from server.runtime.lobby import peer_address
from server.runtime.transport import Shared, TransportCounters
from server.runtime.upgrade import plain_upgrade
from server.runtime.wire import bearer_token, hardened, offered_token, refusal, server_protocol

_HEAD_END: Final = b"\r\n\r\n"
SECRETS: Final = ("token", "access_token")
_RETRY_SPREAD_S: Final = 20
"""Who is turned away comes back after 1 s to so many more: not all at once."""


class Handshake(asyncio.Protocol):
    """Hands the transport to a `Connection` or, for any path but ours, with all bytes to an HTTP protocol.

    It is in the lobby from the moment that the kernel's connection is accepted, so while TLS is negotiated too.
    """

    def __init__(self, shared: Shared, http_protocol: Callable[[str], asyncio.Protocol]) -> None:
        self._shared = shared
        self._http_protocol = http_protocol
        self._timer: asyncio.TimerHandle | None = None
        """From the moment that there is a transport."""
        self._received = bytearray()

    def begin(self, peername: Any, connecting: Coroutine[Any, Any, None]) -> None:
        """Wait for `connecting`, which gives this protocol its transport, or raises OSError."""
        self._address = peer_address(peername)
        self._shared.members.add(self)
        self._shared.counters.connections_accepted += 1
        self._connecting = self._shared.loop.create_task(connecting)
        self._connecting.add_done_callback(self._connected)
        self._shared.lobby.enter(self, self._address)

    # --- what the event loop tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's classes do not derive from it
        self._timer = self._shared.loop.call_later(self._shared.options.open_timeout_s, self._time_out)

    def data_received(self, data: bytes) -> None:
        if self._transport.is_closing():
            return
        searched = max(0, len(self._received) - len(_HEAD_END) + 1)
        self._received += data
        end = self._received.find(_HEAD_END, searched)
        head_bytes = len(self._received) if end < 0 else end + len(_HEAD_END)
        if not self._received[:1].isalpha():
            self._refuse(HTTPStatus.BAD_REQUEST, "This is not HTTP. Is it TLS, where none is spoken?\n")
        elif head_bytes > self._shared.options.head_bytes_max:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "The request head is too large.\n")
        elif end >= 0:
            self._route(head_bytes)
        elif not self._shared.lobby.holds(self, head_bytes):
            self._turn_away()

    def connection_lost(self, exc: Exception | None) -> None:
        self._leave()

    # --- what the listener and the lobby tell

    def shut_down(self, code: int, reason: str) -> None:
        self.abort()

    def give_way(self) -> None:
        self._shared.counters.crowded_out += 1
        self.abort()

    def abort(self) -> None:
        if self._timer is None:
            self._connecting.cancel()
        else:
            self._transport.abort()

    # --- deciding

    def _connected(self, connecting: asyncio.Task[None]) -> None:
        if connecting.cancelled():
            self._leave()
        elif (error := connecting.exception()) is not None:
            assert isinstance(error, OSError), error
            self._shared.counters.handshakes_refused += 1  # it spoke no TLS, or was too slow
            self._leave()

    def _route(self, head_bytes: int) -> None:
        head, rest = bytes(self._received[:head_bytes]), bytes(self._received[head_bytes:])
        path, query = _target(head)
        entrance = self._shared.entrance
        is_visit = entrance is not None and entrance.takes(path)
        may_have_token = is_visit and entrance is not None and entrance.may_have_token(path)
        if not may_have_token and secrets(query):
            self._refuse(HTTPStatus.BAD_REQUEST, "A token does not belong in a URL: others log those. Use a header.\n")
        elif path != PATH and not is_visit:
            self._serve_http(head + rest)
        elif not self._shared.sockets.has_room(self._address):
            self._turn_away()
        elif is_visit:
            self._ask_library(head, rest, path, query)
        else:
            self._upgrade(head, rest)

    def _serve_http(self, received: bytes) -> None:
        protocol = self._http_protocol(self._address)
        self._shared.lobby.leave(self)
        self._transport.set_protocol(protocol)
        protocol.connection_made(self._transport)
        self._leave()
        protocol.data_received(received)

    def _upgrade(self, head: bytes, rest: bytes) -> None:
        """`rest` waits until the answer is written: the protocol would take frames, and answer pings, before it."""
        if answer := plain_upgrade(head):
            self._accept(answer, None, head, rest)
        else:
            self._ask_library(head, rest)

    def _ask_library(self, head: bytes, rest: bytes, path: str = PATH, query: str = "") -> None:
        protocol = server_protocol(self._shared.options, yjs=path != PATH)
        protocol.receive_data(head)
        token: str | None = None
        for request in protocol.events_received():
            assert isinstance(request, Request)
            token = bearer_token(request)
            if path != PATH:
                token = token or offered_token(request) or next(iter(secrets(query)), None)
            protocol.send_response(hardened(protocol.accept(request)))
        answer = b"".join(protocol.data_to_send())
        if protocol.state is State.OPEN:
            self._accept(answer, token, head, rest, path)
        else:
            self._hang_up(answer or refusal(HTTPStatus.BAD_REQUEST, "This is no valid HTTP request.\n"))

    def _accept(self, answer: bytes, token: str | None, head: bytes, rest: bytes, path: str = PATH) -> None:
        self._shared.counters.bytes_received += len(head)
        self._shared.lobby.leave(self)
        if path == PATH or self._shared.entrance is None:
            connection = Connection(self._shared, self._transport, self._address)
        else:
            connection = self._shared.entrance.connection(path, self._shared, self._transport, self._address)
        self._leave()
        connection.open(answer, token)
        if rest:
            connection.data_received(rest)

    def _time_out(self) -> None:
        self._refuse(HTTPStatus.REQUEST_TIMEOUT, "No whole request came in time.\n")

    def _turn_away(self) -> None:
        after_s = retry_after_s(self._shared.counters)
        self._hang_up(refusal(HTTPStatus.SERVICE_UNAVAILABLE, "There is no room now.\n", after_s))

    def _refuse(self, status: HTTPStatus, text: str) -> None:
        self._hang_up(refusal(status, text))

    def _hang_up(self, answer: bytes) -> None:
        """Close, and if the answer can not be delivered, cut."""
        self._shared.counters.handshakes_refused += 1
        self._received.clear()
        self._stop_timer()
        self._timer = self._shared.loop.call_later(self._shared.options.close_timeout_s, self.abort)
        self._transport.write(answer)
        self._transport.close()

    def _leave(self) -> None:
        self._stop_timer()
        self._shared.lobby.leave(self)
        self._shared.members.remove(self)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()


def retry_after_s(counters: TransportCounters) -> int:
    """When somebody whom there is no room for comes back."""
    return 1 + (counters.connections_accepted + counters.handshakes_refused) % _RETRY_SPREAD_S


def _target(head: bytes) -> tuple[str, str]:
    """The path and the query of a request line. What is no request line has none; HTTP answers it."""
    match head.partition(b"\r\n")[0].split(b" "):
        case [_, target, _]:
            path, _, query = target.decode("latin-1").partition("?")
            return path, query
        case _:
            return "", ""


def secrets(query: str) -> list[str]:
    """The tokens in a query."""
    if not query:
        return []
    return [value for name, value in parse_qsl(query, keep_blank_values=True) if name.lower() in SECRETS]
