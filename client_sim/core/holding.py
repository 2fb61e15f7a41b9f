"""Whoever holds a document's copy: loaded from the store when needed, dropped when a transaction on it fails."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from client_sim.core.context import Context
from client_sim.core.copy import LocalCopy
from client_sim.core.pushing import Window


class Holder:
    """One document's copy, and what of its outbox was framed on this connection."""

    def __init__(self, context: Context, name: str) -> None:
        self.window = Window()
        self._context = context
        self._name = name
        self._copy: LocalCopy | None = None

    @property
    def copy(self) -> LocalCopy:
        """The document as the store has it. Raises StoreError and StoreDamaged."""
        if self._copy is None:
            self._copy = LocalCopy(self._context.store, self._name, self._context.next_client_id())
            self.window.loaded(self._copy)
        return self._copy

    @property
    def awaits_ack(self) -> bool:
        """Something of it is on its way to the server."""
        return self._copy is not None and self.window.awaits_ack(self._copy)

    def drop(self) -> None:
        """What the store has counts."""
        self._copy = None

    @contextmanager
    def changing(self) -> Iterator[LocalCopy]:
        """One transaction on the copy. If it fails the copy is dropped: what the store has counts."""
        copy = self.copy
        try:
            with self._context.store.transaction():
                yield copy
        except BaseException:
            self._copy = None
            raise
