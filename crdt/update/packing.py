"""A layout as bytes: its tables as columns, deflated."""

from __future__ import annotations

import sys
import zlib
from array import array
from collections.abc import Iterator
from itertools import accumulate
from operator import sub
from typing import TYPE_CHECKING

import msgpack

from crdt.update.writer import Writer

if TYPE_CHECKING:
    from crdt.update.layout import Layout

_VERSION = 2


def pack(layout: Layout) -> bytes:
    writers = layout.by_number
    tables = [list(layout.keys), list(layout.roots.items()), bytes(layout.kinds), bytes(layout.depths)]
    columns = [
        array("Q", layout.writers),
        array("I", (len(writer.starts) for writer in writers)),
        array("I", (len(writer.halves) for writer in writers)),
        array("I", (len(writer.type_ids) for writer in writers)),
        array("I", (len(writer.firsts) for writer in writers)),
        _joined("I", (_steps(writer.starts) for writer in writers)),
        _joined("I", (writer.codes for writer in writers)),
        _joined("I", (array("I", map(sub, writer.starts, writer.chains)) for writer in writers)),
        _joined("Q", (writer.lefts for writer in writers)),
        _joined("Q", (writer.rights for writer in writers)),
        _joined("I", (_steps(writer.halves) for writer in writers)),
        _joined("I", (_steps(writer.type_clocks) for writer in writers)),
        _joined("I", (writer.type_ids for writer in writers)),
        _joined("I", (array("I", sorted(writer.firsts)) for writer in writers)),
        layout.lanes,
        layout.sizes,
        layout.outer,
        array("I", sorted(layout.deleted)),
    ]
    packed: bytes = msgpack.packb([_VERSION, layout.ranges, *tables, *map(_bytes, columns)])
    return zlib.compress(packed, _LEVEL)


def unpack(packed: bytes, layout: Layout) -> None:
    """Fill an empty layout. Raises ValueError for what another version packed."""
    try:
        version, *tables = msgpack.unpackb(zlib.decompress(packed))
    except zlib.error as exc:
        raise ValueError("not a packed layout") from exc
    if version != _VERSION:
        raise ValueError(f"a layout of version {version}")
    layout.ranges, keys, roots, kinds, depths, *data = tables
    layout.keys = {key: number for number, key in enumerate(keys, 1)}
    layout.roots = dict(roots)
    layout.kinds, layout.depths = bytearray(kinds), bytearray(depths)
    clients, runs, halves, types, firsts, *columns = map(_array, _TYPECODES, data)
    *columns, layout.lanes, layout.sizes, layout.outer, deleted = columns
    layout.items = sum(layout.sizes)
    layout.lane_ids = dict(zip(layout.lanes, range(len(layout.lanes)), strict=True))
    layout.deleted = set(deleted)
    cuts = map(_cut, columns, (runs, runs, runs, runs, runs, halves, types, types, firsts))
    layout.by_number = list(map(_writer, clients, range(len(clients)), *cuts))
    layout.writers = dict(zip(clients, layout.by_number, strict=True))


def _writer(
    client: int,
    number: int,
    starts: array[int],
    codes: array[int],
    into_chains: array[int],
    lefts: array[int],
    rights: array[int],
    halves: array[int],
    type_clocks: array[int],
    type_ids: array[int],
    firsts: array[int],
) -> Writer:
    writer = Writer(client, number)
    writer.starts, writer.codes = array("I", accumulate(starts)), codes
    writer.chains = array("I", map(sub, writer.starts, into_chains))
    writer.lefts, writer.rights = lefts, rights
    writer.halves = array("I", accumulate(halves))
    writer.type_clocks, writer.type_ids = array("I", accumulate(type_clocks)), type_ids
    writer.firsts = set(firsts)
    return writer


def _steps(ascending: array[int]) -> array[int]:
    """The differences, which deflate well."""
    return array("I", ascending[:1]) + array("I", map(sub, ascending[1:], ascending))


def _joined(typecode: str, parts: Iterator[array[int]]) -> array[int]:
    joined: array[int] = array(typecode)
    for part in parts:
        joined += part
    return joined


def _cut(column: array[int], sizes: array[int]) -> Iterator[array[int]]:
    at = 0
    for size in sizes:
        yield column[at : at + size]
        at += size


def _bytes(column: array[int]) -> bytes:
    return _little(column).tobytes()


def _array(typecode: str, data: bytes) -> array[int]:
    column: array[int] = array(typecode)
    column.frombytes(data)
    return _little(column)


def _little(column: array[int]) -> array[int]:
    """The same with the bytes in little-endian order, or back."""
    if sys.byteorder == "big":
        column = column[:]
        column.byteswap()
    return column


_LEVEL = 6
_TYPECODES = "QIIIIIIIQQIIIIQIII"
"""Of all columns, in their order."""
