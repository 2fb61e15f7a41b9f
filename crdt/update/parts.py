"""One large update in several, for a document to be taken in where an update has bounds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from crdt.update.fitting import TURN_STRUCTS, Piece, in_order, pieces_in_turns, written
from crdt.update.model import DeleteRange, StateVector


def parts(update: bytes, structs_max: int, bytes_max: int) -> Iterator[bytes]:
    """A whole document's update as several, each of which builds on those before it.

    They have at most so many structs and about so many bytes, or one struct that is longer. What builds on what is not
    in the update is left out. Raises BadUpdate for bytes that are no update.
    """
    for part in parts_in_turns(update, {}, structs_max, bytes_max):
        if part is not None:
            yield part


def parts_in_turns(
    update: bytes, known: StateVector, structs_max: int, bytes_max: int, whole_structs_max: int | None = None
) -> Iterator[bytes | None]:
    """As `parts`, for a document with the state vector `known`, which moves on with them: what it deletes of what was
    there before comes last. Between two parts, or Nones, it works for about 20 ms. Raises BadUpdate, too, if the update
    has more than `whole_structs_max` structs, or as many delete ranges.
    """
    sections: dict[int, list[Piece]] = {}
    deletes: list[DeleteRange] = []
    yield from pieces_in_turns(update, sections, deletes, structs_max=whole_structs_max)
    before = dict(known)
    yield from _parts(sections, deletes, known, structs_max, bytes_max)
    for at in range(0, len(deletes), structs_max):
        earlier = [
            DeleteRange(client, start, min(end, before[client]))
            for client, start, end in deletes[at : at + structs_max]
            if start < before.get(client, 0)
        ]
        yield written({}, earlier, known) if earlier else None


def _parts(
    sections: Mapping[int, list[Piece]],
    deletes: list[DeleteRange],
    have: StateVector,
    structs_max: int,
    bytes_max: int,
) -> Iterator[bytes | None]:
    begun = dict(have)
    part: list[Piece] = []
    size = 0
    for looks, piece in enumerate(in_order(sections, have), 1):
        if looks % TURN_STRUCTS == 0:
            yield None
        if piece is None or piece.struct.clock + piece.struct.length <= have.get(piece.struct.client, 0):
            continue
        if len(part) == structs_max or (part and size + len(piece.data) > bytes_max):
            yield _part(part, deletes, begun, have)
            part, size, begun = [], 0, dict(have)
        part.append(piece)
        size += len(piece.data)
        have[piece.struct.client] = piece.struct.clock + piece.struct.length
    if part:
        yield _part(part, deletes, begun, have)


def _part(pieces: list[Piece], deletes: list[DeleteRange], begun: Mapping[int, int], have: Mapping[int, int]) -> bytes:
    """These structs, with what of them is deleted."""
    sections: dict[int, list[Piece]] = {}
    for piece in pieces:
        sections.setdefault(piece.struct.client, []).append(piece)
    own = [
        DeleteRange(client, max(start, begun.get(client, 0)), end)
        for client, start, end in deletes
        if client in sections and end > begun.get(client, 0)
    ]
    return written(sections, own, have)
