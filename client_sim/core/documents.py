"""The documents that a device has open, by name."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import assert_never

from client_sim.core import events
from client_sim.core.aliases import own_name
from client_sim.core.cache import Cache
from client_sim.core.context import Context
from client_sim.core.document import Document
from client_sim.core.outgoing import Outgoing
from client_sim.core.pending import Pending
from client_sim.core.prefetch import Prefetch
from client_sim.core.status import AWAITING, Phase, State
from crdt.ids import DocumentId


class NotOpen(LookupError):
    """The app has not opened the document, or has closed it: `open` it."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} is not open")


class Documents:
    """In the order in which they were opened. `user` is whose own documents go without their owner, once known."""

    def __init__(self, context: Context, user: str | None) -> None:
        """Raises StoreError and StoreDamaged."""
        self.user = user
        self.by_name: dict[str, Document] = {}
        self.cache = Cache(context)
        self.prefetch = Prefetch(context, self.cache)
        self.outgoing = Outgoing(context)
        self._context = context

    def __iter__(self) -> Iterator[Document]:
        return iter(self.by_name.values())

    def synced(self) -> Iterator[Document]:
        """Those that are open, and those that were closed with edits that no server has."""
        return chain(self, self.outgoing)

    def all(self) -> Iterator[Document]:
        """Those, and those that are fetched in the background."""
        return chain(self, self.outgoing, self.prefetch)

    def __getitem__(self, name: str) -> Document:
        """Raises NotOpen."""
        key = self.key(name)
        if key not in self.by_name:
            raise NotOpen(name)
        return self.by_name[key]

    def get(self, name: str) -> Document | None:
        """None if it is not open."""
        return self.by_name.get(self.key(name))

    def synced_one(self, name: str) -> Document | None:
        """None if it is not among those of `synced`."""
        return self.get(name) or self.outgoing.get(self.key(name))

    def key(self, name: str) -> str:
        """One name for one document."""
        return own_name(name, self.user)

    def adopt(self, user: str, renamed: list[str]) -> None:
        """It is known whose device it is. `renamed` have other names in the store. Raises StoreError and StoreDamaged.

        Those that were open under such a name are asked for anew, and so is what they were united with.
        """
        self.user = user
        self.prefetch.rename(self.key)
        if renamed:
            self.cache.forget()
        anew = {self.key(name) for name in (*renamed, *self.by_name) if self.key(name) != name}
        by_name: dict[str, Document] = {}
        for name, document in self.by_name.items():
            key = self.key(name)
            by_name[key] = self._anew(document, key) if key in anew else document
        self.by_name = by_name
        for name in (*renamed, *anew):
            self.outgoing.hand_over(name)
        self.outgoing.find(self.by_name)

    def _anew(self, document: Document, name: str) -> Document:
        """Its successor, not open at the server yet."""
        successor = Document(self._context, name)
        successor.presence.own = document.presence.own
        return successor

    def handle(self, event: events.DocumentEvent, now: float) -> None:
        """What the app wants of one document. Raises what `Device.handle` says."""
        match event:
            case events.OpenRequested(name):
                self._open(self.key(name), now)
            case events.CloseRequested(name):
                self.outgoing.keep(self[name])
                del self.by_name[self.key(name)]
            case events.PrefetchRequested(names):
                self.prefetch.want([self._checked(name) for name in names])
            case events.Pinned(name, pinned):
                self.cache.pin(self._checked(name), pinned=pinned)
            case events.Edited(name, change):
                self[name].edit(change, now)
            case events.PresenceSet(name, payload):
                self[name].set_presence(payload)
            case events.AuditRequested(name):
                self[name].audit()
            case events.Unblocked(name):
                self[name].unblock(now)
            case _:
                assert_never(event)

    def _checked(self, name: str) -> str:
        """Its key. Raises ValueError if it is no name."""
        DocumentId.parse(name, self.user or "user")
        return self.key(name)

    def _open(self, name: str, now: float) -> None:
        if name not in self.by_name:
            self._checked(name)
            kept = self.outgoing.hand_over(name) or self.prefetch.hand_over(name)
            document = kept or Document(self._context, name)
            assert document.copy is not None  # loads it: damage shows here
            self.by_name[name] = document
        self.cache.used(name, now)

    def join(self) -> None:
        """Ask the server for those that are not open there, as many as it takes. The link must be open.

        Raises as `wipe`.
        """
        self._leave_done()
        room = self._room()
        for document in self.synced():
            if document.is_crowded_out or (document.phase is Phase.CLOSED and document.retry_at is None):
                room -= 1
                if room >= 0:
                    self._context.send(document.opening())
                elif not document.is_crowded_out:
                    document.crowd_out()

    def disconnected(self) -> None:
        self.cache.disconnected()
        for document in self.all():
            document.disconnected()

    def on_time(self, now: float) -> None:
        """The link must be open."""
        for document in self.all():
            document.on_time(now)

    def wipe(self) -> None:
        """The store was wiped, with who the user was. Raises StoreError and StoreDamaged."""
        self.user = None
        self.prefetch.forget()
        self.outgoing.forget()
        self.cache.forget()
        for document in self:
            document.forget()

    def begin_again(self) -> None:
        """What the store has counts: the device has another name, or the store was rebuilt. Raises as `wipe`."""
        for document in self.all():
            document.lose_numbers()
        self.cache.forget()
        self.outgoing.find(self.by_name)

    def settle(self, now: float, *, is_open: bool) -> None:
        """After each event: leave what is done, ask for what is next, and see to the cache. Raises as `wipe`."""
        self._leave_done()
        if is_open:
            self.prefetch.settle([*self.synced()], now, self._room())
        self.cache.settle(self.all(), now)

    def _room(self) -> int:
        """How many more the server lets be open."""
        away = (Phase.CLOSED, Phase.BLOCKED)
        return self._context.limits.documents_per_session - sum(document.phase not in away for document in self.all())

    def _leave_done(self) -> None:
        if self.outgoing.settle():
            self.cache.look()

    # --- all of them together

    def is_any(self, state: State) -> bool:
        return any(document.status().state is state for document in self.synced())

    def backlog(self, now: float) -> Pending:
        """What is pending of all."""
        return sum((document.backlog(now) for document in self.synced()), Pending())

    def waits_since(self, now: float) -> float | None:
        """When the oldest edit was made that could be sent and was not."""
        times = [since for document in self.synced() if (since := document.waits_since(now)) is not None]
        return min(times, default=None)

    def is_receiving(self) -> bool:
        return any(document.phase in AWAITING for document in self.synced())

    def await_answers(self) -> bool:
        """The server has something to say to one of them, if it lives."""
        return any(document.awaits_answer for document in self.all())

    def next_retry(self) -> float | None:
        return min((document.retry_at for document in self.all() if document.retry_at is not None), default=None)
