"""The first bytes of a connection: gathers one request head, and decides who serves the connection from then on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import cast

from websockets.http11 import Request
from websockets.protocol import State

from crdt.protocol.frames import PATH
from server.runtime.connection import Connection
from server.runtime.transport import Shared
from server.runtime.wire import bearer_token, server_protocol

_HEAD_END = b"\r\n\r\n"


class Handshake(asyncio.Protocol):
    """Hands the transport to a `Connection` or, for any path but ours, with all bytes to an HTTP protocol."""

    def __init__(self, shared: Shared, http_protocol: Callable[[], asyncio.Protocol]) -> None:
        self._shared = shared
        self._http_protocol = http_protocol
        self._received = bytearray()

    # --- what the event loop tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's classes do not derive from it
        self._timer = self._shared.loop.call_later(self._shared.options.open_timeout_s, self._time_out)
        self._shared.members.add(self)
        self._shared.counters.connections_accepted += 1

    def data_received(self, data: bytes) -> None:
        if self._transport.is_closing():
            return
        searched = max(0, len(self._received) - len(_HEAD_END) + 1)
        self._received += data
        end = self._received.find(_HEAD_END, searched)
        head_bytes = len(self._received) if end < 0 else end + len(_HEAD_END)
        if head_bytes > self._shared.options.head_bytes_max:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "The request head is too large.\n")
        elif end >= 0:
            self._route(head_bytes)

    def connection_lost(self, exc: Exception | None) -> None:
        self._leave()

    # --- what the listener tells

    def shut_down(self, code: int, reason: str) -> None:
        self.abort()

    def abort(self) -> None:
        self._transport.abort()

    # --- deciding

    def _route(self, head_bytes: int) -> None:
        self._timer.cancel()
        head, rest = bytes(self._received[:head_bytes]), bytes(self._received[head_bytes:])
        if _path(head) == PATH.encode():
            self._shared.counters.bytes_received += head_bytes
            self._upgrade(head, rest)
        else:
            protocol = self._http_protocol()
            self._transport.set_protocol(protocol)
            protocol.connection_made(self._transport)
            self._leave()
            protocol.data_received(head + rest)

    def _upgrade(self, head: bytes, rest: bytes) -> None:
        """`rest` waits until the answer is written: the protocol would take frames, and answer pings, before it."""
        protocol = server_protocol(self._shared.options)
        protocol.receive_data(head)
        bearer: str | None = None
        for request in protocol.events_received():
            assert isinstance(request, Request)
            bearer = bearer_token(request)
            protocol.send_response(protocol.accept(request))
        if protocol.state is not State.OPEN:
            self._hang_up(protocol.data_to_send())
            return
        connection = Connection(self._shared, protocol, self._transport)
        self._leave()
        connection.open(bearer)
        if rest:
            connection.data_received(rest)

    def _time_out(self) -> None:
        self._refuse(HTTPStatus.REQUEST_TIMEOUT, "No whole request came in time.\n")

    def _refuse(self, status: HTTPStatus, text: str) -> None:
        self._hang_up([server_protocol(self._shared.options).reject(status, text).serialize()])

    def _hang_up(self, answer: list[bytes]) -> None:
        """Close, and if the answer can not be delivered, cut."""
        self._shared.counters.handshakes_refused += 1
        self._timer.cancel()
        self._timer = self._shared.loop.call_later(self._shared.options.close_timeout_s, self.abort)
        self._transport.write(b"".join(answer))
        self._transport.close()

    def _leave(self) -> None:
        self._timer.cancel()
        self._shared.members.remove(self)


def _path(head: bytes) -> bytes:
    """The path of a request line, without a query. What is no request line has none; HTTP answers it."""
    match head.partition(b"\r\n")[0].split(b" "):
        case [_, target, _]:
            return target.partition(b"?")[0]
        case _:
            return b""
