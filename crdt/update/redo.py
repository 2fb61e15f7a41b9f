"""What an undo manager wrote the wrong way round, put so that it means the same to everybody."""

from __future__ import annotations

from collections.abc import Collection

from crdt.update.decoder import uint_at
from crdt.update.fitting import Piece, pieces_of, written
from crdt.update.model import CLOCK_MAX, Id

_HAS_ORIGIN, _HAS_RIGHT_ORIGIN = 0x80, 0x40


def without_right_origins(update: bytes, of: Collection[Id]) -> bytes:
    """The update, where structs that begin at these ids name their left neighbours alone; all of them name both."""
    sections, deletes = pieces_of(update)
    named = set(of)
    for pieces in sections.values():
        for index, piece in enumerate(pieces):
            if (piece.struct.client, piece.struct.clock) in named:
                pieces[index] = _behind_left(piece)
    return written(sections, deletes, dict.fromkeys((client for client, _, _ in deletes), CLOCK_MAX))


def _behind_left(piece: Piece) -> Piece:
    data = piece.data
    assert data[0] & _HAS_ORIGIN
    assert data[0] & _HAS_RIGHT_ORIGIN
    at, ends = 1, []
    for _ in range(4):  # client and clock of either neighbour
        _, at = uint_at(data, at)
        ends.append(at)
    return Piece(
        piece.struct._replace(right_origin=None),
        bytes((data[0] & ~_HAS_RIGHT_ORIGIN,)) + data[1 : ends[1]] + data[ends[3] :],
    )
