"""What a damaged store leaves, made into what a new one begins with.

Nothing is trusted to be complete. So no cursor is kept, which would say that the cache is whole, and no op number: it
would say that the outbox is, and which of its entries the server has. To the server the device is as one that was
installed anew under the same name. It adopts the server's count of its ops, which starts from what is acknowledged;
updates are idempotent, and what the server has already leaves the outbox when its whole state is in
(`LocalCopy.start_over`). If an op that was on its way arrives after that, hashes differ at the next one, and the device
takes another name, as any that has a clone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from client_sim.core.ports import DeviceStore, Identity, Keeping, OutboxEntry, Progress, Salvage, StoredDocument
from client_sim.core.reasons import OWNER_UNKNOWN
from crdt.errors import BadUpdate, ReplicaBroken
from crdt.replica import Replica
from crdt.update import StateVector, read_update


@dataclass(frozen=True, slots=True)
class Remains:
    """What could be read, document by document, in order."""

    identity: Identity | None = None
    documents: Mapping[str, StoredDocument] = field(default_factory=dict)
    aside: Mapping[str, tuple[bytes, ...]] = field(default_factory=dict)
    keepings: Mapping[str, Keeping] = field(default_factory=dict)
    lost: tuple[str, ...] = ()


def restore(remains: Remains, store: DeviceStore, damage: str, kept_as: str) -> Salvage:
    """Let a new, empty store begin with what remains of another, in one transaction. Raises StoreError."""
    is_owned = remains.identity is not None
    edits = aside = 0
    with store.transaction():
        if remains.identity is not None:
            store.save_identity(remains.identity)
        for name, stored in remains.documents.items():
            entries, unusable = _sorted_out(stored.outbox)
            _restore_document(store, name, stored, entries, is_owned=is_owned)
            store.put_aside(name, [*remains.aside.get(name, ()), *unusable])
            edits, aside = edits + len(entries), aside + len(unusable)
        for name, updates in remains.aside.items():
            aside += len(updates)
            if name not in remains.documents:
                store.put_aside(name, updates)
        for name, keeping in remains.keepings.items():
            store.save_keeping(name, keeping._replace(as_of=None))
    return Salvage(damage, kept_as, is_owned, len(remains.documents), edits, aside, remains.lost)


def _restore_document(
    store: DeviceStore, name: str, stored: StoredDocument, entries: list[OutboxEntry], *, is_owned: bool
) -> None:
    """Another user may be logged in by now: without an owner no cache is kept, and edits wait for the app's word."""
    held = OWNER_UNKNOWN if entries and not is_owned else None
    store.save_progress(name, Progress(held=held, salvaged=True))
    if is_owned and (state := _readable_state(stored)) is not None:
        store.replace_state(name, state)
    store.save_outbox(name, entries)


def _sorted_out(outbox: Iterable[OutboxEntry]) -> tuple[list[OutboxEntry], list[bytes]]:
    """The entries that can be sent, without their numbers, and the bytes of those that are no updates.

    Of one place there may be two, an older and a later one: they get places of their own.
    """
    usable, unusable = [], []
    for position, entry in enumerate(outbox, 1):
        try:
            read_update(entry.update)
        except BadUpdate:
            unusable.append(entry.update)
        else:
            usable.append(replace(entry, position=position, number=None))
    return usable, unusable


def _readable_state(stored: StoredDocument) -> bytes | None:
    """The replica that the readable part of a cache makes; None if there is none."""
    state = [] if stored.state is None else [stored.state]
    fitting = list(_fitting([*state, *stored.updates]))
    try:
        return Replica.load(fitting).state() if fitting else None
    except ReplicaBroken:
        return None


def _fitting(updates: Iterable[bytes]) -> Iterable[bytes]:
    """Those that build on nothing that is missing."""
    known: StateVector = {}
    for update in updates:
        try:
            read = read_update(update)
        except BadUpdate:
            continue
        if not read.missing(known):
            read.advance(known)
            yield update
