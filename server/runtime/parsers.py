"""Lends the library's WebSocket protocol to connections, each for as long as it has begun something.

Between two frames such a protocol knows nothing of its connection. So an idle connection needs none, which saves 3 KiB
for each, and the next one that gets a frame takes one that is spare.
"""

from __future__ import annotations

import logging
from typing import Final

from websockets.protocol import State
from websockets.server import ServerProtocol

SPARE_MAX: Final = 64
"""More of them than are at work in one turn of the loop would only lie about."""

_logger = logging.getLogger("syncline.websocket")  # whose level `wire` sets
_spare: list[ServerProtocol] = []


def lent_parser(message_bytes_max: int) -> ServerProtocol:
    """One that is between two frames of an open connection."""
    parser = _spare.pop() if _spare else ServerProtocol(state=State.OPEN, logger=_logger)
    parser.max_message_size = message_bytes_max
    return parser


def takes_back(parser: ServerProtocol) -> bool:
    """Whether a parser is free for others: no message is begun, nor the end. It must have been fed whole frames only,
    for what it holds of another would come before the next connection's.
    """
    if parser.current_size is not None or parser.state is not State.OPEN:
        return False
    if len(_spare) < SPARE_MAX:
        _spare.append(parser)
    return True
