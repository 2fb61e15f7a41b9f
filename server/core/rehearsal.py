"""What is done with a copy of a document, away from where it is served: a large push tried, values read.

Functions of what is stored. Whoever calls them does so where it does no harm if they take long, or die of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from crdt.errors import BadUpdate, PeerError, ReplicaBroken
from crdt.protocol.codes import Code
from crdt.replica import Replica
from crdt.update import read_state_vector, read_update, write_state_vector
from server.core.inspector import NOBODY, Inspector
from server.core.records import StoredDocument

APPLY_S_MAX = 0.25
"""CPU seconds that one update may take to apply: the loop of the server waits as long when it is applied for good."""

Clock = Callable[[], float]
"""CPU seconds used so far, from any origin."""


def rehearse(stored: StoredDocument, updates: Sequence[bytes], clock: Clock) -> tuple[int, PeerError | None]:
    """Apply updates to what is stored: how many of them do no harm, and what is wrong with the one after them.

    Raises ReplicaBroken where it is the document that can not be loaded.
    """
    replica, inspector = Replica.load(stored.state_updates()), Inspector(stored)
    for tried, update in enumerate(updates):
        try:
            _apply(replica, inspector, update, clock)
        except PeerError as exc:
            return tried, exc
    return len(updates), None


def packed_inspector(stored: StoredDocument) -> bytes:
    """What the check knows of a document."""
    return Inspector(stored).pack()


def document_digest(stored: StoredDocument) -> bytes:
    """The digest that an AUDIT is compared with. Raises ReplicaBroken, BadUpdate."""
    return Replica.load(stored.state_updates()).digest()


def _apply(replica: Replica, inspector: Inspector, update: bytes, clock: Clock) -> None:
    """Raises PeerError."""
    parsed, known = read_update(update, bounded=True), replica.state_vector()
    if (missing := parsed.missing(known)) is not None:
        message = f"client {missing.client} is unknown at {missing.clock}"
        raise PeerError(Code.MISSING_DEPS, message, sv=write_state_vector(known))
    inspector.admit(parsed, known, NOBODY, unclear=[])  # whose client ids they are is seen when the push is admitted
    parsed.advance(known)
    started_s = clock()
    try:
        state_vector = replica.apply((update,))
        took_s = clock() - started_s
        fits = read_state_vector(state_vector) == known
    except ReplicaBroken as exc:
        raise BadUpdate("malformed", "the update can not be integrated") from exc
    if not fits:
        raise BadUpdate("malformed", "the update does not make the state vector that it says")
    if took_s > APPLY_S_MAX:
        raise PeerError(Code.TOO_EXPENSIVE, f"the update takes {took_s:.2f} s to apply")
