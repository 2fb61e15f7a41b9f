"""One copy of a document: the only owner of a `pycrdt.Doc`.

The library keeps what it cannot place yet where nobody sees it, and may panic on what it was not made for. So callers
check updates first (`crdt.update`), apply each client's in order, and throw a replica away that raised ReplicaBroken.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from hashlib import blake2b
from itertools import islice
from types import TracebackType
from typing import Any, TypeAlias, cast

from pycrdt import Array, Doc, Map, Text, XmlElement, XmlFragment, XmlText
from pycrdt._pycrdt import Doc as Binding
from pycrdt._pycrdt import Transaction

from crdt.errors import ReplicaBroken
from crdt.protocol.frames import DIGEST_BYTES
from crdt.update import (
    EMPTY_STATE_VECTOR,
    RootKind,
    StateVector,
    read_state_vector,
    read_update,
    root_kinds,
)

Values: TypeAlias = dict[str, Any]
"""JSON values of a document's roots by name; roots without content are left out."""

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

    def apply(self, updates: Iterable[bytes]) -> None:
        """Integrate updates that `crdt.update` found to fit, in order. Raises ReplicaBroken: drop the replica then."""
        waiting = iter(updates)
        while some := tuple(islice(waiting, UPDATES_PER_TRANSACTION)):
            with guarded(), self._transaction() as transaction:
                for update in some:
                    self._binding.apply_update(transaction, update)
                    self._v1_bytes += len(update)

    def apply_if_new(self, update: bytes) -> bool:
        """Integrate one update; False if it changed nothing. `news` tells what it changed. Raises ReplicaBroken."""
        with self._watched():
            self.apply((update,))
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


# Classes, where a generator would do: each commit of each document goes through both of them, twice.


class guarded:  # noqa: N801 - called like a function
    """Turn what the library raises, its panics included, into ReplicaBroken."""

    __slots__ = ()

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, exc: BaseException | None, trace: TracebackType | None) -> None:
        if isinstance(exc, Exception):
            raise ReplicaBroken(f"{type(exc).__name__}: {exc}") from exc
        if type(exc).__name__ == "PanicException":  # pyo3's, which no module exports
            raise ReplicaBroken(f"panic: {exc}") from exc


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


def values_of(state: bytes) -> Values:
    """The JSON values of a whole document's v1 update.

    Roots are read by the kind their content shows (`root_kinds`); those without content are left out.
    Raises BadUpdate or ReplicaBroken.
    """
    kinds = root_kinds(read_update(state))
    with guarded():
        doc: Doc[Any] = Doc()
        doc.apply_update(state)
        values = {name: _read_root(doc, name, kinds[name]) for name in sorted(kinds)}
    return {name: value for name, value in values.items() if value}


def canonical_json(value: Any) -> bytes:
    """JSON with sorted keys and no spaces, in UTF-8: equal values give equal bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def digest(state_vector: StateVector, values: Values) -> bytes:
    """BLAKE2b-128 of the canonical JSON of [[client, clock] ascending, values]."""
    subject = [sorted([client, clock] for client, clock in state_vector.items()), values]
    return blake2b(canonical_json(subject), digest_size=DIGEST_BYTES).digest()


def _read_root(doc: Doc[Any], name: str, kind: RootKind) -> Any:
    match kind:
        case RootKind.TEXT:
            return str(doc.get(name, type=Text))
        case RootKind.MAP:
            return _plain(doc.get(name, type=Map))
        case RootKind.ARRAY:
            return _plain(doc.get(name, type=Array))
        case RootKind.XML:
            return _plain(doc.get(name, type=XmlFragment))


def _plain(value: Any) -> Any:
    """A value of the library as JSON can hold it."""
    match value:
        case Map() | Array() | XmlElement() | XmlFragment() | Text() | XmlText() | Doc():
            return _plain_type(value)
        case bytes() | bytearray():
            return {"$bytes": value.hex()}
        case dict():
            return {key: _plain(item) for key, item in value.items()}
        case list():
            return [_plain(item) for item in value]
        case float():
            return _number(value)
        case _:
            return value


def _plain_type(value: Map[Any] | Array[Any] | XmlElement | XmlFragment | Text | XmlText | Doc[Any]) -> Any:
    match value:
        case Map():
            return {key: _plain(value[key]) for key in value.keys()}  # noqa: SIM118 - a Map does not iterate keys
        case Array():
            return [_plain(item) for item in value]
        case XmlElement():
            attributes = {key: _plain(text) for key, text in cast("Any", value.attributes)}
            return {"tag": value.tag, "attributes": attributes, "children": _children(value)}
        case XmlFragment():
            return _children(value)
        case Doc():
            return {"$doc": value.guid}
        case Text():
            return str(value)
        case XmlText():  # str() would write formats as tags, their attributes in an order of chance
            return "".join(part for part, _ in value.diff() if isinstance(part, str))


def _children(node: XmlElement | XmlFragment) -> list[Any]:
    return [_plain(child) for child in node.children]


def _number(value: float) -> int | float | dict[str, str]:
    """Whole numbers as integers, as JavaScript writes them; what JSON cannot hold by name."""
    if value != value or value in (float("inf"), float("-inf")):
        return {"$number": str(value)}
    return int(value) if value.is_integer() and abs(value) < 1 << 53 else value
