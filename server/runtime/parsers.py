"""Lends the library's WebSocket protocol to connections, each for as long as it has begun something.

Between two frames such a protocol knows nothing of its connection. So an idle connection needs none, which saves 3 KiB
for each, and the next one that gets a frame takes one that is spare.
"""

from __future__ import annotations

import logging
from typing import Final

from websockets.frames import CloseCode
from websockets.protocol import State
from websockets.server import ServerProtocol

SPARE_MAX: Final = 64
"""More of them than are at work in one turn of the loop would only lie about."""


class Parser(ServerProtocol):
    """The library's. `too_big` is how it ends a connection over a message that is too long; None: with 1009."""

    too_big: tuple[int, str] | None = None

    def fail(self, code: CloseCode | int, reason: str = "") -> None:
        if code == CloseCode.MESSAGE_TOO_BIG and self.too_big is not None:
            code, reason = self.too_big
        super().fail(code, reason)


_logger = logging.getLogger("syncline.websocket")  # whose level `wire` sets
_spare: list[Parser] = []


def lent_parser(message_bytes_max: int) -> Parser:
    """One that is between two frames of an open connection."""
    parser = _spare.pop() if _spare else Parser(state=State.OPEN, logger=_logger)
    parser.max_message_size, parser.too_big = message_bytes_max, None
    return parser


def takes_back(parser: Parser) -> bool:
    """Whether a parser is free for others: no message is begun, nor the end. It must have been fed whole frames only,
    for what it holds of another would come before the next connection's.
    """
    if parser.current_size is not None or parser.state is not State.OPEN:
        return False
    if len(_spare) < SPARE_MAX:
        _spare.append(parser)
    return True


def drop(parser: Parser) -> None:
    """It is of no use any more, and leaves nothing to the collector."""
    parser.parser.close()  # a generator that holds what holds it
    parser.parser_exc = None


def held_bytes(parser: Parser | None) -> int:
    """What a parser holds of a frame that is not whole."""
    return len(parser.reader.buffer) if parser is not None else 0
