"""Updates as parts that can be changed into what no library writes, and put together again."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from crdt.update import Id
from crdt.update.decoder import Decoder

GC, DELETED, JSON, BINARY, STRING, EMBED, FORMAT, TYPE, ANY, DOC, SKIP, MOVE = range(12)
ARRAY_TYPE, MAP_TYPE, TEXT_TYPE, XML_ELEMENT, XML_FRAGMENT, XML_HOOK, XML_TEXT, WEAK_LINK = range(8)

XML_SHAPES = (XML_ELEMENT, XML_FRAGMENT, XML_TEXT)

HAS_ORIGIN, HAS_RIGHT, HAS_KEY = 0x80, 0x40, 0x20
_ANYTHING = (1 << 62) - 1


def uint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def blob(data: bytes) -> bytes:
    return uint(len(data)) + data


def text(content: str) -> bytes:
    return blob(content.encode())


def units(content: str) -> int:
    """Its UTF-16 code units."""
    return len(content.encode("utf-16-le")) // 2


@dataclass(slots=True)
class Piece:
    """A struct. `body` is all of its bytes after its place; `flags` are further bits of its first byte."""

    kind: int
    length: int
    body: bytes
    origin: Id | None = None
    right: Id | None = None
    parent: str | Id | None = None
    key: str | None = None
    flags: int = 0

    def encode(self) -> bytes:
        if self.kind == GC:
            return bytes((self.flags,)) + self.body
        info = self.kind | self.flags
        head = b""
        if self.origin is not None:
            info |= HAS_ORIGIN
            head += uint(self.origin.client) + uint(self.origin.clock)
        if self.right is not None:
            info |= HAS_RIGHT
            head += uint(self.right.client) + uint(self.right.clock)
        if not head:
            head = _parent(self.parent)
            if self.key is not None:
                info |= HAS_KEY
                head += text(self.key)
        return bytes((info,)) + head + self.body


def _parent(parent: str | Id | None) -> bytes:
    if isinstance(parent, Id):
        return b"\x00" + uint(parent.client) + uint(parent.clock)
    return b"\x01" + text(parent or "")


@dataclass(slots=True)
class Section:
    """What one client wrote, from `clock` on."""

    client: int
    clock: int
    pieces: list[Piece] = field(default_factory=list)

    @property
    def end(self) -> int:
        return self.clock + sum(piece.length for piece in self.pieces)


@dataclass(slots=True)
class Raw:
    """An update. `deletes` are (client, ranges as (start, length)), in the order in which they are written."""

    sections: list[Section] = field(default_factory=list)
    deletes: list[tuple[int, list[tuple[int, int]]]] = field(default_factory=list)

    def encode(self) -> bytes:
        out = bytearray(uint(len(self.sections)))
        for section in self.sections:
            out += uint(len(section.pieces)) + uint(section.client) + uint(section.clock)
            for piece in section.pieces:
                out += piece.encode()
        out += uint(len(self.deletes))
        for client, ranges in self.deletes:
            out += uint(client) + uint(len(ranges))
            for start, length in ranges:
                out += uint(start) + uint(length)
        return bytes(out)

    def copy(self) -> Raw:
        sections = [replace(section, pieces=[replace(piece) for piece in section.pieces]) for section in self.sections]
        return Raw(sections, [(client, list(ranges)) for client, ranges in self.deletes])


def parse(update: bytes) -> Raw:
    """Take apart an update that `read_update` accepts."""
    reader = _Reader(update)
    raw = Raw()
    for _ in range(reader.count()):
        count, client, clock = reader.count(), reader.uint(), reader.uint()
        raw.sections.append(Section(client, clock, [reader.piece() for _ in range(count)]))
    for _ in range(reader.count()):
        client, count = reader.uint(), reader.count()
        raw.deletes.append((client, [(reader.uint(), reader.uint()) for _ in range(count)]))
    return raw


class _Reader:
    """Has a decoder, and is none: compiled, that can not be extended."""

    def __init__(self, update: bytes) -> None:
        self._update = update
        self._decoder = Decoder(update, values_max=1 << 30)

    def uint(self) -> int:
        return self._decoder.uint(_ANYTHING)

    def count(self) -> int:
        return self._decoder.count()

    def piece(self) -> Piece:
        decoder = self._decoder
        info = self._update[decoder.at]
        decoder.at += 1
        kind = info & 0x1F
        piece = Piece(kind, 1, b"", flags=info & HAS_KEY)
        if kind != GC:
            piece.origin = self._id() if info & HAS_ORIGIN else None
            piece.right = self._id() if info & HAS_RIGHT else None
            if piece.origin is None and piece.right is None:
                piece.parent = decoder.text() if decoder.uint(1) else self._id()
                if info & HAS_KEY:
                    piece.key = decoder.text()
        start = decoder.at
        piece.length = self._body(kind)
        piece.body = self._update[start : decoder.at]
        return piece

    def _id(self) -> Id:
        return Id(self.uint(), self.uint())

    def _body(self, kind: int) -> int:
        decoder = self._decoder
        if kind in (GC, DELETED):
            return decoder.length()
        if kind == STRING:
            return units(decoder.text())
        if kind == ANY:
            count = decoder.length()
            decoder.skip_values(count)
            return count
        if kind == TYPE:
            if self.uint() == XML_ELEMENT:
                decoder.text()
            return 1
        decoder.blob()
        if kind == FORMAT:
            decoder.text()
        if kind == DOC:
            decoder.skip_values(1)
        return 1


def string(content: str) -> Piece:
    return Piece(STRING, units(content), text(content))


def gone(kind: int, length: int) -> Piece:
    """GC or DELETED."""
    return Piece(kind, length, uint(length))


def container(kind: int, tag: str = "p") -> Piece:
    return Piece(TYPE, 1, uint(kind) + (text(tag) if kind in (XML_ELEMENT, XML_HOOK) else b""))


def values(encoded: Iterable[bytes]) -> Piece:
    encoded = list(encoded)
    return Piece(ANY, len(encoded), uint(len(encoded)) + b"".join(encoded))
