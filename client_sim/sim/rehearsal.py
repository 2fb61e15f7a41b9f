"""What a worker process of the server does with a large push, here on the spot."""

from __future__ import annotations

from collections.abc import Sequence

from crdt.errors import BadUpdate, PeerError, ReplicaBroken
from crdt.protocol.codes import Code
from crdt.replica import Replica
from crdt.update import read_update, write_state_vector
from server.core.inspector import NOBODY, Inspector
from server.core.records import StoredDocument


def rehearse(stored: StoredDocument, updates: Sequence[bytes]) -> tuple[int, PeerError | None]:
    """How many of the updates fit a copy of the document, and what is wrong with the one after them."""
    replica, inspector = Replica.load(stored.state_updates()), Inspector(stored)
    for tried, data in enumerate(updates):
        try:
            known, update = replica.state_vector(), read_update(data)
            if (missing := update.missing(known)) is not None:
                message = f"client {missing.client} is unknown at {missing.clock}"
                raise PeerError(Code.MISSING_DEPS, message, sv=write_state_vector(known))
            inspector.admit(update, known, NOBODY)
            replica.apply((data,))
        except ReplicaBroken:
            return tried, BadUpdate("malformed", "the update can not be integrated")
        except PeerError as exc:
            return tried, exc
    return len(updates), None
