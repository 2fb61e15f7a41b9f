"""The frames in what one read of a socket brought."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from crdt.errors import PeerError
from crdt.limits import Limits
from crdt.protocol.codec import decode_device_frame
from crdt.protocol.frames import DeviceFrame, Push
from server.core.arrivals import TURN_BYTES, TURN_OPS


class Read(NamedTuple):
    """A frame, or what is wrong with it; its bytes; of how many messages it was made."""

    frame: DeviceFrame | PeerError | None
    size: int
    messages: int = 1


def frames_in(messages: Sequence[bytes], limits: Limits) -> list[Read]:
    """The frames of these messages, in order; None for those that this version may ignore.

    PUSHes of which each goes on where the one before ended are one: a device that types sends many in one packet. They
    stay apart where together they would not fit a turn, for then they would be rehearsed.
    """
    found: list[Read] = []
    for data in messages:
        try:
            found.append(Read(decode_device_frame(data, limits), len(data)))
        except PeerError as exc:
            found.append(Read(exc, len(data)))
    return found if len(found) < 2 else _joined(found)


def _joined(found: list[Read]) -> list[Read]:
    joined: list[Read] = []
    at = 0
    while at < len(found):
        first, (frame, size, _) = at, found[at]
        at += 1
        if type(frame) is Push and frame.updates:
            updates = list(frame.updates)
            update_bytes = sum(map(len, updates))
            while at < len(found) and (more := _continued(frame, len(updates), found[at].frame)):
                update_bytes += sum(map(len, more))
                if update_bytes > TURN_BYTES or len(updates) + len(more) > TURN_OPS:
                    break
                updates += more
                size += found[at].size
                at += 1
            frame = Push(frame.handle, frame.first_op, tuple(updates), frame.heal)
        joined.append(Read(frame, size, at - first))
    return joined


def _continued(push: Push, count: int, frame: DeviceFrame | PeerError | None) -> tuple[bytes, ...]:
    """The updates of a frame that goes on where `push` ends, which has `count` by now; none of any other."""
    if type(frame) is not Push or (frame.handle, frame.heal) != (push.handle, push.heal):
        return ()
    return frame.updates if frame.first_op == push.first_op + count else ()
