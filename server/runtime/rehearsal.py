"""What a worker process does with a copy of a document, of which it may die: on the clock of its own CPU."""

from __future__ import annotations

import time
from collections.abc import Sequence

from crdt.errors import PeerError
from crdt.values import canonical_json, values_of
from server.core import rehearsal
from server.core.records import StoredDocument
from server.core.rehearsal import document_digest, packed_inspector

__all__ = ["REHEARSAL_S_MAX", "document_digest", "json_roots", "packed_inspector", "rehearse"]

REHEARSAL_S_MAX = 20.0
"""The whole of it, on the clock; a worker that takes longer is killed."""


def rehearse(stored: StoredDocument, updates: Sequence[bytes]) -> tuple[int, PeerError | None]:
    """`server.core.rehearsal.rehearse`, with what this process's CPU takes. Raises ReplicaBroken."""
    return rehearsal.rehearse(stored, updates, time.process_time)


def json_roots(state: bytes) -> dict[str, bytes]:
    """The JSON of each root of a document, of which this is the whole. Raises BadUpdate, ReplicaBroken."""
    return {name: canonical_json(value) for name, value in values_of(state).items()}
