"""The part of an update that a document can take, where the rest builds on what nobody here has.

A Yjs client holds back what it can not place, and gives it to others with all that it has: behind a gap (a *skip*), or
beside content that is missing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from crdt.errors import BadUpdate
from crdt.update.decoder import write_uint
from crdt.update.model import CLOCK_MAX, DeleteRange, Id, StateVector, Struct
from crdt.update.reader import Reader

LOOKS_MAX = 50_000
"""How often it is looked whether a client can go on: what was not found by then is left out too. About 0.1 s."""

TURN_STRUCTS = 4_000
"""So many are read in 20 ms."""

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
    ready, waiting = deque(sections), dict[int, list[int]]()
    for _ in range(LOOKS_MAX):
        if not ready:
            break
        client = ready.popleft()
        moved, blocked_by = _take(sections[client], taken[client], have)
        if blocked_by is not None:
            waiting.setdefault(blocked_by, []).append(client)
        if moved:
            ready.extend(waiting.pop(client, ()))
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
    """As `pieces_of`, into what is given, with a stop every `TURN_STRUCTS` structs. Raises BadUpdate."""
    reader = _Placing(update, bounded)
    if structs_max is not None:
        reader.allow(structs_max)
    try:
        yield from reader.sections_with_gaps(sections)
        deletes += reader.deletes()
    except IndexError as exc:
        raise BadUpdate("malformed", "the update is cut off") from exc


def _take(pieces: list[Piece], taken: list[Piece], have: dict[int, int]) -> tuple[int, int | None]:
    """Move a client's next structs to those that are taken, as many as fit: how many, and whom the next awaits."""
    count, blocked_by = 0, None
    for piece in pieces:
        client, clock = piece.struct.client, piece.struct.clock
        blocked_by = missing(piece.struct, have)
        if blocked_by is not None:
            break
        if taken and clock != taken[-1].struct.clock + taken[-1].struct.length:  # what is before the gap is known
            taken.clear()
        taken.append(piece)
        have[client] = max(have.get(client, 0), clock + piece.struct.length)
        count += 1
    del pieces[:count]
    return count, blocked_by


def missing(struct: Struct, have: Mapping[int, int]) -> int | None:
    """A client of whom something is missing that this builds on."""
    if struct.clock > have.get(struct.client, 0):
        return struct.client
    for ref in (struct.origin, struct.right_origin, struct.parent):
        if isinstance(ref, Id) and ref.clock >= have.get(ref.client, 0):
            return ref.client
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
    """Reads skips too, and keeps the bytes of each struct."""

    __slots__ = ()

    def allow(self, structs: int) -> None:
        """No more than so many."""
        self._structs_left = structs

    def sections_with_gaps(self, pieces_of: dict[int, list[Piece]]) -> Iterator[None]:
        """Stops every `TURN_STRUCTS` structs."""
        for _ in range(self.count()):
            client, start, struct_count = self.section()
            clock, pieces = start, pieces_of.setdefault(client, [])
            for number in range(1, struct_count + 1):
                if number % TURN_STRUCTS == 0:
                    yield
                at = self.at
                if self.data[at] == _SKIP:
                    self.at += 1
                    clock += self.length()
                    continue
                struct = self.struct(client, clock)
                clock += struct.length
                pieces.append(Piece(struct, self.data[at : self.at]))
            if clock > CLOCK_MAX:
                raise BadUpdate("limit", f"a clock is over {CLOCK_MAX}")
            self.sections[client] = (start, clock)
            yield
