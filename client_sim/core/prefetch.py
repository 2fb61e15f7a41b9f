"""Documents that the app will want later: fetched in the background, a few at a time, and left when they are current.

Nothing is asked for before all that the app has open is current, nor on a metered network. What is being fetched when
the app opens something goes on; what is next waits. Over a lost connection the rest is kept, and what came in part.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from client_sim.core.cache import Cache
from client_sim.core.context import Context
from client_sim.core.document import Document
from client_sim.core.status import Phase, State

AT_ONCE = 3
NAMES_MAX = 1000
"""That wait, at most."""


class Prefetch:
    """Its documents, while they are being fetched: on the connection, but not open to the app."""

    def __init__(self, context: Context, cache: Cache) -> None:
        self._context = context
        self._cache = cache
        self._wanted: dict[str, None] = {}
        self._fetching: dict[str, Document] = {}

    def __iter__(self) -> Iterator[Document]:
        return iter(self._fetching.values())

    @property
    def is_busy(self) -> bool:
        return bool(self._fetching)

    @property
    def names(self) -> list[str]:
        """What is not fetched yet, in order."""
        return [*self._fetching, *self._wanted]

    def want(self, names: Iterable[str]) -> None:
        """Raises ValueError if there are more than NAMES_MAX then."""
        wanted = self._wanted | dict.fromkeys(name for name in names if name not in self._fetching)
        if len(wanted) > NAMES_MAX:
            raise ValueError(f"{len(wanted)} documents to prefetch; {NAMES_MAX} may wait")
        self._wanted = wanted

    def rename(self, name_of: Callable[[str], str]) -> None:
        """It is known whose device it is. Nothing was fetched before."""
        assert not self._fetching
        self._wanted = {name_of(name): None for name in self._wanted}

    def hand_over(self, name: str) -> Document | None:
        """The app opens it: it is its own from now on, wherever it is."""
        self._wanted.pop(name, None)
        return self._fetching.pop(name, None)

    def forget(self) -> None:
        """The device was wiped: nothing is wanted any more."""
        self._wanted, self._fetching = {}, {}

    def settle(self, opened: Iterable[Document], now: float, room: int) -> None:
        """While connected: leave what is done, ask for what is next, for which there is `room` at the server.

        Raises StoreError and StoreDamaged.
        """
        for name, document in [*self._fetching.items()]:
            if document.phase is Phase.BLOCKED or document.status().state in (State.CURRENT, State.BLOCKED):
                if document.phase is Phase.LIVE:
                    self._cache.fetched(name)
                    room += 1
                document.leave()
                del self._fetching[name]
            elif document.phase is Phase.CLOSED and document.retry_at is None and room > 0:
                room -= 1
                self._context.send(document.opening())
        if not self._wanted or self._context.pacing.metered or self._context.errand is not None:
            return
        if all(document.status().state is not State.SYNCING for document in opened):
            self._begin({document.name for document in opened}, now, room)

    def _begin(self, opened: set[str], now: float, room: int) -> None:
        at_once = min(AT_ONCE, len(self._fetching) + room)
        while self._wanted and len(self._fetching) < at_once:
            name = next(iter(self._wanted))
            del self._wanted[name]
            if name not in opened:
                self._fetching[name] = document = Document(self._context, name)
                self._cache.used(name, now)
                self._context.send(document.opening())
