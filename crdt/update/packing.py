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

from crdt.update.writer import FIRST, LANE_SHIFT, Writer

if TYPE_CHECKING:
    from crdt.update.layout import Layout

_VERSION = 1


def pack(layout: Layout) -> bytes:
    clients = sorted(layout.writers)
    writers = [layout.writers[client] for client in clients]
    columns = [
        array("Q", clients),
        array("I", (len(writer.starts) for writer in writers)),
        array("I", (len(writer.halves) for writer in writers)),
        array("I", (len(writer.type_ids) for writer in writers)),
        _joined(_steps(writer.starts) for writer in writers),
        _joined(writer.codes for writer in writers),
        _joined(array("I", map(sub, writer.starts, writer.chains)) for writer in writers),
        _joined(_steps(writer.halves) for writer in writers),
        _joined(_steps(writer.type_clocks) for writer in writers),
        _joined(writer.type_ids for writer in writers),
        layout.lanes,
        layout.outer,
        array("I", sorted(layout.deleted)),
    ]
    roots = list(layout.roots.items())
    tables = [
        _VERSION,
        layout.items,
        layout.ranges,
        list(layout.keys),
        roots,
        bytes(layout.kinds),
        bytes(layout.depths),
    ]
    return zlib.compress(msgpack.packb([*tables, *map(_bytes, columns)]), _LEVEL)


def unpack(packed: bytes, layout: Layout) -> None:
    """Fill an empty layout. Raises ValueError for what another version packed."""
    try:
        version, *tables = msgpack.unpackb(zlib.decompress(packed))
    except zlib.error as exc:
        raise ValueError("not a packed layout") from exc
    if version != _VERSION:
        raise ValueError(f"a layout of version {version}")
    layout.items, layout.ranges, keys, roots, kinds, depths = tables[:6]
    layout.keys = {key: number for number, key in enumerate(keys, 1)}
    layout.roots = dict(roots)
    layout.kinds, layout.depths = bytearray(kinds), bytearray(depths)
    clients, runs, halves, types, *columns = map(_array, "QIIIIIIIIIQII", tables[6:])
    starts, codes, into_chains, half_steps, type_steps, type_ids, layout.lanes, layout.outer, deleted = columns
    layout.lane_ids = dict(zip(layout.lanes, range(len(layout.lanes)), strict=True))
    layout.deleted = set(deleted)
    cuts = zip(
        *(
            _cut(starts, runs),
            _cut(codes, runs),
            _cut(into_chains, runs),
            _cut(half_steps, halves),
            _cut(type_steps, types),
            _cut(type_ids, types),
        ),
        strict=True,
    )
    for client, columns_of_client in zip(clients, cuts, strict=True):
        layout.writers[client] = _writer(*columns_of_client)


def _writer(
    starts: array[int],
    codes: array[int],
    into_chains: array[int],
    halves: array[int],
    type_clocks: array[int],
    type_ids: array[int],
) -> Writer:
    writer = Writer()
    writer.starts, writer.codes = array("I", accumulate(starts)), codes
    writer.chains = array("I", map(sub, writer.starts, into_chains))
    writer.halves = array("I", accumulate(halves))
    writer.type_clocks, writer.type_ids = array("I", accumulate(type_clocks)), type_ids
    writer.firsts = {code >> LANE_SHIFT for code in codes if code & FIRST}
    return writer


def _steps(ascending: array[int]) -> array[int]:
    """The differences, which deflate well."""
    return array("I", ascending[:1]) + array("I", map(sub, ascending[1:], ascending))


def _joined(parts: Iterator[array[int]]) -> array[int]:
    joined = array("I")
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
