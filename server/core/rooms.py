"""The rooms of this process: found by document, kept within a memory budget, compacted one at a time."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from itertools import count

from crdt.ids import DeviceId, DocumentId
from server.core.desk import Desk
from server.core.effects import Compact
from server.core.room import Room


class Rooms:
    """Rooms by document."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._rooms: dict[DocumentId, Room] = {}
        self._loaded: OrderedDict[DocumentId, Room] = OrderedDict()
        """Those with a replica, the least recently used first."""
        self._handles = count(1)
        self._resident: dict[DocumentId, int] = {}
        self._resident_bytes = 0
        self._compaction_waits: dict[DocumentId, None] = {}
        self._compacting: DocumentId | None = None

    def __len__(self) -> int:
        return len(self._rooms)

    def __iter__(self) -> Iterator[Room]:
        return iter(list(self._rooms.values()))

    @property
    def resident_bytes(self) -> int:
        """About how much memory all documents take."""
        return self._resident_bytes

    def find(self, document: DocumentId) -> Room | None:
        return self._rooms.get(document)

    def use(self, document: DocumentId) -> Room:
        """The document's room, made if there is none yet; the last to be evicted from now on."""
        room = self._rooms.get(document)
        if room is None:
            room = self._rooms[document] = Room(document, next(self._handles), self._desk)
        if document in self._loaded:
            self._loaded.move_to_end(document)
        return room

    def drop_queued(self, devices: Sequence[DeviceId]) -> None:
        """They may write no more: forget their ops, wherever they wait, and on whatever connection they came."""
        for room in self if devices else ():
            for device in devices if room.unsaved else ():
                room.drop_queued(device)

    def changed(self, room: Room) -> None:
        """Count what the room takes now, and have it compacted if that is due."""
        self._count(room.document, room.resident_bytes)
        if room.is_loaded:
            self._loaded.setdefault(room.document, room)
        else:
            self._loaded.pop(room.document, None)
        options = self._desk.options
        if options.compaction.due(room.growth, self._desk.wall_ms()) and room.document != self._compacting:
            self._compaction_waits[room.document] = None
            self._next_compaction()

    def compacted(self, document: DocumentId, seq: int, snapshot_bytes: int) -> None:
        """Entries up to `seq` are in a snapshot now."""
        if room := self.find(document):
            room.growth.restart(snapshot_bytes, room.tail.after(seq) or ())
        self._compaction_ended()

    def compaction_failed(self, document: DocumentId) -> None:
        """The document is as it was."""
        if room := self.find(document):
            room.growth.put_off()
        self._compaction_ended()

    def _compaction_ended(self) -> None:
        self._compacting = None
        self._next_compaction()

    def _next_compaction(self) -> None:
        """One at a time: it is work that can wait."""
        if self._compacting is None and self._compaction_waits:
            self._compacting = next(iter(self._compaction_waits))
            del self._compaction_waits[self._compacting]
            self._desk.emit(Compact(self._compacting))

    def evict(self) -> None:
        """Drop replicas over the budget, the least recently used first; what is busy stays."""
        bytes_max = self._desk.options.resident_bytes_max
        if self._resident_bytes <= bytes_max:
            return
        for document, room in list(self._loaded.items()):
            if room.busy:
                continue
            room.evict()
            del self._loaded[document]
            self._count(document, room.resident_bytes)
            self._forget_if_idle(room)
            if self._resident_bytes <= bytes_max:
                return

    def forget_idle(self) -> None:
        """Drop the rooms that hold nothing and that nobody has open."""
        for room in self:
            self._forget_if_idle(room)

    def _forget_if_idle(self, room: Room) -> None:
        if not (room.busy or room.is_loaded or len(room.members)):
            self._count(room.document, 0)
            del self._rooms[room.document], self._resident[room.document]

    def _count(self, document: DocumentId, resident_bytes: int) -> None:
        self._resident_bytes += resident_bytes - self._resident.get(document, 0)
        self._resident[document] = resident_bytes
