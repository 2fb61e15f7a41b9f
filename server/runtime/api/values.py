"""Documents as JSON values: made where it holds up nobody, once for each version, and kept within a bound."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias
from weakref import WeakValueDictionary

from crdt.errors import BadUpdate, ReplicaBroken
from crdt.ids import DocumentId
from crdt.protocol.codes import Code
from crdt.protocol.frames import Cursor
from crdt.values import canonical_json
from server.runtime.rehearsal import json_roots
from server.runtime.visits import refused
from server.runtime.worker import Worker, WorkerDied

KEPT_BYTES_MAX: Final = 32 << 20
"""Of the values of all documents, in JSON."""
AT_ONCE_BYTES: Final = 8 << 10
"""An update so small is read in the event loop, for less than its way to a worker would cost."""
READINGS_MAX: Final = 4
"""Documents whose updates are in memory to be read."""
READING_S_MAX: Final = 20.0

Roots: TypeAlias = Mapping[str, bytes]
"""The JSON of each root of a document, by name."""


@dataclass(frozen=True, slots=True)
class Reading:
    """The values of a document at `cursor`."""

    cursor: Cursor
    roots: Roots

    @property
    def size(self) -> int:
        return sum(len(name) + len(value) for name, value in self.roots.items())

    def chosen(self, names: Iterable[str] | None) -> bytes:
        """A JSON object of the roots of these names, or of all; those that are empty are not in it."""
        wanted = self.roots if names is None else [name for name in dict.fromkeys(names) if name in self.roots]
        return b"{" + b",".join(canonical_json(name) + b":" + self.roots[name] for name in wanted) + b"}"


class Values:
    """The values that were asked for last."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._kept: OrderedDict[DocumentId, Reading] = OrderedDict()
        self._kept_bytes = 0
        self._locks: WeakValueDictionary[DocumentId, asyncio.Lock] = WeakValueDictionary()
        self._readings = asyncio.Semaphore(READINGS_MAX)

    async def get(
        self, document: DocumentId, cursor: Cursor, read: Callable[[], Awaitable[tuple[Cursor, bytes]]]
    ) -> Reading:
        """At `cursor`, or later: `read` gives the whole document as it is by then. Raises Refused."""
        lock = self._locks.setdefault(document, asyncio.Lock())
        async with lock:
            kept = self._kept.get(document)
            if kept is not None and kept.cursor == cursor:
                self._kept.move_to_end(document)
                return kept
            async with self._readings:
                read_cursor, update = await read()
                reading = Reading(read_cursor, await self._roots_of(update))
            self._keep(document, reading)
            return reading

    async def _roots_of(self, update: bytes) -> Roots:
        try:
            if len(update) <= AT_ONCE_BYTES:
                return json_roots(update)
            return await self._worker.run_within(READING_S_MAX, json_roots, update)
        except (BadUpdate, ReplicaBroken) as exc:
            raise refused(Code.INTERNAL, "the document's values can not be read") from exc
        except WorkerDied as exc:
            raise refused(Code.OVERLOADED, "the document's values could not be read now") from exc

    def _keep(self, document: DocumentId, reading: Reading) -> None:
        old = self._kept.pop(document, None)
        self._kept_bytes += reading.size - (old.size if old is not None else 0)
        self._kept[document] = reading
        while self._kept_bytes > KEPT_BYTES_MAX:
            _, gone = self._kept.popitem(last=False)
            self._kept_bytes -= gone.size
