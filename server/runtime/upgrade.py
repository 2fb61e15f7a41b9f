"""Answers the upgrade as devices ask for it, in a fifth of the library's time: after a restart all of them ask at once.

Whatever is not exactly that, browsers and bad requests included, is left to the library to judge.
"""

from __future__ import annotations

import re
from typing import Final

from websockets.utils import accept_key

from crdt.protocol.frames import PATH, SUBPROTOCOL

_REQUEST_LINE: Final = f"GET {PATH} HTTP/1.1".encode()
_FIELD: Final = re.compile(rb"([A-Za-z-]+): ([!-~](?:[ -~]*[!-~])?)")
_MUST_SAY: Final = {
    b"upgrade": b"websocket",
    b"connection": b"upgrade",
    b"sec-websocket-version": b"13",
}
_SUBPROTOCOL_FIELD: Final = b"sec-websocket-protocol"
_KEY_FIELD: Final = b"sec-websocket-key"
_KEY: Final = re.compile(rb"[A-Za-z0-9+/]{22}==")
_MAY_BE_THERE: Final = frozenset(
    {
        *_MUST_SAY,
        _SUBPROTOCOL_FIELD,
        _KEY_FIELD,
        b"host",
        b"user-agent",
        b"sec-websocket-extensions",
        b"accept",
        b"cache-control",
        b"pragma",
    }
)
"""None of the others changes the answer; what is not here may."""

_ANSWER: Final = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: %b\r\nSec-WebSocket-Protocol: " + SUBPROTOCOL.encode() + b"\r\n\r\n"
)


def plain_upgrade(head: bytes) -> bytes | None:
    """The answer that accepts a request, of which this is the whole head; None if the library has to look at it."""
    request_line, *lines = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
    if request_line != _REQUEST_LINE:
        return None
    fields: dict[bytes, bytes] = {}
    for line in lines:
        field = _FIELD.fullmatch(line)
        if field is None:
            return None
        fields[field[1].lower()] = field[2]
    key = fields.get(_KEY_FIELD, b"")
    is_plain = len(fields) == len(lines) and fields.keys() <= _MAY_BE_THERE
    if not (is_plain and _KEY.fullmatch(key) and fields.get(_SUBPROTOCOL_FIELD) == SUBPROTOCOL.encode()):
        return None
    if any(fields.get(name, b"").lower() != said for name, said in _MUST_SAY.items()):
        return None
    return _ANSWER % accept_key(key.decode()).encode()
