"""The short way to an upgrade answers as the library does, and takes no request that the library might not."""

from __future__ import annotations

import pytest
from websockets.http11 import Request
from websockets.utils import accept_key

from crdt.protocol.frames import PATH, SUBPROTOCOL
from server.runtime.transport import TransportOptions
from server.runtime.upgrade import plain_upgrade
from server.runtime.wire import server_protocol

PLAIN = [
    f"GET {PATH} HTTP/1.1",
    "Host: localhost:8765",
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits",
    f"Sec-WebSocket-Protocol: {SUBPROTOCOL}",
    "User-Agent: Python/3.11 websockets/17.0",
]


def head_of(lines: list[str]) -> bytes:
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def answer_of_the_library(head: bytes) -> bytes:
    protocol = server_protocol(TransportOptions())
    protocol.receive_data(head)
    for request in protocol.events_received():
        assert isinstance(request, Request)
        protocol.send_response(protocol.accept(request))
    return b"".join(protocol.data_to_send())


def test_it_answers_as_the_library_does_but_for_the_date() -> None:
    head = head_of(PLAIN)
    lines = answer_of_the_library(head).split(b"\r\n")
    assert plain_upgrade(head) == b"\r\n".join(line for line in lines if not line.startswith(b"Date: "))


def test_the_same_head_with_another_key_gets_that_keys_answer() -> None:
    for key in (b"dGhlIHNhbXBsZSBub25jZQ==", b"AAAAAAAAAAAAAAAAAAAAAA=="):
        head = head_of(PLAIN).replace(b"dGhlIHNhbXBsZSBub25jZQ==", key)
        answer = plain_upgrade(head)
        assert answer is not None
        assert accept_key(key.decode()).encode() in answer


@pytest.mark.parametrize("missing", [1, 2, 3, 4, 5, 7])
def test_what_lacks_a_field_is_not_accepted_unless_the_library_accepts_it(missing: int) -> None:
    head = head_of([line for index, line in enumerate(PLAIN) if index != missing])
    if plain_upgrade(head) is not None:
        assert answer_of_the_library(head).startswith(b"HTTP/1.1 101 ")


@pytest.mark.parametrize(
    ("line", "instead"),
    [
        (0, f"POST {PATH} HTTP/1.1"),
        (0, f"GET {PATH} HTTP/1.0"),
        (0, f"GET {PATH}?token=x HTTP/1.1"),
        (0, f"GET  {PATH} HTTP/1.1"),
        (1, "Host: a\nOrigin: https://evil.example"),
        (1, "Host: a\r\n folded"),
        (1, "Host : a"),
        (1, "Host: a\0"),
        (1, "Origin: https://evil.example"),
        (1, "Authorization: Bearer token"),
        (1, "Content-Length: 5"),
        (1, "Transfer-Encoding: chunked"),
        (1, "X-Unheard-Of: yes"),
        (1, "Upgrade: websocket"),
        (2, "Upgrade: h2c, websocket"),
        (2, "Upgrade: "),
        (3, "Connection: close, Upgrade"),
        (4, "Sec-WebSocket-Key: short"),
        (4, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ"),
        (4, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="),
        (5, "Sec-WebSocket-Version: 8"),
        (7, f"Sec-WebSocket-Protocol: chat, {SUBPROTOCOL}"),
        (7, f"Sec-WebSocket-Protocol: {SUBPROTOCOL.upper()}"),
        (8, "no field at all"),
        (8, "User-Agent: \xe9"),
    ],
)
def test_whatever_is_not_plain_is_left_to_the_library(line: int, instead: str) -> None:
    assert plain_upgrade(head_of([*PLAIN[:line], instead, *PLAIN[line + 1 :]])) is None
