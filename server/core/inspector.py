"""The part of the check that needs to know the document: where structs would go, and whose client ids they use.

A client id belongs to the user who wrote under it first in this epoch. What is known is kept beside each snapshot, so
that it need not be told from the whole document; and nothing of it is needed to open a document.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Self

import msgpack

from crdt.errors import BadUpdate, PeerError, ReplicaBroken
from crdt.protocol.codes import Code
from crdt.replica import Replica
from crdt.update import (
    STEPS_SMALL,
    Id,
    Layout,
    StateVector,
    Typed,
    Update,
    read_state_vector,
    read_update,
    take_deleted,
    take_keystrokes,
    take_typed,
    write_state_vector,
)
from server.core.records import LogEntry, Snapshot, StoredDocument

NOBODY = ""
"""The user of what no user wrote: it owns nothing, and may write under any client id."""

LIGHT_BYTES = 64 << 10
"""So many bytes of updates are read on the spot, in some tens of milliseconds at most."""


def _say_nothing(reason: str) -> None:
    pass


class Inspector:
    """What the check knows of one document. Made from what is stored; read at the first update.

    `is_light`: reading it takes no longer than others can wait.
    """

    def __init__(self, stored: StoredDocument | None = None, warn: Callable[[str], None] = _say_nothing) -> None:
        self._stored = stored
        self._warn = warn
        self._layout: Layout | None = Layout()
        self._owners: dict[int, str] = {}
        self.has_learned = False
        """The update admitted last told of a deletion, and is to be told again when this is read again."""
        self.is_light = stored is None or _unread_bytes(stored) <= LIGHT_BYTES

    @classmethod
    def unpack(cls, packed: bytes, warn: Callable[[str], None]) -> Self:
        """What another process has read and packed."""
        inspector = cls(None, warn)
        _, layout, inspector._owners = _unpacked(packed)
        try:
            inspector._layout = Layout.unpack(layout)
        except ValueError as exc:
            inspector._give_up(exc)
        return inspector

    @property
    def resident_bytes(self) -> int:
        """About how much memory it takes."""
        if self._stored is not None:
            return _unread_bytes(self._stored)
        return 100 * len(self._owners) + (self._layout.resident_bytes if self._layout else 0)

    def goes_on(self, client: int) -> bool:
        """True if a string right behind the last thing that `client` wrote needs no inspection."""
        return self._layout is not None and self._layout.goes_on(client)

    def admit(
        self,
        update: Update,
        known: Mapping[int, int],
        user: str,
        *,
        heal: bool = False,
        rehearsed: bool = True,
        unclear: list[Id] | None = None,
    ) -> bool:
        """Check an update that lacks nothing, and take it in; `known` is the document's state vector before it.

        False if applying it may take long and it is not `rehearsed`: nothing has changed then, nor if it raises
        PeerError. A healing update binds no client ids to its user. `unclear` is as `Layout.admit` has it.
        """
        self._wake()
        if self._layout is None:
            raise PeerError(Code.DOC_QUARANTINED, "what is stored does not pass the check: the document is read-only")
        fresh = _fresh(update, known)
        if user != NOBODY:
            for client in fresh:
                if self._owners.get(client, user) != user:
                    raise BadUpdate("not_owner", f"another user wrote under client id {client}")
        deleted = len(self._layout.deleted)
        steps_max = None if rehearsed else STEPS_SMALL
        if self._layout.admit(update, known, steps_max, unclear) > STEPS_SMALL and not rehearsed:
            return False
        if user != NOBODY and not heal:
            self._owners.update(dict.fromkeys(fresh, user))
        self.has_learned = len(self._layout.deleted) > deleted
        return True

    def take_typed(self, typed: Typed, known: StateVector, user: str) -> int | None:
        """As `admit`, for text that is typed: the client that wrote it; `known` moves on with it.

        None, and nothing has changed, if it is to be read in full; so are the first that a user writes under a client
        id, and all of a document that is so large that a look at the update does not tell what applying it costs.
        """
        layout = self._small_layout()
        return None if layout is None else take_typed(layout, typed, known, self._owners, user)

    def take_deleted(self, update: bytes, known: StateVector) -> tuple[int, int] | None:
        """The same for a range that is deleted, whoever wrote that: the client and the last clock of it."""
        layout = self._small_layout()
        return None if layout is None else take_deleted(layout, update, known)

    def _small_layout(self) -> Layout | None:
        """What is known of the document, if it is small, and will teach nothing."""
        self._wake()
        self.has_learned = False
        layout = self._layout
        return None if layout is None or layout.items > STEPS_SMALL else layout

    def truncate(self, known: Mapping[int, int]) -> None:
        """Forget what was admitted and lies beyond this state vector."""
        if self._stored is not None:
            return
        if self._layout is not None:
            self._layout.truncate(known)
        self._owners = {client: user for client, user in self._owners.items() if client in known}

    def pack(self) -> bytes:
        """All that it knows of what is stored, to be kept beside a snapshot of just that."""
        known = self._wake()
        owned: dict[str, list[int]] = {}
        for client in sorted(self._owners):
            owned.setdefault(self._owners[client], []).append(client)
        layout = self._layout.pack() if self._layout else b""
        packed: bytes = msgpack.packb([write_state_vector(known), layout, owned])
        return packed

    def _wake(self) -> StateVector:
        """Read what is stored; the state vector of that, the first time.

        Where the log does not pass the check that it has passed, the library's own state of the document counts.
        """
        known: StateVector = {}
        if self._stored is None:
            return known
        stored, self._stored = self._stored, None
        self.is_light = True
        if stored.snapshot is not None:
            self._read_snapshot(stored.snapshot, stored.epoch, known)
        for entry in stored.unsnapshotted:
            binds = entry.seq > stored.epoch_seq and not entry.heal
            self._read_entry(entry, known, entry.device.user if binds else NOBODY)
        return known if self._layout is not None else self._read_state(stored)

    def _read_snapshot(self, snapshot: Snapshot, epoch: bytes, known: StateVector) -> None:
        layout = b""
        if snapshot.check is not None:
            state_vector, layout, owners = _unpacked(snapshot.check)
            known.update(read_state_vector(state_vector))
            if snapshot.epoch == epoch:
                self._owners = owners
        try:
            if snapshot.check is None:
                read_update(snapshot.state).advance(known)
            self._layout = _layout_of(snapshot.state, layout)
        except BadUpdate as exc:
            self._give_up(exc)

    def _read_entry(self, entry: LogEntry, known: StateVector, user: str) -> None:
        updates = entry.updates
        writers: dict[int, None] = {}
        at = 0
        while at < len(updates):
            if self._layout is not None:
                at = take_keystrokes(self._layout, updates, at, known, writers)
            if at < len(updates):
                self._read_one(updates[at], known, writers)
                at += 1
        if user != NOBODY:
            for client in writers:
                self._owners.setdefault(client, user)

    def _read_one(self, data: bytes, known: StateVector, writers: dict[int, None]) -> None:
        """Take in any update; `writers` gets the clients that wrote something."""
        try:
            update = read_update(data)
            writers.update(dict.fromkeys(_fresh(update, known)))
            if self._layout is not None:
                self._layout.admit(update, known)
        except BadUpdate as exc:
            self._give_up(exc)
        else:
            update.advance(known)

    def _read_state(self, stored: StoredDocument) -> StateVector:
        """Take the library's word for what the document is; its state vector, empty if that does not pass either."""
        try:
            replica = Replica.load(stored.state_updates())
            self._layout = Layout.of((replica.state(),))
            return replica.state_vector()
        except (BadUpdate, ReplicaBroken) as exc:
            self._give_up(exc)
            return {}

    def _give_up(self, exc: Exception) -> None:
        self._layout = None
        self._warn(str(exc))


def _fresh(update: Update, known: Mapping[int, int]) -> list[int]:
    """The clients under which it has something new."""
    return [client for client, (_, end) in update.sections.items() if end > known.get(client, 0)]


def _layout_of(state: bytes, packed: bytes) -> Layout:
    """As it was packed; told from the state where it was not, or by another version. Raises BadUpdate."""
    try:
        return Layout.unpack(packed)
    except ValueError:
        return Layout.of((state,))


def _unread_bytes(stored: StoredDocument) -> int:
    """How much has to be read, one update after the other."""
    unread = sum(entry.update_bytes for entry in stored.unsnapshotted)
    if stored.snapshot is not None and stored.snapshot.check is None:
        unread += len(stored.snapshot.state)
    return unread


def _unpacked(packed: bytes) -> tuple[bytes, bytes, dict[int, str]]:
    """The state vector, the layout, and the owners of client ids."""
    state_vector, layout, owned = msgpack.unpackb(packed)
    return state_vector, layout, {client: user for user, clients in owned.items() for client in clients}
