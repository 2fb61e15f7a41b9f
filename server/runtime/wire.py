"""Our use of the WebSocket protocol: what is negotiated, and how a message becomes a frame."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from http import HTTPStatus
from typing import Final

from websockets.exceptions import NegotiationError
from websockets.frames import apply_mask  # type: ignore[attr-defined]  # the one in C where there is one
from websockets.http11 import Request, Response
from websockets.server import ServerProtocol
from websockets.typing import Origin, Subprotocol

from crdt.protocol.frames import SUBPROTOCOL
from server.runtime.transport import TransportOptions

ANY_ORIGIN: Final = "*"
YJS_SUBPROTOCOL: Final = "syncline.yjs"
TOKEN_SUBPROTOCOL: Final = "syncline.token."
"""Before a token, among the subprotocols that a Yjs client offers beside `YJS_SUBPROTOCOL`."""
SHORT_BYTES: Final = 125
"""A frame with more says its length in further bytes (RFC 6455, 5.2)."""
SECURITY_HEADERS: Final = (("Cache-Control", "no-store"), ("X-Content-Type-Options", "nosniff"))
"""For whatever is answered to plain HTTP."""

# At debug level the library logs heads and payloads, that is tokens and what people wrote.
_logger = logging.getLogger("syncline.websocket")
_logger.setLevel(logging.WARNING)


def encode_message(payload: bytes) -> bytes:
    """One binary message as one frame (RFC 6455, 5.2). Server frames are unmasked: one fits every receiver."""
    length = len(payload)
    if length < 126:
        return bytes((0x82, length)) + payload
    if length < 1 << 16:
        return b"\x82\x7e" + length.to_bytes(2, "big") + payload
    return b"\x82\x7f" + length.to_bytes(8, "big") + payload


def encode_fragment(payload: bytes, *, is_first: bool, is_last: bool) -> bytes:
    """A part of a binary message as a frame. No other message may come between it and the last."""
    head = (0x80 if is_last else 0) | (0x02 if is_first else 0)
    return bytes((head,)) + encode_message(payload)[1:]


def short_messages(data: bytes, at: int, count_max: int, bytes_max: int) -> tuple[list[bytes], int]:
    """The binary messages of less than 64 KiB that begin at `at`, each whole and in one frame; and where they end.

    All that devices send is like this but for large documents, and takes a sixth to an eighth of the library's time.
    """
    messages: list[bytes] = []
    while len(messages) < count_max and data[at : at + 1] == _BINARY_WHOLE:
        length, begin = data[at + 1] - _MASKED if at + 1 < len(data) else -1, at + 6
        if length == _TWO_BYTES:
            length, begin = int.from_bytes(data[at + 2 : at + 4], "big"), at + 8
            if length <= SHORT_BYTES:
                break  # one byte would have been enough
        elif length > SHORT_BYTES:
            break
        end = begin + length
        if not 0 <= length <= bytes_max or end > len(data):
            break
        messages.append(apply_mask(data[begin:end], data[begin - 4 : begin]))
        at = end
    return messages, at


def frame_bytes(data: bytes, at: int) -> int:
    """How many bytes the client's frame has that begins at `at`, with its head; 0 if too little of that is there."""
    head = data[at : at + 10]
    if len(head) < 2:
        return 0
    length, length_end = head[1] & ~_MASKED, 2
    if length > SHORT_BYTES:
        length_end = 4 if length == _TWO_BYTES else 10
        if len(head) < length_end:
            return 0
        length = int.from_bytes(head[2:length_end], "big")
    return length_end + 4 + length


_BINARY_WHOLE: Final = b"\x82"
_MASKED: Final = 0x80
_TWO_BYTES: Final = SHORT_BYTES + 1
"""In place of a length: it stands in the next two bytes."""


def server_protocol(options: TransportOptions, *, yjs: bool = False) -> ServerProtocol:
    """A protocol that waits for a request head. It has no extensions: compression costs 30 KiB for an idle device.

    `yjs`: for a client of y-websocket or Hocuspocus, which may offer any subprotocols.
    """
    select = _select_yjs if yjs else _select_subprotocol
    return ServerProtocol(
        origins=None if ANY_ORIGIN in options.origins else [*map(Origin, options.origins), None],
        subprotocols=[Subprotocol(YJS_SUBPROTOCOL if yjs else SUBPROTOCOL)],
        select_subprotocol=lambda protocol, offered: select(protocol, offered),  # bound: a compiled function can not be
        max_size=options.hello_bytes_max,
        logger=_logger,
    )


def hardened(response: Response) -> Response:
    """The same with `SECURITY_HEADERS`, if it is an answer to plain HTTP."""
    if response.status_code != HTTPStatus.SWITCHING_PROTOCOLS:
        for name, value in SECURITY_HEADERS:
            response.headers[name] = value
    return response


def refusal(status: HTTPStatus, text: str, retry_after_s: int | None = None) -> bytes:
    """An HTTP response that ends its connection."""
    response = hardened(ServerProtocol(logger=_logger).reject(status, text))
    if retry_after_s is not None:
        response.headers["Retry-After"] = str(retry_after_s)
    return response.serialize()


def bearer_token(request: Request) -> str | None:
    """The token of `Authorization: Bearer`. Of two such headers neither counts."""
    match request.headers.get_all("Authorization"):
        case [value]:
            scheme, _, token = value.partition(" ")
            return token.strip() if scheme.lower() == "bearer" else None
        case _:
            return None


def offered_token(request: Request) -> str | None:
    """The token that a browser, which can set no headers, has put among the subprotocols."""
    for value in request.headers.get_all("Sec-WebSocket-Protocol"):
        for offered in value.split(","):
            if offered.strip().startswith(TOKEN_SUBPROTOCOL):
                return offered.strip().removeprefix(TOKEN_SUBPROTOCOL)
    return None


def _select_yjs(protocol: ServerProtocol, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    return Subprotocol(YJS_SUBPROTOCOL) if YJS_SUBPROTOCOL in offered else None


def _select_subprotocol(protocol: ServerProtocol, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    if not offered:
        return None
    if SUBPROTOCOL in offered:
        return Subprotocol(SUBPROTOCOL)
    raise NegotiationError(f"invalid subprotocol; expected {SUBPROTOCOL}")
