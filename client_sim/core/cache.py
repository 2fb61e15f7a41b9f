"""What is kept on the device, how fresh it is, and what goes when it is too much.

A document is *live* while the server sends it whatever happens to it. `as_of` is when the server was last heard to be
there while the document was live: all that the server had then is in. It is stored when a document becomes live, when
it ceases to be, and every NOTE_S in between, so a killed device claims to be staler than it is, never fresher.
"""

from __future__ import annotations

from collections.abc import Iterable

from client_sim.core.context import Context
from client_sim.core.document import Document
from client_sim.core.ports import Holding, Keeping
from client_sim.core.status import Phase

NOTE_S = 300.0


class Cache:
    """Times are of the driver's clock; in the store, in seconds since 1970. Without `set_clock` there is no `as_of`."""

    def __init__(self, context: Context) -> None:
        """Raises StoreError and StoreDamaged."""
        self.bytes_max: int | None = None
        """How much state and log may be kept, of all documents together. None: no bound."""
        self._context = context
        self._keepings = _keepings(context)
        self._live: dict[str, None] = {}
        self._unsaved: dict[str, None] = {}
        """Whose keepings the store does not have yet."""
        self._heard_at = self._noted_at = 0.0
        self._since_1970_s: float | None = None
        self._is_due = True

    def set_clock(self, unix_s: float, now: float) -> None:
        """It is `unix_s` seconds since 1970 now. To be told at the start, and wherever one clock may have stood."""
        self._since_1970_s = unix_s - now

    def heard(self, now: float) -> None:
        """The server is there."""
        self._heard_at = now

    # --- how fresh a document is

    def as_of(self, name: str) -> float | None:
        """In seconds since 1970; None if no server has answered yet, or none since a clock was known."""
        return self._unix(self._heard_at) if name in self._live else self._keeping(name).as_of

    def is_stale(self, name: str, max_stale_s: float | None, now: float) -> bool:
        """True if more may be missing than what happened in the last `max_stale_s`.

        What is live is not stale: whatever happens comes by itself, and a connection that is dead is noticed. With None
        any age will do, but not never. A time in the future says that the clock was set back: that is stale.
        """
        if name in self._live:
            return False
        as_of, unix_s = self._keeping(name).as_of, self._unix(now)
        if as_of is None or unix_s is None:
            return True
        return max_stale_s is not None and not 0.0 <= unix_s - as_of <= max_stale_s

    def _keeping(self, name: str) -> Keeping:
        return self._keepings.get(name, Keeping())

    def _unix(self, now: float) -> float | None:
        return None if self._since_1970_s is None else self._since_1970_s + now

    # --- what is kept

    def used(self, name: str, now: float) -> None:
        """The app opens it. Stored with the next note: to be used costs no transaction of its own."""
        unix_s = self._unix(now)
        if unix_s is not None:
            self._keepings[name] = self._keeping(name)._replace(used_at=unix_s)

    def pin(self, name: str, *, pinned: bool) -> None:
        """Keep a document whatever the budget, from now on or no more. Raises StoreError and StoreDamaged."""
        keeping = self._keeping(name)._replace(pinned=pinned)
        with self._context.store.transaction():
            self._context.store.save_keeping(name, keeping)
        self._keepings[name] = keeping
        self._is_due = True

    def is_pinned(self, name: str) -> bool:
        return self._keeping(name).pinned

    def look(self) -> None:
        """Something may have become dispensable: see to the budget when the event is over."""
        self._is_due = True

    def fetched(self, name: str) -> None:
        """It was live until now, and is left."""
        self._ended([name])
        self._is_due = True

    # --- after each event

    def settle(self, documents: Iterable[Document], now: float) -> None:
        """Note what is live now, or was until now, and keep to the budget. Raises StoreError and StoreDamaged."""
        there = list(documents)
        live = {document.name: None for document in there if document.phase is Phase.LIVE}
        self._ended([name for name in self._live if name not in live])
        is_due = self._heard_at - self._noted_at >= NOTE_S
        self._unsaved |= {name: None for name in live if is_due or name not in self._live}
        self._live = live
        self._save()
        if self._is_due:
            self._is_due = False
            self._evict([document.name for document in there])

    def disconnected(self) -> None:
        """Nothing is live any more."""
        self._ended([*self._live])

    def _ended(self, names: list[str]) -> None:
        as_of = self._unix(self._heard_at)
        for name in names:
            self._live.pop(name, None)
            if as_of is not None:
                self._keepings[name] = self._keeping(name)._replace(as_of=as_of)
                self._unsaved[name] = None

    def _save(self) -> None:
        as_of = self._unix(self._heard_at)
        if as_of is None or not self._unsaved:
            return
        for name in self._unsaved:
            if name in self._live:
                self._keepings[name] = self._keeping(name)._replace(as_of=as_of)
        with self._context.store.transaction():
            for name in self._unsaved:
                self._context.store.save_keeping(name, self._keeping(name))
        self._unsaved = {}
        self._noted_at = self._heard_at

    def _evict(self, there: list[str]) -> None:
        """The longest unused go first. What is open, pinned, or the only copy of anything stays, whatever it takes."""
        if self.bytes_max is None:
            return
        holdings = self._context.store.holdings()
        excess = sum(holding.cache_bytes for holding in holdings) - self.bytes_max
        going: list[str] = []
        for holding in sorted(holdings, key=self._last_used):
            if excess > 0 and holding.cache_bytes and holding.document not in there and self._is_dispensable(holding):
                going.append(holding.document)
                excess -= holding.cache_bytes
        if going:
            with self._context.store.transaction():
                for name in going:
                    self._context.store.evict(name)
            for name in going:
                self._keepings.pop(name, None)
                self._unsaved.pop(name, None)
            self._context.counters.evictions += len(going)

    def _last_used(self, holding: Holding) -> tuple[float, str]:
        return self._keeping(holding.document).used_at, holding.document

    def _is_dispensable(self, holding: Holding) -> bool:
        return not holding.is_only_copy and not self._keeping(holding.document).pinned

    def forget(self) -> None:
        """The store is another: it was wiped, or rebuilt. Raises StoreError and StoreDamaged."""
        self._live, self._unsaved = {}, {}
        self._keepings = _keepings(self._context)


def _keepings(context: Context) -> dict[str, Keeping]:
    return {holding.document: holding.keeping for holding in context.store.holdings()}
