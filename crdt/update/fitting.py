"""The part of an update that a document can take, where the rest builds on what nobody here has.

A Yjs client holds back what it can not place, and gives it to others with all that it has: behind a gap (a *skip*), or
beside content that is missing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from heapq import heappop, heappush
from typing import NamedTuple

from crdt.errors import BadUpdate
from crdt.update.decoder import VALUES_MAX, write_uint
from crdt.update.model import CLOCK_MAX, DeleteRange, Id, StateVector, Struct
from crdt.update.reader import Reader

TURN_STRUCTS = 4_000
"""So many are read, or looked at, in 20 ms."""

TURN_BYTES = 32 << 10
"""So many are read in 20 ms, whatever they are, beside one struct that is longer."""

_SKIP = 10


class Piece(NamedTuple):
    """A struct, and its bytes."""

    struct: Struct
    data: bytes


def fitting(update: bytes, known: Mapping[int, int]) -> bytes:
    """What of `update` has all that it builds on in itself or in a document with the state vector `known`.

    Raises BadUpdate for bytes that are no update.
    """
    sections, deletes = pieces_of(update, bounded=True)
    have = dict(known)
    taken: dict[int, list[Piece]] = {client: [] for client in sections}
    for piece in in_order(sections, have):
        if piece is None:
            continue
        client, clock = piece.struct.client, piece.struct.clock
        pieces = taken[client]
        if pieces and clock != pieces[-1].struct.clock + pieces[-1].struct.length:  # what is before the gap is known
            pieces.clear()
        pieces.append(piece)
        have[client] = max(have.get(client, 0), clock + piece.struct.length)
    return written({client: pieces for client, pieces in taken.items() if pieces}, deletes, have)


def reach(update: bytes) -> StateVector:
    """Up to where each client's structs go, whether anybody can place them or not. Raises BadUpdate."""
    sections, _ = pieces_of(update)
    ends = {client: pieces[-1].struct for client, pieces in sections.items() if pieces}
    return {client: last.clock + last.length for client, last in ends.items()}


def pieces_of(update: bytes, *, bounded: bool = False) -> tuple[dict[int, list[Piece]], list[DeleteRange]]:
    """Each client's structs, gaps left out, and what is deleted. Raises BadUpdate."""
    sections: dict[int, list[Piece]] = {}
    deletes: list[DeleteRange] = []
    for _ in pieces_in_turns(update, sections, deletes, bounded=bounded):
        pass
    return sections, deletes


def pieces_in_turns(
    update: bytes,
    sections: dict[int, list[Piece]],
    deletes: list[DeleteRange],
    *,
    bounded: bool = False,
    structs_max: int | None = None,
) -> Iterator[None]:
    """As `pieces_of`, into what is given, with a stop every 20 ms. Raises BadUpdate, too, for more than `structs_max`
    structs, or as many delete ranges."""
    reader = _Placing(update, bounded)
    if structs_max is not None:
        reader.allow(structs_max)
    try:
        yield from reader.sections_with_gaps(sections)
        yield from reader.deletes_in_turns(deletes)
    except IndexError as exc:
        raise BadUpdate("malformed", "the update is cut off") from exc


def in_order(sections: Mapping[int, list[Piece]], have: Mapping[int, int]) -> Iterator[Piece | None]:
    """Each piece after what it builds on, once the caller has noted in `have` that it took those.

    None for a client that can not go on yet, or never can: each piece is looked at a few times at most.
    """
    queues = {client: pieces[::-1] for client, pieces in sections.items()}
    ready = deque(queues)
    waiting: dict[int, list[tuple[int, int]]] = {}
    """By client: up to which of its clocks who waits."""
    while ready:
        client = ready.popleft()
        queue = queues[client]
        while queue:
            ref = _missing(queue[-1].struct, have)
            if ref is not None:
                heappush(waiting.setdefault(ref.client, []), (ref.clock, client))
                yield None
                break
            yield queue.pop()
        waiters = waiting.get(client, [])
        while waiters and waiters[0][0] < have.get(client, 0):
            ready.append(heappop(waiters)[1])


def _missing(struct: Struct, have: Mapping[int, int]) -> Id | None:
    """Something that this builds on and that is not there."""
    if struct.clock > have.get(struct.client, 0):
        return Id(struct.client, struct.clock - 1)
    for ref in (struct.origin, struct.right_origin, struct.parent):
        if isinstance(ref, Id) and ref.clock >= have.get(ref.client, 0):
            return ref
    return None


def written(taken: dict[int, list[Piece]], deletes: list[DeleteRange], have: Mapping[int, int]) -> bytes:
    out = bytearray()
    write_uint(out, len(taken))
    for client, pieces in taken.items():
        write_uint(out, len(pieces))
        write_uint(out, client)
        write_uint(out, pieces[0].struct.clock)
        out += b"".join(piece.data for piece in pieces)
    _write_deletes(out, deletes, have)
    return bytes(out)


def _write_deletes(out: bytearray, deletes: list[DeleteRange], have: Mapping[int, int]) -> None:
    by_client: dict[int, list[tuple[int, int]]] = {}
    for client, start, end in deletes:
        end = min(end, have.get(client, 0))
        if start < end:
            by_client.setdefault(client, []).append((start, end - start))
    write_uint(out, len(by_client))
    for client, ranges in by_client.items():
        write_uint(out, client)
        write_uint(out, len(ranges))
        for start, length in ranges:
            write_uint(out, start)
            write_uint(out, length)


class _Placing(Reader):
    """Reads skips too, and keeps the bytes of each struct. What is in these is checked where they are taken."""

    __slots__ = ("_ranges_left", "_turn_ends_at", "_turn_left")

    def __init__(self, data: bytes, bounded: bool) -> None:
        super().__init__(data, bounded)
        self._ranges_left = len(data)
        self._turn_left, self._turn_ends_at = TURN_STRUCTS, TURN_BYTES

    def allow(self, most: int) -> None:
        """No more structs, and no more delete ranges."""
        self._structs_left = self._ranges_left = most

    def sections_with_gaps(self, pieces_of: dict[int, list[Piece]]) -> Iterator[None]:
        for _ in range(self.count()):
            client, start, struct_count = self.section()
            clock, pieces = start, pieces_of.setdefault(client, [])
            for _ in range(struct_count):
                if self._is_turn_over(1):
                    yield
                at = self.at
                if self.data[at] == _SKIP:
                    self.at += 1
                    clock += self.length()
                    continue
                self._values_left = VALUES_MAX  # each struct may go in alone
                struct = self.struct(client, clock)
                clock += struct.length
                pieces.append(Piece(struct, self.data[at : self.at]))
            if clock > CLOCK_MAX:
                raise BadUpdate("limit", f"a clock is over {CLOCK_MAX}")
            self.sections[client] = (start, clock)

    def deletes_in_turns(self, deletes: list[DeleteRange]) -> Iterator[None]:
        clients: set[int] = set()
        for _ in range(self.count()):
            client, left = self.delete_section(clients)
            self._ranges_left -= left
            if self._ranges_left < 0:
                raise BadUpdate("limit", "too many delete ranges")
            while left:
                count = min(left, TURN_STRUCTS)
                self.ranges(client, count, deletes)
                left -= count
                if self._is_turn_over(count):
                    yield

    def skip_json(self) -> None:
        self.blob()

    def _units(self, text: str, client: int, clock: int) -> int:
        return len(text.encode("utf-16-le")) // 2

    def _is_turn_over(self, read: int) -> bool:
        """So many structs or ranges more are read, or about to be."""
        self._turn_left -= read
        if self._turn_left > 0 and self.at < self._turn_ends_at:
            return False
        self._turn_left, self._turn_ends_at = TURN_STRUCTS, self.at + TURN_BYTES
        return True
