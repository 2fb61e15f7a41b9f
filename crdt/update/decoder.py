"""The encoding that updates and state vectors are written in (lib0): integers, strings, embedded values."""

from __future__ import annotations

from typing import Final

from crdt.errors import BadUpdate
from crdt.update.embedded import check_json
from crdt.update.model import CLOCK_MAX

DEPTH_MAX = 32
"""Lists and objects within lists and objects, in one embedded value or JSON text."""

VALUES_MAX = 100_000
"""Embedded values in one update, those within others counted too."""


def uint_at(data: bytes, at: int) -> tuple[int, int]:
    """An integer, little end first and seven bits a byte, and where the next field begins.

    Raises IndexError at the end of the bytes, and BadUpdate for one that is too long or could be written shorter.
    """
    value = data[at]
    if value < 0x80:
        return value, at + 1
    value &= 0x7F
    shift = 7
    byte = data[at + 1]
    while byte >= 0x80:
        if shift == _SHIFT_MAX:
            raise BadUpdate("malformed", "an integer is too long")
        value |= (byte & 0x7F) << shift
        shift += 7
        at += 1
        byte = data[at + 1]
    if not byte:
        raise BadUpdate("malformed", "an integer could be written shorter")
    return value | byte << shift, at + 2


def write_uint(out: bytearray, value: int) -> None:
    """What `uint_at` reads."""
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)


class Decoder:
    """A position in bytes. Reading past their end raises IndexError, all else that is wrong BadUpdate."""

    __slots__ = ("_values_left", "at", "data")

    def __init__(self, data: bytes, values_max: int = 0) -> None:
        self.data = data
        self.at = 0
        self._values_left = values_max

    def uint(self, maximum: int) -> int:
        """An integer from 0 to `maximum`."""
        value = self.data[self.at]
        if value < 0x80:
            self.at += 1
        else:
            value, self.at = uint_at(self.data, self.at)
        if value > maximum:
            raise BadUpdate("limit", f"{value} is over {maximum}")
        return value

    def count(self) -> int:
        """A count of items that take at least a byte each."""
        return self.uint(len(self.data) - self.at)

    def length(self) -> int:
        """A count of clocks."""
        length = self.uint(CLOCK_MAX)
        if not length:
            raise BadUpdate("malformed", "a struct or range has no length")
        return length

    def blob(self) -> bytes:
        """Bytes with their length in front."""
        size = self.uint(len(self.data))
        start, self.at = self.at, self.at + size
        if self.at > len(self.data):
            raise IndexError(self.at)
        return self.data[start : self.at]

    def text(self) -> str:
        try:
            return self.blob().decode()
        except UnicodeDecodeError as exc:
            raise BadUpdate("malformed", "a string is not UTF-8") from exc

    def skip_json(self) -> None:
        """Step over one JSON text."""
        check_json(self.text(), DEPTH_MAX)

    def skip_values(self, count: int) -> None:
        """Step over embedded values (lib0 Any)."""
        for _ in range(count):
            self._skip_any(DEPTH_MAX)

    def skip_options(self) -> None:
        """Step over what a subdocument is made with: an object. Yjs would take a `guid` in it for the document's."""
        if self.data[self.at] != _OBJECT:
            raise BadUpdate("malformed", "the options of a subdocument are no object")
        self.at += 1
        for _ in range(self.count()):
            if self.text() == "guid":
                raise BadUpdate("malformed", "the options of a subdocument name its guid")
            self._skip_any(DEPTH_MAX)

    def _skip_any(self, depth: int) -> None:
        self._values_left -= 1
        if self._values_left < 0:
            raise BadUpdate("limit", f"more than {VALUES_MAX} values")
        tag = self.data[self.at]
        self.at += 1
        if tag == _STRING:
            self.text()
        elif tag == _INTEGER:
            self._skip_integer()
        elif tag in _FIXED_BYTES:
            self._skip(_FIXED_BYTES[tag])
        elif tag in (_ARRAY, _OBJECT):
            if not depth:
                raise BadUpdate("limit", f"values are nested more than {DEPTH_MAX} deep")
            self._skip_items(tag == _OBJECT, depth - 1)
        elif tag == _BINARY:
            self.blob()
        else:
            raise BadUpdate("malformed", f"no value begins with {tag}")

    def _skip_items(self, keyed: bool, depth: int) -> None:
        for _ in range(self.count()):
            if keyed:
                self.text()
            self._skip_any(depth)

    def _skip_integer(self) -> None:
        """A signed one: six bits and the sign first, then seven bits a byte."""
        byte = self.data[self.at]
        start = self.at
        self.at += 1
        if byte < 0x80:
            return
        while byte >= 0x80:
            byte = self.data[self.at]
            self.at += 1
        size = self.at - start
        if not byte:
            raise BadUpdate("malformed", "an integer could be written shorter")
        if size > _INTEGER_BYTES_MAX or (size == _INTEGER_BYTES_MAX and byte > _INTEGER_LAST_MAX):
            raise BadUpdate("limit", "a whole number is over 53 bits")

    def _skip(self, size: int) -> None:
        self.at += size
        if self.at > len(self.data):
            raise IndexError(self.at)


_SHIFT_MAX: Final = 56
"""The ninth byte of an integer is the last: the library refuses longer ones."""

_INTEGER_BYTES_MAX, _INTEGER_LAST_MAX = 8, 0x1F
"""53 bits are six in the first byte, 42 in the next six, five in the eighth."""

_BINARY, _ARRAY, _OBJECT, _STRING, _INTEGER = 116, 117, 118, 119, 125
_FIXED_BYTES = {120: 0, 121: 0, 122: 8, 123: 8, 124: 4, 126: 0, 127: 0}
"""Size of true, false, bigint, float64, float32, null and undefined."""
