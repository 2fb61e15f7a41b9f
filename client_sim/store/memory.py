"""A store in memory, with the failures that simulators need: a last transaction that is lost, and damage."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from client_sim.core.ports import (
    Holding,
    Identity,
    Keeping,
    OutboxEntry,
    Partial,
    Progress,
    Salvage,
    StoreDamaged,
    StoredDocument,
    StoreError,
)
from client_sim.core.salvage import Remains, restore
from crdt.chain import OPS_START


@dataclass(frozen=True, slots=True)
class _Contents:
    """All of a store, as a value: a transaction goes from one to the next."""

    identity: Identity | None = None
    documents: dict[str, StoredDocument] = field(default_factory=dict)
    aside: dict[str, tuple[bytes, ...]] = field(default_factory=dict)
    keepings: dict[str, Keeping] = field(default_factory=dict)


class MemoryStore:
    """Keeps what it is given as long as it is referenced: `restarted` is the store that the next process finds."""

    def __init__(self) -> None:
        self._contents = _Contents()
        self._before = self._contents
        self._in_transaction = False
        self._salvage: Salvage | None = None
        self._lose: Callable[[Remains], Remains] | None = None

    def restarted(self, *, without_last_transaction: bool = False) -> MemoryStore:
        """A store with what this one holds, or held before its last transaction (a disk that did not sync)."""
        store = MemoryStore()
        store._contents = store._before = self._before if without_last_transaction else self._contents
        if self._lose is not None:
            store.damage(self._lose)
            store.rebuild("damaged")
        return store

    def damage(self, lose: Callable[[Remains], Remains]) -> None:
        """Nothing can be read any more. A rebuild, or the next process, finds what `lose` leaves of what is there."""
        self._lose = lose

    @contextmanager
    def transaction(self) -> Iterator[None]:
        assert not self._in_transaction, "transactions do not nest"
        self._check()
        before = self._contents
        self._in_transaction = True
        try:
            yield
        except BaseException:
            self._contents = before
            raise
        finally:
            self._in_transaction = False
        self._before = before

    def identity(self) -> Identity | None:
        self._check()
        return self._contents.identity

    def save_identity(self, identity: Identity) -> None:
        self._write(identity=identity)

    def change_identity(self, identity: Identity) -> None:
        documents = {name: _without_numbers(stored) for name, stored in self._contents.documents.items()}
        self._write(identity=identity, documents=documents)

    def documents(self) -> list[str]:
        self._check()
        return sorted(self._contents.documents)

    def load(self, document: str) -> StoredDocument:
        self._check()
        return self._contents.documents.get(document) or StoredDocument()

    def save_progress(self, document: str, progress: Progress) -> None:
        self._save(document, replace(self.load(document), progress=progress))

    def append_updates(self, document: str, updates: Sequence[bytes]) -> None:
        stored = self.load(document)
        self._save(document, replace(stored, updates=(*stored.updates, *updates)))

    def replace_state(self, document: str, state: bytes) -> None:
        self._save(document, replace(self.load(document), state=state, updates=()))

    def save_outbox(self, document: str, entries: Sequence[OutboxEntry]) -> None:
        stored = self.load(document)
        if stored.outbox and entries and entries[0].position <= stored.outbox[-1].position:
            by_position = {entry.position: entry for entry in (*stored.outbox, *entries)}
            outbox = tuple(by_position[position] for position in sorted(by_position))
        else:
            outbox = (*stored.outbox, *entries)
        self._save(document, replace(stored, outbox=outbox))

    def drop_outbox(self, document: str, first: int, last: int) -> None:
        stored = self.load(document)
        kept = tuple(entry for entry in stored.outbox if not first <= entry.position <= last)
        self._save(document, replace(stored, outbox=kept))

    def append_chunk(self, document: str, payload_id: bytes, offset: int, data: bytes) -> None:
        stored = self.load(document)
        kept = stored.partial.data if stored.partial else b""
        assert len(kept) == offset
        self._save(document, replace(stored, partial=Partial(payload_id, kept + data)))

    def drop_chunks(self, document: str) -> None:
        if (stored := self.load(document)).partial is not None:
            self._save(document, replace(stored, partial=None))

    def put_aside(self, document: str, updates: Sequence[bytes]) -> None:
        aside = self._contents.aside
        if updates:
            self._write(aside={**aside, document: (*aside.get(document, ()), *updates)})

    def aside(self, document: str) -> list[bytes]:
        self._check()
        return list(self._contents.aside.get(document, ()))

    def drop_aside(self, document: str) -> None:
        self._write(aside=_without(self._contents.aside, document))

    # --- the cache

    def holdings(self) -> list[Holding]:
        self._check()
        contents = self._contents
        names = sorted({**contents.documents, **contents.keepings})
        return [self._holding(name, contents.keepings.get(name, Keeping())) for name in names]

    def _holding(self, document: str, keeping: Keeping) -> Holding:
        stored = self.load(document)
        chunks = stored.partial.data if stored.partial else b""
        cache_bytes = sum(map(len, (stored.state or b"", *stored.updates, chunks)))
        is_only_copy = bool(stored.outbox or document in self._contents.aside or stored.progress.held is not None)
        return Holding(document, keeping, cache_bytes, is_only_copy)

    def save_keeping(self, document: str, keeping: Keeping) -> None:
        self._write(keepings={**self._contents.keepings, document: keeping})

    def evict(self, document: str) -> None:
        contents = self._contents
        self._write(documents=_without(contents.documents, document), keepings=_without(contents.keepings, document))

    # --- the end

    def wipe(self) -> None:
        identity = self._contents.identity
        self._write(identity=identity and identity._replace(user=None), documents={}, aside={}, keepings={})

    def salvage(self) -> Salvage | None:
        return self._salvage

    def rebuild(self, damage: str) -> Salvage:
        """Without damage of its own making it finds all that was there, as a store does whose content is wrong."""
        contents, lose = self._contents, self._lose or (lambda remains: remains)
        remains = Remains(contents.identity, contents.documents, contents.aside, contents.keepings)
        former = self._contents, self._lose
        self._contents, self._lose = _Contents(), None
        try:
            self._salvage = restore(lose(remains), self, damage, "nothing")
        except StoreError:
            self._contents, self._lose = former
            raise
        self._before = self._contents
        return self._salvage

    @property
    def is_damaged(self) -> bool:
        return self._lose is not None

    def close(self) -> None:
        pass

    def _check(self) -> None:
        if self._lose is not None:
            raise StoreDamaged("the store is damaged")

    def _save(self, document: str, stored: StoredDocument) -> None:
        self._write(documents={**self._contents.documents, document: stored})

    def _write(self, **changes: object) -> None:
        assert self._in_transaction, "writes belong in a transaction"
        self._check()
        self._contents = replace(self._contents, **changes)  # type: ignore[arg-type]


def _without(values: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key != name}


def _without_numbers(stored: StoredDocument) -> StoredDocument:
    outbox = tuple(replace(entry, number=None) for entry in stored.outbox)
    return replace(stored, progress=replace(stored.progress, acked=OPS_START), outbox=outbox, partial=None)
