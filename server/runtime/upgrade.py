"""Answers the upgrade as devices ask for it, in a fifth of the library's time: after a restart all of them ask at once.

Whatever is not exactly that, browsers and bad requests included, is left to the library to judge.
"""

from __future__ import annotations

import re
from base64 import b64encode
from functools import lru_cache
from hashlib import sha1
from typing import Final

from websockets.utils import GUID

from crdt.protocol.frames import PATH, SUBPROTOCOL

_REQUEST_LINE: Final = f"GET {PATH} HTTP/1.1".encode()
_FIELD: Final = re.compile(rb"([A-Za-z-]+): ([!-~](?:[ -~]*[!-~])?)")
_MUST_SAY: Final = {
    b"upgrade": b"websocket",
    b"connection": b"upgrade",
    b"sec-websocket-version": b"13",
}
_SUBPROTOCOL_FIELD: Final = b"sec-websocket-protocol"
_KEY_LINE: Final = re.compile(rb"\r\n(?i:Sec-WebSocket-Key): ([A-Za-z0-9+/]{22}==)(?=\r\n)")
_GUID: Final = GUID.encode()
_MAY_BE_THERE: Final = frozenset(
    {
        *_MUST_SAY,
        _SUBPROTOCOL_FIELD,
        b"host",
        b"user-agent",
        b"sec-websocket-extensions",
        b"accept",
        b"cache-control",
        b"pragma",
    }
)
"""None of the others changes the answer; what is not here may."""

HEADS_MAX: Final = 64
"""Heads that were looked at last, and are remembered: all devices of a kind send the same one, but for the key."""

_TOKEN_LINE: Final = re.compile(rb"\nauthorization", re.IGNORECASE)
"""A head with a token is none of those, and not to be remembered."""

_ANSWER: Final = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: %b\r\nSec-WebSocket-Protocol: " + SUBPROTOCOL.encode() + b"\r\n\r\n"
)


def plain_upgrade(head: bytes) -> bytes | None:
    """The answer that accepts a request, of which this is the whole head; None if the library has to look at it."""
    match _KEY_LINE.split(head):
        case [before, key, after] if not _TOKEN_LINE.search(before + after) and _is_plain(before + after):
            return _ANSWER % b64encode(sha1(key + _GUID).digest())
        case _:
            return None


@lru_cache(maxsize=HEADS_MAX)
def _is_plain(head: bytes) -> bool:
    """Of a head without its key, which alone is another each time."""
    request_line, *lines = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
    if request_line != _REQUEST_LINE:
        return False
    fields: dict[bytes, bytes] = {}
    for line in lines:
        field = _FIELD.fullmatch(line)
        if field is None:
            return False
        fields[field[1].lower()] = field[2]
    if len(fields) < len(lines) or not fields.keys() <= _MAY_BE_THERE:
        return False
    if fields.get(_SUBPROTOCOL_FIELD) != SUBPROTOCOL.encode():
        return False
    return all(fields.get(name, b"").lower() == said for name, said in _MUST_SAY.items())
