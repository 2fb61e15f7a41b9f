"""What a room may wait for, and what it says when it can not go on."""

from __future__ import annotations

from enum import Enum, StrEnum
from typing import TypeAlias

from crdt.protocol.codes import Code

Refusal: TypeAlias = tuple[Code, str]
READ_ONLY: Refusal = (Code.FORBIDDEN, "the document is read-only for you")
NOT_SAVED: Refusal = (Code.NOT_SAVED, "the storage failed: send it again")
QUARANTINED: Refusal = (Code.DOC_QUARANTINED, "the document can not be loaded")

FAILED_LOADS_MAX = 2
"""A document that fails to load so often is quarantined: it is not its moment, it is what is stored."""


class Phase(StrEnum):
    """What the room waits for from storage, if anything."""

    READY = "ready"
    LOADING = "loading"
    BEGINNING_EPOCH = "beginning_epoch"


class Recovery(Enum):
    """What becomes of ops that were queued or in flight when the replica was dropped, and are not in the log."""

    RESEND = "their devices are told to send them again"
    RETRY = "they are checked and queued again"
