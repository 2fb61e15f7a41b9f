"""Whose a store is: a device's, and a user's once a server has said it. All of it survives restarts."""

from __future__ import annotations

from client_sim.core import naming
from client_sim.core.ports import DeviceStore, Identity, Randomness, StoreRefused


def claim(store: DeviceStore, name: str) -> Identity:
    """Who the store's device is; a new store's is called `name`. Raises StoreError, StoreRefused and StoreDamaged."""
    identity = store.identity()
    if identity is None:
        identity = Identity(name, None)
        with store.transaction():
            store.save_identity(identity)
    if not naming.is_same_device(name, identity.device):
        raise StoreRefused(f"this store belongs to the device {identity.device!r}, not to {name!r}")
    return identity


def rename(store: DeviceStore, identity: Identity, rng: Randomness) -> str:
    """Another name, for all documents, under which no op was made yet. Raises StoreError."""
    device = naming.renamed(identity.device, rng.getrandbits(naming.SUFFIX_BITS))
    with store.transaction():
        store.change_identity(identity._replace(device=device))
    return device


def adopt(store: DeviceStore, identity: Identity) -> None:
    """The server has said whose device it is. Raises StoreError."""
    with store.transaction():
        store.save_identity(identity)
