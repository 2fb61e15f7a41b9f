"""The write-ahead log beside a store's file, as the file format has it.

https://www.sqlite.org/fileformat2.html: "The WAL File Format". SQLite reads a log up to the first frame whose checksum
is wrong, and says nothing: so looks a transaction that a crash cut off. A flipped bit looks the same, and takes with it
all transactions behind it. But what was cut off has no end. So where the frame that ends a transaction stands, whole,
behind what SQLite took, the log is damaged.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from client_sim.store.pages import PAGE_BYTES

_HEADER_BYTES = 32
_FRAME_HEADER_BYTES = 24
_FRAME_BYTES = _FRAME_HEADER_BYTES + PAGE_BYTES
_MAGIC = (0x377F0682, 0x377F0683)
_FILE_VERSIONS = slice(18, 20)
"""Where a database says that it has a log: one that is read from memory has none."""


class Frame(NamedTuple):
    """One page, as a transaction left it."""

    page: int
    """Which, from 1 on."""
    ends: bool
    """It is the last of its transaction."""
    content: bytes


def frames(log: bytes) -> list[Frame]:
    """The frames of whole transactions, whatever their checksums say; not what an earlier log left behind them."""
    found: list[Frame] = []
    ended = 0
    for frame in _present(log):
        found.append(frame)
        if frame.ends:
            ended = len(found)
    return found[:ended]


def _present(log: bytes) -> Iterator[Frame]:
    """A log that begins anew overwrites the one before it, and has other salts: one of two may be damaged."""
    salts = _salts(log)
    for at in range(_HEADER_BYTES, len(log) - _FRAME_BYTES + 1, _FRAME_BYTES):
        page, size, *its_salts = struct.unpack_from(">4I", log, at)
        if any(its == present for its, present in zip(its_salts, salts, strict=True)):
            yield Frame(page, size != 0, log[at + _FRAME_HEADER_BYTES : at + _FRAME_BYTES])


def _salts(log: bytes) -> tuple[int, ...]:
    """As its header has them; where that can not be read, as its first frame has them."""
    if len(log) < _HEADER_BYTES + _FRAME_BYTES:
        return (0, 0)
    (magic,) = struct.unpack_from(">I", log)
    return struct.unpack_from(">2I", log, 16 if magic in _MAGIC else _HEADER_BYTES + 8)


def replayed(database: bytes, log: bytes) -> bytes:
    """The database once all of the log is in, as one that has no log. What is damaged in a frame is so in its page."""
    image = bytearray(database)
    written = frames(log)
    pages_max = len(image) // PAGE_BYTES + len(written)
    for frame in written:
        if 0 < frame.page <= pages_max:
            end = frame.page * PAGE_BYTES
            image.extend(bytes(max(0, end - len(image))))
            image[end - PAGE_BYTES : end] = frame.content
    if len(image) >= _FILE_VERSIONS.stop:
        image[_FILE_VERSIONS] = b"\1\1"
    return bytes(image)
