"""Our use of the WebSocket protocol: what is negotiated, and how a message becomes a frame."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from websockets.exceptions import NegotiationError
from websockets.http11 import Request
from websockets.server import ServerProtocol
from websockets.typing import Origin, Subprotocol

from crdt.protocol.frames import SUBPROTOCOL
from server.runtime.transport import TransportOptions

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
    origins = None if options.origins is None else [*map(Origin, options.origins), None]
    return ServerProtocol(
        origins=origins,
        subprotocols=[Subprotocol(SUBPROTOCOL)],
        select_subprotocol=_select_subprotocol,
        max_size=options.hello_bytes_max,
        logger=_logger,
    )


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
