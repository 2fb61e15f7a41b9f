"""Whose a store is: a device's, and a user's once a server has said it. All of it survives restarts."""

from __future__ import annotations

from client_sim.core import aliases, naming
from client_sim.core.ports import DeviceStore, Identity, Randomness, StoreDamaged, StoreRefused


def claim(store: DeviceStore, name: str) -> Identity:
    """Who the store's device is; a new store's is called `name`. Raises StoreError, StoreRefused and StoreDamaged."""
    identity = store.identity()
    if identity is None:
        identity = Identity(name, None)
        with store.transaction():
            store.save_identity(identity)
    if not naming.is_same_device(name, identity.device):
        raise StoreRefused(f"this store belongs to the device {identity.device!r}, not to {name!r}")
    if identity.user is not None:
        _unite(store, identity.user)
    return identity


def _unite(store: DeviceStore, user: str) -> None:
    """An earlier version kept documents under two names. Raises StoreError."""
    try:
        with store.transaction():
            aliases.unite(store, user)
    except StoreDamaged as exc:
        store.rebuild(str(exc))
        with store.transaction():
            aliases.unite(store, user)


def rename(store: DeviceStore, identity: Identity, rng: Randomness) -> str:
    """Another name, for all documents, under which no op was made yet. Raises StoreError."""
    device = naming.renamed(identity.device, rng.getrandbits(naming.SUFFIX_BITS))
    with store.transaction():
        store.change_identity(identity._replace(device=device))
    return device


def adopt(store: DeviceStore, device: str, user: str) -> list[str]:
    """The server has said whose device it is; names that documents have no more. Raises StoreError, StoreDamaged."""
    with store.transaction():
        store.save_identity(Identity(device, user))
        return aliases.unite(store, user)
