"""Documents that the app does not have open, with edits that no server has: they stay until those are acknowledged.

Whoever types and leaves the screen makes one; a process that starts finds those that the last one left.
"""

from __future__ import annotations

from collections.abc import Container, Iterator

from client_sim.core.context import Context
from client_sim.core.document import Document
from client_sim.core.status import Phase


class Outgoing:
    """On the connection and in the store as any document is, but not open to the app."""

    def __init__(self, context: Context) -> None:
        """Raises StoreError and StoreDamaged."""
        self._context = context
        self._by_name: dict[str, Document] = {}
        self.find(())

    def __iter__(self) -> Iterator[Document]:
        return iter(self._by_name.values())

    def get(self, name: str) -> Document | None:
        return self._by_name.get(name)

    def find(self, opened: Container[str]) -> None:
        """Look into the store for more, but those that are open. Raises StoreError and StoreDamaged."""
        for name, *_, is_only_copy in self._context.store.holdings():
            if is_only_copy and name not in opened and name not in self._by_name:
                self._by_name[name] = Document(self._context, name)

    def keep(self, document: Document) -> None:
        """The app closes it: nobody hears of this device there any more."""
        if document.presence.own is not None:
            document.set_presence(None)
        self._by_name[document.name] = document

    def hand_over(self, name: str) -> Document | None:
        """The app opens it: it is its own again, wherever it is. One that is blocked begins again."""
        document = self._by_name.pop(name, None)
        return None if document is not None and document.phase is Phase.BLOCKED else document

    def forget(self) -> None:
        """The device was wiped."""
        self._by_name = {}

    def settle(self) -> bool:
        """Leave those of which the server has everything. True if there were any.

        Raises StoreError and StoreDamaged.
        """
        done = [name for name, document in self._by_name.items() if not document.pending]
        for name in done:
            self._by_name.pop(name).leave()
        return bool(done)
