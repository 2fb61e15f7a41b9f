"""What is too much for one op is sent as several, each of which a server takes."""

from __future__ import annotations

from crdt.errors import BadUpdate
from crdt.update import STRUCTS_MAX, parts_in_turns, read_state_vector, read_update

PART_STRUCTS = STRUCTS_MAX // 2


def within_bounds(update: bytes, server_sv: bytes, bytes_max: int) -> list[bytes]:
    """An update for a document at `server_sv`, or several in its place, in order, of at most `bytes_max` each.

    One struct that is longer is left as it is: nobody could say half of it. Raises BadUpdate.
    """
    if len(update) <= bytes_max and is_bounded(update):
        return [update]
    parts = parts_in_turns(update, read_state_vector(server_sv), PART_STRUCTS, bytes_max * 3 // 4)
    return [part for part in parts if part is not None]


def is_bounded(update: bytes) -> bool:
    """False if there is more in it than a server takes at once, or a gap."""
    try:
        read_update(update, bounded=True)
    except BadUpdate:
        return False
    return True
