"""One copy of a document: the only owner of a `pycrdt.Doc`.

The library keeps what it cannot place yet where nobody sees it, and may panic on what it was not made for. So callers
check updates first (`crdt.update`), apply each client's in order, and throw a replica away that raised ReplicaBroken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from types import TracebackType
from typing import Any

from pycrdt import Doc
from pycrdt._pycrdt import Doc as Binding
from pycrdt._pycrdt import Transaction

from crdt.library import guarded
from crdt.update import EMPTY_STATE_VECTOR, StateVector, read_state_vector
from crdt.values import Values, digest, values_of

RESIDENT_FACTOR = 16
"""Resident bytes of a loaded document for each byte of its updates (measured: 10 to 21)."""
RESIDENT_BASE_BYTES = 2048

UPDATES_PER_TRANSACTION = 128
"""A transaction costs memory and time with the square of the updates in it (20,000: 4 GB); none costs much alone."""


class Replica:
    """A document in memory. `client_id` names its own edits, and is fresh each time a replica starts.

    Only a replica that edits needs one; a server's never does. Nor does that need the library's wrapper of its binding,
    which takes 2 KiB, and opens a transaction within each transaction.
    """

    __slots__ = ("_binding", "_changed", "_doc", "_excess_bytes", "_measured_at", "_v1_bytes")

    def __init__(self, client_id: int | None = None) -> None:
        self._binding = Binding(client_id, None, None)
        self._doc: Doc[Any] | None = None
        """The wrapper, once somebody edits."""
        self._changed: bytes | None = None
        self._v1_bytes = 0
        self._excess_bytes = 0
        """By how much the updates that went in are longer than the state was when it was last measured."""
        self._measured_at = 0

    @classmethod
    def load(cls, updates: Iterable[bytes], client_id: int | None = None) -> Replica:
        """A replica with these updates in: a snapshot's state first, then the log's, in order.

        Raises ReplicaBroken.
        """
        replica = cls(client_id)
        replica.apply(updates)
        return replica

    def apply(self, updates: Iterable[bytes]) -> bytes:
        """Integrate updates that `crdt.update` found to fit, in order; the state vector after them.

        Raises ReplicaBroken: drop the replica then.
        """
        waiting = iter(updates)
        some = tuple(islice(waiting, UPDATES_PER_TRANSACTION))
        while True:
            more = tuple(islice(waiting, UPDATES_PER_TRANSACTION))
            with guarded(), self._transaction() as transaction:
                for update in some:
                    self._binding.apply_update(transaction, update)
                    self._v1_bytes += len(update)
                if not more:
                    return self._binding.get_state(transaction)
            some = more

    def apply_if_new(self, update: bytes) -> bool:
        """Integrate one update; False if it changed nothing. `news` tells what it changed. Raises ReplicaBroken."""
        with self._watched(), guarded(), self._transaction() as transaction:
            self._binding.apply_update(transaction, update)
            self._v1_bytes += len(update)
        return self._changed is not None

    @property
    def news(self) -> bytes | None:
        """What the last `apply_if_new` or `edit` changed, as an update; None if that was nothing."""
        return self._changed

    def edit(self, change: Callable[[Doc[Any]], object]) -> bytes | None:
        """Run `change(doc)` as one transaction; the update it made, None if it changed nothing.

        What `change` raises is raised on, and whatever it did before is undone by nobody: drop the replica then.
        """
        if self._doc is None:
            self._doc = Doc(doc=self._binding)
        with self._watched(), self._doc.transaction():
            change(self._doc)
        if self._changed is not None:
            self._v1_bytes += len(self._changed)
        return self._changed

    def state(self) -> bytes:
        """The whole document as one v1 update."""
        return self.diff(EMPTY_STATE_VECTOR)

    def diff(self, state_vector: bytes) -> bytes:
        """The v1 update that a replica with `state_vector` lacks, always with the whole delete set."""
        with guarded(), self._transaction() as transaction:
            return self._binding.get_update(transaction, state_vector)

    def state_vector_bytes(self) -> bytes:
        """The state vector as it goes on the wire; not canonical."""
        with guarded(), self._transaction() as transaction:
            return self._binding.get_state(transaction)

    def state_vector(self) -> StateVector:
        """Client id to the first clock that is missing."""
        return read_state_vector(self.state_vector_bytes())

    def values(self) -> Values:
        """The document's content as JSON values. Costs a load of the whole document."""
        return values_of(self.state())

    def digest(self) -> bytes:
        """16 bytes that are equal on two replicas with equal state vectors and values (AUDIT)."""
        return digest(self.state_vector(), self.values())

    @property
    def v1_bytes(self) -> int:
        """Bytes of all updates that went in."""
        return self._v1_bytes

    def state_bytes(self, doubt_from: int) -> int:
        """About how long the state is, or more: typing takes more in updates than in the state that they make.

        It is measured where it might be over `doubt_from`, and then not before another sixteenth of that has come.
        """
        size = self._v1_bytes - self._excess_bytes
        if size > doubt_from and self._v1_bytes > self._measured_at + doubt_from // 16:
            self._measured_at = self._v1_bytes
            size = len(self.state())
            self._excess_bytes = self._v1_bytes - size
        return size

    @property
    def resident_bytes(self) -> int:
        """About how much memory the replica takes."""
        return RESIDENT_BASE_BYTES + RESIDENT_FACTOR * self._v1_bytes

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """Note in `_changed` the update that the transaction inside makes."""

        def note(event: Any) -> None:
            self._changed = event.update

        self._changed = None
        subscription = self._binding.observe(note)
        try:
            yield
        finally:
            subscription.drop()

    def _transaction(self) -> _Open:
        return _Open(self._binding.create_transaction())


class _Open:
    """A transaction that is committed at the end, unless something was raised, and let go of in any case."""

    __slots__ = ("_transaction",)

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    def __enter__(self) -> Transaction:
        return self._transaction

    def __exit__(self, _: object, exc: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if exc is None:
                self._transaction.commit()
        finally:
            self._transaction.drop()
