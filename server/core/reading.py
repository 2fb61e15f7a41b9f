"""The frames in what one read of a socket brought."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from crdt.errors import PeerError
from crdt.limits import Limits
from crdt.protocol.codec import decode_device_frame
from crdt.protocol.frames import DeviceFrame, Push
from server.core.arrivals import TURN_BYTES, TURN_OPS

Read: TypeAlias = tuple[DeviceFrame | PeerError, int]
"""A frame, or what is wrong with it; and its bytes."""


def frames_in(messages: Sequence[bytes], limits: Limits) -> list[Read]:
    """The frames of these messages, in order; those that this version may ignore are left out.

    PUSHes of which each goes on where the one before ended are one: a device that types sends many in one packet. They
    stay apart where together they would not fit a turn, for then they would be rehearsed.
    """
    found: list[Read] = []
    for data in messages:
        try:
            frame = decode_device_frame(data, limits)
        except PeerError as exc:
            found.append((exc, len(data)))
        else:
            if frame is not None:
                found.append((frame, len(data)))
    return found if len(found) < 2 else _joined(found)


def _joined(found: list[Read]) -> list[Read]:
    joined: list[Read] = []
    at = 0
    while at < len(found):
        frame, size = found[at]
        at += 1
        if type(frame) is Push and frame.updates:
            updates = list(frame.updates)
            update_bytes = sum(map(len, updates))
            while at < len(found) and (more := _push_at(found[at][0], frame.handle, frame.first_op + len(updates))):
                update_bytes += sum(map(len, more))
                if update_bytes > TURN_BYTES or len(updates) + len(more) > TURN_OPS:
                    break
                updates += more
                size += found[at][1]
                at += 1
            frame = Push(frame.handle, frame.first_op, tuple(updates), frame.heal)
        joined.append((frame, size))
    return joined


def _push_at(frame: DeviceFrame | PeerError, handle: int, first_op: int) -> tuple[bytes, ...]:
    """The updates of a PUSH that begins there; none if it is anything else."""
    if type(frame) is Push and frame.first_op == first_op and frame.handle == handle:
        return frame.updates
    return ()
