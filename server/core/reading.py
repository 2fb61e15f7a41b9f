"""The frames in what one read of a socket brought."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from crdt.errors import PeerError
from crdt.limits import Limits
from crdt.protocol.codec import bytes_of, decode_device_frame
from crdt.protocol.frames import DeviceFrame, Push
from server.core.arrivals import TURN_BYTES, TURN_OPS

Read: TypeAlias = tuple[DeviceFrame | PeerError | None, int, int]
"""A frame, or what is wrong with it; its bytes; of how many messages it was made."""


def frames_in(messages: Sequence[bytes], limits: Limits) -> list[Read]:
    """The frames of these messages, in order; None for those that this version may ignore.

    PUSHes of which each goes on where the one before ended are one: a device that types sends many in one packet. They
    stay apart where together they would not fit a turn, for then they would be rehearsed.
    """
    found: list[Read] = []
    for data in messages:
        try:
            found.append((decode_device_frame(data, limits), len(data), 1))
        except PeerError as exc:
            found.append((exc, len(data), 1))
    return found if len(found) < 2 else _joined(found)


def _joined(found: list[Read]) -> list[Read]:
    joined: list[Read] = []
    at = 0
    while at < len(found):
        first, (frame, size, _) = at, found[at]
        at += 1
        if type(frame) is Push and frame.updates:
            handle, first_op, updates, heal = frame
            update_bytes = bytes_of(updates)
            while at < len(found):
                more, more_size, _ = found[at]
                if type(more) is not Push:
                    break
                its_handle, its_op, its_updates, its_heal = more
                if its_op != first_op + len(updates) or its_handle != handle or its_heal is not heal:
                    break
                update_bytes += bytes_of(its_updates)
                if not its_updates or update_bytes > TURN_BYTES or len(updates) + len(its_updates) > TURN_OPS:
                    break
                updates += its_updates
                size += more_size
                at += 1
            if at > first + 1:
                frame = Push(handle, first_op, updates, heal)
        joined.append((frame, size, at - first))
    return joined
