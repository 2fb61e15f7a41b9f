"""The recorded Yjs cases: updates in the order they were delivered, and what the roots hold in the end."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Case:
    """Deliver `updates`; then the roots `text`, `map` and `array` hold these values."""

    number: int
    updates: list[bytes]
    text: str
    map: dict[str, Any]
    array: list[Any]


def cases(path: Path) -> Iterator[Case]:
    """All cases of a gzipped conformance file, which must end after the last."""
    reader = _Lib0(gzip.decompress(path.read_bytes()))
    for number in range(reader.uint()):
        updates = [reader.blob() for _ in range(reader.uint())]
        yield Case(number, updates, reader.blob().decode(), reader.any(), reader.any())
    assert reader.at == len(reader.data)


class _Lib0:
    """The encoding of the file, written down apart from the project's own reader."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, size: int) -> bytes:
        self.at += size
        return self.data[self.at - size : self.at]

    def uint(self) -> int:
        value = shift = 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    def int(self) -> int:
        """Six bits and a sign first, then seven bits a byte."""
        byte = self.take(1)[0]
        sign = -1 if byte & 0x40 else 1
        value, shift = byte & 0x3F, 6
        while byte >= 0x80:
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            shift += 7
        return sign * value

    def blob(self) -> bytes:
        return self.take(self.uint())

    def any(self) -> Any:
        tag = self.take(1)[0]
        match tag:
            case 116:
                return self.blob()
            case 117:
                return [self.any() for _ in range(self.uint())]
            case 118:
                return {self.blob().decode(): self.any() for _ in range(self.uint())}
            case 119:
                return self.blob().decode()
            case 122:
                return struct.unpack(">q", self.take(8))[0]
            case 123:
                return struct.unpack(">d", self.take(8))[0]
            case 124:
                return struct.unpack(">f", self.take(4))[0]
            case 125:
                return self.int()
            case _:
                return {120: True, 121: False, 126: None, 127: None}[tag]
