"""Rows of a SQLite file whose tables can not be followed any more: each page by itself, as the file format has them.

https://www.sqlite.org/fileformat2.html: "B-tree Pages" and "Record Format". Whether a row is one, and of which table,
its seal has to say. Rows that were deleted may be among them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

PAGE_BYTES = 4096
"""SQLite's default, with which stores are begun."""
_LEAF = 0x0D
_HEADER_BYTES = 100
"""Of the file, at the beginning of its first page."""
_INT_BYTES = (0, 1, 2, 3, 4, 6, 8)
"""By serial type."""

Value = int | bytes | None
_Broken = (IndexError, ValueError, struct.error)


def rows_on_pages(data: bytes) -> Iterator[tuple[Value, ...]]:
    """The rows of all tables in `data`, a whole file, that can be made out."""
    for start in range(0, len(data) - PAGE_BYTES + 1, PAGE_BYTES):
        header = start or _HEADER_BYTES
        if data[header] != _LEAF:
            continue
        (count,) = struct.unpack_from(">H", data, header + 3)
        for at in range(header + 8, min(header + 8 + 2 * count, start + PAGE_BYTES - 1), 2):
            (offset,) = struct.unpack_from(">H", data, at)
            try:
                yield _record(_payload(data, start, start + offset))
            except _Broken:
                continue


def _payload(data: bytes, page: int, at: int) -> bytes:
    """A cell's content, with what of it is on other pages."""
    size, at = _varint(data, at)
    _, at = _varint(data, at)  # the row's id
    local = _local_bytes(size)
    end = at + local + (4 if local < size else 0)
    if end > page + PAGE_BYTES or size > len(data):
        raise ValueError("a cell that is longer than its page, or the file")
    parts, missing = [data[at : at + local]], size - local
    following = end - 4
    while missing > 0:
        (number,) = struct.unpack_from(">I", data, following)
        following = (number - 1) * PAGE_BYTES
        if number == 0:
            raise ValueError("a chain of pages that ends too early")
        parts.append(data[following + 4 : following + 4 + min(missing, PAGE_BYTES - 4)])
        missing -= PAGE_BYTES - 4
    return b"".join(parts)


def _local_bytes(size: int) -> int:
    """How much of a payload is in its cell."""
    most, least = PAGE_BYTES - 35, (PAGE_BYTES - 12) * 32 // 255 - 23
    if size <= most:
        return size
    fitting = least + (size - least) % (PAGE_BYTES - 4)
    return fitting if fitting <= most else least


def _record(payload: bytes) -> tuple[Value, ...]:
    size, at = _varint(payload, 0)
    types = []
    while at < size:
        serial, at = _varint(payload, at)
        types.append(serial)
    values = []
    for serial in types:
        value, at = _value(payload, at, serial)
        values.append(value)
    return tuple(values)


def _value(payload: bytes, at: int, serial: int) -> tuple[Value, int]:
    match serial:
        case 0:
            return None, at
        case 8 | 9:
            return serial - 8, at
        case _ if serial < len(_INT_BYTES):
            end = at + _INT_BYTES[serial]
            return int.from_bytes(payload[at:end], "big", signed=True), end
        case _ if serial >= 12 and serial % 2 == 0:
            end = at + (serial - 12) // 2
            if end > len(payload):
                raise ValueError("a value that is longer than its record")
            return payload[at:end], end
        case _:
            raise ValueError(f"no store has values of type {serial}")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for index in range(9):
        byte = data[at + index]
        if index == 8:
            return value << 8 | byte, at + 9
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            break
    return value, at + index + 1
