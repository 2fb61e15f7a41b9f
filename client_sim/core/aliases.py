"""One name for one document: what was opened as `user/name` before the user was known is the user's own `name`."""

from __future__ import annotations

from client_sim.core.copy import LocalCopy
from client_sim.core.ports import DeviceStore, Keeping, OutboxEntry, Progress, StoredDocument

_NO_WRITER = 0
"""The client id of replicas that nobody edits."""


def own_name(name: str, user: str | None) -> str:
    """What the user's own documents are called: without their owner."""
    owner, slash, rest = name.rpartition("/")
    return rest if slash and owner == user else name


def unite(store: DeviceStore, user: str) -> list[str]:
    """Let each document have the one name that it has for `user`; which names are gone.

    Belongs in a transaction. Raises StoreError and StoreDamaged.
    """
    keepings = {holding.document: holding.keeping for holding in store.holdings()}
    known = {**dict.fromkeys(store.documents()), **dict.fromkeys(keepings)}
    former = [name for name in known if own_name(name, user) != name]
    for name in former:
        own = own_name(name, user)
        _move(store, name, own)
        store.save_keeping(own, _kept(keepings.get(name), keepings.get(own)))
        store.evict(name)
    return former


def _move(store: DeviceStore, former: str, own: str) -> None:
    """What is stored under `former`, but for its keeping, goes to `own`, and where there is something, after it."""
    came, there = store.load(former), store.load(own)
    stored = came if there == StoredDocument() else _united(store, former, own)
    store.drop_chunks(own)
    store.save_progress(own, stored.progress)
    if stored.state is not None:
        store.replace_state(own, stored.state)
    store.append_updates(own, stored.updates)
    store.save_outbox(own, stored.outbox)
    store.put_aside(own, store.aside(former))
    if came.outbox:
        store.drop_outbox(former, came.outbox[0].position, came.outbox[-1].position)
    store.drop_aside(former)


def _united(store: DeviceStore, former: str, own: str) -> StoredDocument:
    """Both counted ops of their own: as after damage, only the server's whole state says what it has of them."""
    came, there = LocalCopy(store, former, _NO_WRITER), LocalCopy(store, own, _NO_WRITER)
    there.replica.apply([came.replica.state()])
    waiting = [*there.outbox, *came.outbox]
    first = waiting[0].position if waiting else 1
    outbox = [OutboxEntry(place, entry.update, heal=entry.heal) for place, entry in enumerate(waiting, first)]
    progress = Progress(held=there.progress.held or came.progress.held, salvaged=True)
    return StoredDocument(progress, there.replica.state(), (), tuple(outbox))


def _kept(came: Keeping | None, there: Keeping | None) -> Keeping:
    if came is None or there is None:
        return came or there or Keeping()
    return Keeping(None, max(came.used_at, there.used_at), came.pinned or there.pinned)
