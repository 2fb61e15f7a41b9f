"""What the independent device has to know of Yjs updates, and the audit's digest, after docs/PROTOCOL.md ("Audit").

Frozen with protocol 1.0, as `device.py` is.
"""

from __future__ import annotations

import hashlib
import json
import math
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any, cast

from pycrdt import Array, Doc, Map, Text, XmlElement, XmlFragment, XmlText

Id = tuple[int, int]  # client, clock
Place = tuple["str | Id", str | None]  # a root's name or a type's id, and the key there
GC, DELETED, BINARY, STRING, EMBED, FORMAT, TYPE, ANY, DOC = 0, 1, 3, 4, 5, 6, 7, 8, 9
RANK = ["text", "xml", "array", "map"]
ROOTS: dict[str, type[Any]] = {"text": Text, "xml": XmlFragment, "array": Array, "map": Map}


@dataclass(frozen=True, slots=True)
class Struct:
    client: int
    clock: int
    length: int
    content: int
    shape: int | None  # of a Type: which one
    origin: Id | None
    right: Id | None
    place: Place | None


class Reader:
    """Reads the grammar at the end of "Audit"."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, length: int) -> bytes:
        taken = self.data[self.at : self.at + length]
        if len(taken) != length:
            raise ValueError("an update that ends early")
        self.at += length
        return taken

    def byte(self) -> int:
        return self.take(1)[0]

    def uint(self) -> int:
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    def blob(self) -> bytes:
        return self.take(self.uint())

    def text(self) -> str:
        return self.blob().decode()

    def id(self) -> Id:
        return self.uint(), self.uint()

    def skip_any(self) -> None:
        tag = self.byte()
        if tag == 125:
            self.uint()  # signed, but the bytes end alike
        elif tag in (122, 123, 124):
            self.take({122: 8, 123: 8, 124: 4}[tag])
        elif tag in (116, 119):
            self.blob()
        elif tag in (117, 118):
            for _ in range(self.uint()):
                if tag == 118:
                    self.text()
                self.skip_any()
        elif tag not in (120, 121, 126, 127):
            raise ValueError(f"no value has tag {tag}")

    def content(self, kind: int) -> tuple[int, int | None]:
        """The length in clocks, and which type it is if it is one."""
        if kind == DELETED:
            return self.uint(), None
        if kind == STRING:
            return len(self.text().encode("utf-16-le")) // 2, None
        if kind == ANY:
            count = self.uint()
            for _ in range(count):
                self.skip_any()
            return count, None
        if kind == TYPE:
            shape = self.uint()
            if shape == 3:
                self.text()
            return 1, shape
        if kind in (BINARY, EMBED, DOC, FORMAT):
            self.blob()
            if kind == FORMAT:
                self.text()
            if kind == DOC:
                self.skip_any()
            return 1, None
        raise ValueError(f"no struct has kind {kind}")

    def struct(self, client: int, clock: int) -> Struct:
        info = self.byte()
        if info == GC:
            return Struct(client, clock, self.uint(), GC, None, None, None, None)
        origin = self.id() if info & 0x80 else None
        right = self.id() if info & 0x40 else None
        place: Place | None = None
        if origin is None and right is None:
            parent = self.text() if self.uint() else self.id()
            place = (parent, self.text() if info & 0x20 else None)
        length, shape = self.content(info & 0x1F)
        return Struct(client, clock, length, info & 0x1F, shape, origin, right, place)

    def update(self) -> tuple[list[Struct], list[tuple[int, int]]]:
        """The structs, and how far the delete set reaches into each client."""
        structs: list[Struct] = []
        for _ in range(self.uint()):
            count, client, clock = self.uint(), self.uint(), self.uint()
            for _ in range(count):
                structs.append(self.struct(client, clock))
                clock += structs[-1].length
        deleted = []
        for _ in range(self.uint()):
            client, ranges = self.uint(), self.uint()
            deleted += [(client, self.uint() + self.uint()) for _ in range(ranges)]
        return structs, deleted


def read_state_vector(data: bytes) -> dict[int, int]:
    reader = Reader(data)
    return dict(reader.id() for _ in range(reader.uint()))


def fits(state_vector: bytes, updates: Iterable[bytes]) -> bool:
    """Whether the updates, one after the other, build on nothing but what is there."""
    known = read_state_vector(state_vector)
    for update in updates:
        structs, deleted = Reader(update).update()
        for struct in structs:
            if struct.clock > known.get(struct.client, 0) and struct.length:
                return False
            known[struct.client] = max(known.get(struct.client, 0), struct.clock + struct.length)
        if any(clock >= known.get(client, 0) for client, clock in _needs(structs)):
            return False
        if any(end > known.get(client, 0) for client, end in deleted):
            return False
    return True


def _needs(structs: Iterable[Struct]) -> Iterator[Id]:
    for struct in structs:
        parent = struct.place[0] if struct.place else None
        yield from (i for i in (struct.origin, struct.right, parent) if isinstance(i, tuple))


def root_kinds(everything: bytes) -> dict[str, str]:
    """Each root's kind, told from the structs of the whole document."""
    structs, _ = Reader(everything).update()
    of_client = {client: list(run) for client, run in groupby(structs, key=lambda struct: struct.client)}
    kinds: dict[str, str] = {}
    for struct in structs:
        owner: Struct | None = struct
        while owner is not None and owner.place is None:
            neighbour = owner.origin or owner.right
            owner = _struct_at(of_client, neighbour) if neighbour else None
        if owner is None or owner.place is None or struct.content in (GC, DELETED):
            continue
        parent, key = owner.place
        if isinstance(parent, str):
            kinds[parent] = max(kinds.get(parent, "text"), _kind(struct, key), key=RANK.index)
    return kinds


def _struct_at(of_client: dict[int, list[Struct]], place: Id) -> Struct | None:
    run = of_client.get(place[0], [])
    index = bisect_right(run, place[1], key=lambda struct: struct.clock) - 1
    return run[index] if index >= 0 else None


def _kind(struct: Struct, key: str | None) -> str:
    if key is not None:
        return "map"
    if struct.content in (STRING, FORMAT, EMBED):
        return "text"
    return "xml" if struct.content == TYPE and struct.shape in (3, 4, 6) else "array"


def plain(value: Any) -> Any:
    """A value of the document as what JSON has; numbers stay what they are."""
    if isinstance(value, Text | XmlText):
        return "".join(part for part, _ in value.diff() if isinstance(part, str))
    if isinstance(value, XmlElement):
        children, attributes = [plain(child) for child in value.children], cast("Any", value.attributes)
        return {"tag": value.tag, "attributes": {k: plain(v) for k, v in attributes}, "children": children}
    if isinstance(value, XmlFragment):
        return [plain(child) for child in value.children]
    if isinstance(value, Doc):
        return {"$doc": value.guid}
    if isinstance(value, Map | dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, Array | list):
        return [plain(item) for item in value]
    if isinstance(value, bytes | bytearray):
        return {"$bytes": value.hex()}
    if isinstance(value, float) and not math.isfinite(value):
        return {"$number": "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"}
    return value


def canonical(value: Any) -> str:
    """Canonical JSON of what `plain` made."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{canonical(key)}:{canonical(value[key])}" for key in sorted(value)) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(canonical, value)) + "]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(value)
    return json.dumps(value)


def contents(replica: Doc[Any]) -> str:
    """The canonical JSON of `[clocks, values]`."""
    everything = replica.get_update()
    copy: Doc[Any] = Doc()  # roots are cast here, not in the app's replica
    copy.apply_update(everything)
    values = {name: plain(copy.get(name, type=ROOTS[kind])) for name, kind in root_kinds(everything).items()}
    clocks = [list(pair) for pair in sorted(read_state_vector(replica.get_state()).items())]
    return canonical([clocks, {name: value for name, value in values.items() if value not in ("", [], {})}])


def digest(replica: Doc[Any]) -> bytes:
    return hashlib.blake2b(contents(replica).encode(), digest_size=16).digest()
