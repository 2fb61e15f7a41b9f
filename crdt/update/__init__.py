"""Reading Yjs v1 updates and state vectors without applying them.

The format is that of Yjs 13 (lib0 encoding): per client a run of structs with consecutive clocks, then the delete set.
Clocks count UTF-16 code units, list elements and map values alike. A *state vector* is `{client: clock}`, where `clock`
is the first one that is missing.
"""

from __future__ import annotations

from crdt.update.decoder import DEPTH_MAX
from crdt.update.fitting import fitting, reach
from crdt.update.keystrokes import Typed, needs_of, read_typed, take_deleted, take_keystrokes, take_typed
from crdt.update.layout import NESTING_MAX, RANGES_MAX, STEPS_SMALL, Layout
from crdt.update.model import (
    CLIENT_MAX,
    CLOCK_MAX,
    Content,
    DeleteRange,
    Id,
    StateVector,
    Struct,
    Update,
)
from crdt.update.parts import parts, parts_in_turns
from crdt.update.reader import (
    STRUCTS_MAX,
    continuation,
    read_state_vector,
    read_update,
    write_state_vector,
)
from crdt.update.redo import without_right_origins
from crdt.update.roots import RootKind, root_kinds

__all__ = [
    "CLIENT_MAX",
    "CLOCK_MAX",
    "DEPTH_MAX",
    "EMPTY_STATE_VECTOR",
    "EMPTY_UPDATE",
    "NESTING_MAX",
    "RANGES_MAX",
    "STEPS_SMALL",
    "STRUCTS_MAX",
    "Content",
    "DeleteRange",
    "Id",
    "Layout",
    "RootKind",
    "StateVector",
    "Struct",
    "Typed",
    "Update",
    "continuation",
    "fitting",
    "needs_of",
    "parts",
    "parts_in_turns",
    "reach",
    "read_state_vector",
    "read_typed",
    "read_update",
    "root_kinds",
    "take_deleted",
    "take_keystrokes",
    "take_typed",
    "without_right_origins",
    "write_state_vector",
]

EMPTY_UPDATE = b"\x00\x00"
EMPTY_STATE_VECTOR = b"\x00"
