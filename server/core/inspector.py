"""The part of the check that needs to know the document: where structs would go, and whose client ids they use.

A client id belongs to the user who wrote under it first in this epoch. What is known is kept beside each snapshot, so
that it need not be told from the whole document; and nothing of it is needed to open a document.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgpack

from crdt.errors import BadUpdate
from crdt.update import Layout, StateVector, Update, read_state_vector, read_update, write_state_vector
from server.core.records import LogEntry, Snapshot, StoredDocument

NOBODY = ""
"""The user of what no user wrote: it owns nothing, and may write under any client id."""


class Inspector:
    """What the check knows of one document. Made from what is stored; read at the first update."""

    def __init__(self, stored: StoredDocument | None = None, warn: Callable[[str], None] = lambda reason: None) -> None:
        self._stored = stored
        self._warn = warn
        self._layout: Layout | None = Layout()
        self._owners: dict[int, str] = {}

    @property
    def resident_bytes(self) -> int:
        """About how much memory it takes."""
        if self._stored is not None:
            snapshot = self._stored.snapshot
            waiting = sum(entry.update_bytes for entry in self._stored.entries)
            return waiting + (len(snapshot.check or snapshot.state) if snapshot else 0)
        return 100 * len(self._owners) + (self._layout.resident_bytes if self._layout else 0)

    def goes_on(self, client: int) -> bool:
        """True if a string right behind the last thing that `client` wrote needs no inspection."""
        return self._layout is not None and self._layout.goes_on(client)

    def admit(self, update: Update, known: Mapping[int, int], user: str, *, heal: bool = False) -> None:
        """Check an update that lacks nothing, and take it in; `known` is the document's state vector before it.

        Raises BadUpdate: then nothing has changed. A healing update binds no client ids to its user.
        """
        self._wake()
        fresh = [client for client, (_, end) in update.sections.items() if end > known.get(client, 0)]
        if user:
            for client in fresh:
                if self._owners.get(client, user) != user:
                    raise BadUpdate("not_owner", f"another user wrote under client id {client}")
        if self._layout is not None:
            self._layout.admit(update, known)
        if user and not heal:
            self._owners.update(dict.fromkeys(fresh, user))

    def truncate(self, known: Mapping[int, int]) -> None:
        """Forget what was admitted and lies beyond this state vector."""
        if self._stored is not None:
            return
        if self._layout is not None:
            self._layout.truncate(known)
        self._owners = {client: user for client, user in self._owners.items() if client in known}

    def pack(self, known: StateVector) -> bytes:
        """To be kept beside a snapshot with this state vector."""
        self._wake()
        layout = self._layout.pack() if self._layout else b""
        owned: dict[str, list[int]] = {}
        for client in sorted(self._owners):
            owned.setdefault(self._owners[client], []).append(client)
        packed: bytes = msgpack.packb([write_state_vector(known), layout, owned])
        return packed

    def _wake(self) -> None:
        """Read what is stored.

        What does not pass the check was stored before there was one: the document goes on, without this part of it.
        """
        if self._stored is None:
            return
        stored, self._stored = self._stored, None
        try:
            known = self._read_snapshot(stored.snapshot, stored.epoch)
            for entry in stored.unsnapshotted:
                self._read_entry(entry, known, binds=entry.seq > stored.epoch_seq and not entry.heal)
        except (BadUpdate, ValueError) as exc:
            self._warn(str(exc))
            self._layout = None

    def _read_snapshot(self, snapshot: Snapshot | None, epoch: bytes) -> StateVector:
        """What was known at the snapshot; returns its state vector."""
        if snapshot is None:
            return {}
        if snapshot.check is None:
            self._layout = Layout.of((snapshot.state,))
            known: StateVector = {}
            read_update(snapshot.state).advance(known)
            return known
        state_vector, layout, owned = msgpack.unpackb(snapshot.check)
        if snapshot.epoch == epoch:
            self._owners = {client: user for user, clients in owned.items() for client in clients}
        try:
            self._layout = Layout.unpack(layout)
        except ValueError:  # another version packed it, or could not make it
            self._layout = Layout.of((snapshot.state,))
        return read_state_vector(state_vector)

    def _read_entry(self, entry: LogEntry, known: StateVector, *, binds: bool) -> None:
        for data in entry.updates:
            update = read_update(data)
            self.admit(update, known, entry.device.user if binds else NOBODY)
            update.advance(known)
