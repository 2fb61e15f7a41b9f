"""What the device needs of the outside: a durable store of its own, randomness, and perhaps a key."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, runtime_checkable

from crdt.chain import OPS_START, OpState
from crdt.protocol.proof import PublicKey


class StoreError(Exception):
    """The store could not do it now: a full disk, a lock. What it held before, it still holds."""


class StoreDamaged(Exception):
    """What the store holds can not be read: trying again does not help, `rebuild` does."""


class StoreRefused(Exception):
    """The store is not for this device or this program: another's, or of a later version. Nothing of it was touched."""


class StoreLocked(StoreRefused):
    """The store is not encrypted with the key that was given, or with none where one was given."""


class Identity(NamedTuple):
    """Whose store it is. `user` is None until a server has said it."""

    device: str
    user: str | None


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a document stands with its server.

    `seq` is None where the replica may lack entries of `epoch` (the cursor is void); both are None before the first
    answer of a server. `acked` counts within `epoch`. `held` says why nothing is sent until the app decides.
    `salvaged`: it comes from a damaged store, so the replica may lack what is in the outbox, and the other way round.
    """

    epoch: bytes | None = None
    seq: int | None = None
    acked: OpState = OPS_START
    held: str | None = None
    salvaged: bool = False


@dataclass(frozen=True, slots=True)
class OutboxEntry:
    """A local edit that no server has acknowledged. `number` is None until it is first framed.

    `number` is the op that it is, with the hash after it. `heal`: it answers a new epoch, or a server set back.
    """

    position: int
    update: bytes
    number: OpState | None = None
    heal: bool = False


class Partial(NamedTuple):
    """The beginning of an answer that comes in chunks: of which payload, and its bytes as they travel."""

    payload_id: bytes
    data: bytes


@dataclass(frozen=True, slots=True)
class StoredDocument:
    """All that the store has of one document: `state` and then `updates`, in order, make the replica."""

    progress: Progress = field(default_factory=Progress)
    state: bytes | None = None
    updates: tuple[bytes, ...] = ()
    outbox: tuple[OutboxEntry, ...] = ()
    partial: Partial | None = None


class Keeping(NamedTuple):
    """Why a document is kept on the device, and how fresh it is. Times are in seconds since 1970, by its own clock.

    `as_of`: all that the server had then is in; None if no server has answered since a clock was known.
    """

    as_of: float | None = None
    used_at: float = 0.0
    pinned: bool = False


class Holding(NamedTuple):
    """What a store has of one document. `cache_bytes` are of state, log and what is on its way.

    `is_only_copy`: it has an outbox, something aside, or waits for the app: no server could give it back.
    """

    document: str
    keeping: Keeping
    cache_bytes: int
    is_only_copy: bool


@dataclass(frozen=True, slots=True)
class Salvage:
    """What became of a damaged store. `kept_as` names the damaged one, which is kept: delete it when it is not needed.

    Cursors and op numbers are never saved: the documents are fetched again. `lost` says in words what could not be
    read. `owner`: it is known whose edits these are; else they wait until the app lets each document go on.
    """

    damage: str
    kept_as: str
    owner: bool
    documents: int
    edits: int
    aside: int
    lost: tuple[str, ...]

    def __str__(self) -> str:
        saved = f"{self.edits} pending edits and {self.aside} put aside, in {self.documents} documents"
        missing = "; ".join(self.lost) or "nothing that could be told"
        return f"{self.damage}. Saved: {saved}. Lost: {missing}. The damaged store is kept as {self.kept_as}"


@runtime_checkable
class DeviceStore(Protocol):
    """One device's durable memory. Implementations pass one contract suite.

    Writes happen inside `with store.transaction():`, which has made them durable when it ends, or none of them if it
    raises. Transactions do not nest. Every method raises StoreError or StoreDamaged.
    """

    def transaction(self) -> AbstractContextManager[None]: ...

    def identity(self) -> Identity | None:
        """Whose store it is; None for a new one."""
        ...

    def save_identity(self, identity: Identity) -> None: ...

    def change_identity(self, identity: Identity) -> None:
        """Be another device, which has made no op yet: nothing is acknowledged, and no entry has a number.

        Epochs, cursors, and the entries with their places and bytes stay as they are. Chunks were meant for the other.
        """
        ...

    def documents(self) -> list[str]:
        """Names of the documents it has, sorted."""
        ...

    def load(self, document: str) -> StoredDocument:
        """All of a document; an empty one if there is none."""
        ...

    def save_progress(self, document: str, progress: Progress) -> None: ...

    def append_updates(self, document: str, updates: Sequence[bytes]) -> None:
        """Add to the cache log what went into the replica, in the order in which it did."""
        ...

    def replace_state(self, document: str, state: bytes) -> None:
        """Let `state`, one v1 update of the whole replica, take the place of the old state and the cache log."""
        ...

    def save_outbox(self, document: str, entries: Sequence[OutboxEntry]) -> None:
        """Add entries, or replace those at the same positions."""
        ...

    def drop_outbox(self, document: str, first: int, last: int) -> None:
        """Forget the entries at positions `first` to `last`."""
        ...

    def append_chunk(self, document: str, payload_id: bytes, offset: int, data: bytes) -> None:
        """Keep the next bytes of an answer, whose beginning up to `offset` is kept already."""
        ...

    def drop_chunks(self, document: str) -> None:
        """Forget the answer whose beginning was kept."""
        ...

    def put_aside(self, document: str, updates: Sequence[bytes]) -> None:
        """Keep work that the server refuses, for the app to export."""
        ...

    def aside(self, document: str) -> list[bytes]:
        """What was put aside, in order."""
        ...

    def drop_aside(self, document: str) -> None: ...

    # --- the cache

    def holdings(self) -> list[Holding]:
        """All documents that it has something of, or a keeping for, by name."""
        ...

    def save_keeping(self, document: str, keeping: Keeping) -> None: ...

    def evict(self, document: str) -> None:
        """Have nothing of a document any more. It must not be the only copy of anything."""
        ...

    # --- the end

    def wipe(self) -> None:
        """Forget every document, and who the user was."""
        ...

    def salvage(self) -> Salvage | None:
        """What was saved when it was opened, if it was damaged then."""
        ...

    def rebuild(self, damage: str) -> Salvage:
        """Put the store aside, which is damaged as `damage` says, and begin another with what can be read of it.

        Outside of transactions. After StoreError all is as it was; a later try may work.
        """
        ...

    def close(self) -> None: ...


class Signer(Protocol):
    """The device's key pair, for proof of possession: ES256, as `crdt.protocol.proof` says."""

    @property
    def public(self) -> PublicKey: ...

    def sign(self, data: bytes) -> bytes:
        """64 bytes: r || s."""
        ...


class Randomness(Protocol):
    """The part of `random.Random` that the device draws from."""

    def random(self) -> float: ...

    def getrandbits(self, k: int, /) -> int: ...
