"""What is so, apart from what anybody says: the log as it was written, and what nobody may lose.

`Broken` is raised when a promise is; its `promise` is the short name that the history and the tables use.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from crdt.chain import OPS_START, OpState
from crdt.ids import DeviceId, DocumentId
from crdt.protocol.frames import Ack, Delta, Opened
from crdt.replica import Replica
from crdt.update import StateVector, Update, read_update
from crdt.update.ranges import Ranges
from server.core.records import LogEntry


class Broken(Exception):
    """A promise does not hold."""

    def __init__(self, promise: str, message: str) -> None:
        super().__init__(f"{promise}: {message}")
        self.promise = promise


def hold(condition: bool, promise: str, message: str) -> None:
    """Raise Broken unless `condition`."""
    if not condition:
        raise Broken(promise, message)


@dataclass(slots=True)
class Chronicle:
    """One document's log: every entry of the present history, though compaction dropped it from the store."""

    document: DocumentId
    entries: list[LogEntry] = field(default_factory=list)
    state_vector: StateVector = field(default_factory=dict)
    owed: StateVector = field(default_factory=dict)
    """What is in the log, or in a store of a device that will come back: none of it may be gone in the end."""
    committed: dict[tuple[DeviceId, int], set[bytes]] = field(default_factory=dict)
    """Hashes at the last op of each entry, of all histories."""
    last_ops: dict[tuple[DeviceId, bytes], int] = field(default_factory=dict)
    halves: set[tuple[int, int]] = field(default_factory=set)
    """The second halves of surrogate pairs, as (client, clock): nothing may come between them and the first ones."""

    def append(self, entries: Iterable[LogEntry], epoch: bytes) -> None:
        for entry in entries:
            where = f"{self.document} entry {entry.seq} of {entry.device}"
            hold(entry.seq == len(self.entries) + 1, "gapless seq", f"{where} after {len(self.entries)}")
            last = self.last_ops.get((entry.device, epoch), 0)
            hold(entry.first_op == last + 1, "gapless op", f"{where}: op {entry.first_op} after {last}")
            self.last_ops[entry.device, epoch] = entry.last_op
            self.committed.setdefault((entry.device, entry.last_op), set()).add(entry.chain)
            for update in entry.updates:
                read = read_update(update)
                missing = read.missing(self.state_vector)
                hold(missing is None, "log order", f"{where} builds on {missing}, which comes later")
                hold(not self._parts(read), "emoji stay whole", where)
                self.halves.update(read.pairs)
                read.advance(self.state_vector)
            self.entries.append(entry)
        self.owe(self.state_vector)

    def _parts(self, update: Update) -> bool:
        """It puts something between two halves of a character, or deletes one of them."""
        origins = (struct.origin for struct in update.structs if struct.origin is not None)
        borders = [(client, border) for client, *span in update.deletes for border in span]
        return any(border in self.halves for border in (*((client, at + 1) for client, at in origins), *borders))

    def owe(self, state_vector: Mapping[int, int]) -> None:
        for client, clock in state_vector.items():
            if clock > self.owed.get(client, 0):
                self.owed[client] = clock

    def forgive(self, held: Iterable[StateVector]) -> None:
        """A store was lost: owed is what the log or another store still has."""
        left = dict(self.state_vector)
        for state_vector in held:
            for client, clock in state_vector.items():
                left[client] = max(clock, left.get(client, 0))
        self.owed = {client: min(clock, left.get(client, 0)) for client, clock in self.owed.items()}

    def set_back(self, entries: Iterable[LogEntry], ops: Mapping[DeviceId, OpState], epoch: bytes) -> None:
        """The store has another copy of the log now, of which these are the entries."""
        self.entries = list(entries)
        self.state_vector = {}
        for entry in self.entries:
            for update in entry.updates:
                read_update(update).advance(self.state_vector)
        self.last_ops = {key: op for key, op in self.last_ops.items() if key[1] != epoch}
        self.last_ops.update({(device, epoch): state.op for device, state in ops.items()})

    def replay(self) -> Replica:
        return Replica.load(update for entry in self.entries for update in entry.updates)

    def deleted(self) -> Ranges:
        updates = (update for entry in self.entries for update in entry.updates)
        return Ranges(span for update in updates for span in read_update(update).deletes)


class Truth:
    """All documents' chronicles, and what they say about frames on their way out of a server (I1: durable first)."""

    def __init__(self) -> None:
        self.chronicles: dict[DocumentId, Chronicle] = {}
        self.rotten: dict[DocumentId, None] = {}
        """Documents that could not be read once, or were read wrongly."""
        self.deadly: set[bytes] = set()
        """Updates that kill whoever applies them."""

    def of(self, document: DocumentId) -> Chronicle:
        return self.chronicles.setdefault(document, Chronicle(document))

    def check_delta(self, document: DocumentId, delta: Delta) -> None:
        entries = self.of(document).entries
        known = 1 <= delta.seq <= len(entries)
        hold(known, "durable before visible", f"DELTA {delta.seq} of {document}, whose log ends at {len(entries)}")
        hold(entries[delta.seq - 1].updates == delta.updates, "the log is sent", f"DELTA {delta.seq} of {document}")

    def check_ack(self, document: DocumentId, device: DeviceId, ack: Ack) -> None:
        chronicle = self.of(document)
        self.check_op(document, device, ack.op, ack.chain, "acknowledged is durable")
        if ack.seq:
            known = ack.seq <= len(chronicle.entries)
            hold(known, "acknowledged is durable", f"ACK of entry {ack.seq} of {document}")
            entry = chronicle.entries[ack.seq - 1]
            own = (entry.device, entry.last_op) == (device, ack.op)
            hold(own, "the log is sent", f"ACK {ack.op} of {device} names entry {ack.seq}, which is another's")

    def check_op(self, document: DocumentId, device: DeviceId, op: int, chain: bytes, promise: str) -> None:
        """The server says that a device's ops up to `op` are in, with this hash."""
        if OpState(op, chain) != OPS_START:
            known = chain in self.of(document).committed.get((device, op), ())
            hold(known, promise, f"op {op} of {device} in {document}")

    def check_opened(self, document: DocumentId, device: DeviceId, opened: Opened) -> None:
        chronicle = self.of(document)
        at = opened.cursor.seq
        hold(at <= len(chronicle.entries), "durable before visible", f"OPENED at {at} of {document}")
        self.check_op(document, device, opened.acked_op, opened.chain, "acknowledged is durable")
        self.check_content(document, opened.updates)

    def check_content(self, document: DocumentId, updates: Iterable[bytes]) -> None:
        """Whatever is shown of a document is in its log."""
        durable = self.of(document).state_vector
        for update in updates:
            for client, (_, end) in read_update(update).sections.items():
                shown = f"{client} up to {end} of {document}, durable up to {durable.get(client, 0)}"
                hold(end <= durable.get(client, 0), "durable before visible", shown)
