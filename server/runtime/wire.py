"""Our use of the WebSocket protocol: what is negotiated, and how a message becomes a frame."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from http import HTTPStatus
from typing import Final

from websockets.exceptions import NegotiationError
from websockets.http11 import Request, Response
from websockets.server import ServerProtocol
from websockets.typing import Origin, Subprotocol

from crdt.protocol.frames import SUBPROTOCOL
from server.runtime.transport import TransportOptions

ANY_ORIGIN: Final = "*"
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


def server_protocol(options: TransportOptions) -> ServerProtocol:
    """A protocol that waits for a request head. It has no extensions: compression costs 30 KiB for an idle device."""
    return ServerProtocol(
        origins=None if ANY_ORIGIN in options.origins else [*map(Origin, options.origins), None],
        subprotocols=[Subprotocol(SUBPROTOCOL)],
        select_subprotocol=_select_subprotocol,
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


def _select_subprotocol(protocol: ServerProtocol, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    if not offered:
        return None
    if SUBPROTOCOL in offered:
        return Subprotocol(SUBPROTOCOL)
    raise NegotiationError(f"invalid subprotocol; expected {SUBPROTOCOL}")
