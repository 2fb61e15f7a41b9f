"""What is done with a copy of a document in a worker process, which may die of it: a large push tried, values read."""

from __future__ import annotations

import time
from collections.abc import Sequence

from crdt.errors import BadUpdate, PeerError, ReplicaBroken
from crdt.protocol.codes import Code
from crdt.replica import Replica
from crdt.update import read_update, write_state_vector
from server.core.inspector import NOBODY, Inspector
from server.core.records import StoredDocument

APPLY_S_MAX = 0.25
"""CPU seconds that one update may take to apply: the loop of the server waits as long when it is applied for good."""
REHEARSAL_S_MAX = 20.0
"""The whole of it, on the clock; a worker that takes longer is killed."""


def rehearse(stored: StoredDocument, updates: Sequence[bytes]) -> tuple[int, PeerError | None]:
    """Apply updates to what is stored: how many of them do no harm, and what is wrong with the one after them.

    Raises ReplicaBroken where it is the document that can not be loaded.
    """
    replica, inspector = Replica.load(stored.state_updates()), Inspector(stored)
    for tried, update in enumerate(updates):
        try:
            _apply(replica, inspector, update)
        except PeerError as exc:
            return tried, exc
    return len(updates), None


def packed_inspector(stored: StoredDocument) -> bytes:
    """What the check knows of a document."""
    return Inspector(stored).pack()


def document_digest(stored: StoredDocument) -> bytes:
    """The digest that an AUDIT is compared with. Raises ReplicaBroken, BadUpdate."""
    return Replica.load(stored.state_updates()).digest()


def _apply(replica: Replica, inspector: Inspector, update: bytes) -> None:
    """Raises PeerError."""
    parsed, known = read_update(update, bounded=True), replica.state_vector()
    if (missing := parsed.missing(known)) is not None:
        message = f"client {missing.client} is unknown at {missing.clock}"
        raise PeerError(Code.MISSING_DEPS, message, sv=write_state_vector(known))
    inspector.admit(parsed, known, NOBODY)  # whose client ids they are is seen when the push is admitted
    parsed.advance(known)
    started_s = time.process_time()
    try:
        replica.apply((update,))
        took_s = time.process_time() - started_s
        fits = replica.state_vector() == known
    except ReplicaBroken as exc:
        raise BadUpdate("malformed", "the update can not be integrated") from exc
    if not fits:
        raise BadUpdate("malformed", "the update does not make the state vector that it says")
    if took_s > APPLY_S_MAX:
        raise PeerError(Code.TOO_EXPENSIVE, f"the update takes {took_s:.2f} s to apply")
