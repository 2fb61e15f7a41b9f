"""What can not be read of a device's store any more."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random

from client_sim.core.ports import StoredDocument
from client_sim.core.salvage import Remains


def loss(rng: Random) -> Callable[[Remains], Remains]:
    """Of each document perhaps the cache, part of its log, or some of the edits; seldom whose it all is; or nothing."""

    def lose(remains: Remains) -> Remains:
        documents = {name: _part(stored, rng) for name, stored in remains.documents.items()}
        identity = None if rng.random() < 0.05 else remains.identity
        return replace(remains, identity=identity, documents=documents, lost=("some of it",))

    return lose


def _part(stored: StoredDocument, rng: Random) -> StoredDocument:
    match rng.randrange(5):
        case 0:
            return replace(stored, state=None, updates=())
        case 1:
            return replace(stored, updates=stored.updates[: rng.randrange(len(stored.updates) + 1)])
        case 2:
            return replace(stored, outbox=tuple(entry for entry in stored.outbox if rng.random() < 0.7))
        case 3:
            return StoredDocument(stored.progress)
        case _:
            return stored
