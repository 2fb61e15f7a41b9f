"""Reading and writing the bytes of updates and state vectors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Final

from crdt.errors import BadUpdate, PeerError
from crdt.protocol.codes import Code
from crdt.update.decoder import VALUES_MAX, Decoder, uint_at, write_uint
from crdt.update.model import CLIENT_MAX, CLOCK_MAX, Content, DeleteRange, Id, StateVector, Struct, Update

STRUCTS_MAX = 20_000
"""Structs in one update. A hostile one of 40,000 takes the library seconds, and gigabytes."""

CLIENTS_MAX = 10_000
"""Clients in one update."""


def read_update(update: bytes, *, bounded: bool = False) -> Update:
    """Read a v1 update. Raises BadUpdate for bytes that are not one, and for content that is not supported.

    `bounded` ones have at most `STRUCTS_MAX` structs: what peers push, as opposed to a document's state.
    """
    typed = _read_typed(update)
    if typed is not None:
        return typed
    reader = Reader(update, bounded)
    try:
        structs = reader.structs()
        deletes = reader.deletes()
        if reader.at != len(update):
            raise BadUpdate("malformed", "bytes after the end of the update")
    except (IndexError, BadUpdate) as exc:
        if _is_v2(update):
            raise BadUpdate("unsupported", "this is a v2 update: send v1") from exc
        if isinstance(exc, BadUpdate):
            raise
        raise BadUpdate("malformed", "the update is cut off") from exc
    needs = _needs(reader.sections, structs, deletes)
    return Update(reader.sections, structs, deletes, needs, reader.pairs)


def continuation(update: bytes, client: int, clock: int) -> int:
    """How many clocks an update takes that only types ASCII right behind (client, clock - 1); 0 if it is any other.

    Most updates of a device that types are just that, and need no more reading than this.
    """
    own = _client_bytes(client)
    head = _ONE_STRUCT + own + _uint_bytes(clock) + b"\x84" + own + _uint_bytes(clock - 1)
    if not update.startswith(head):
        return 0
    size = len(head)
    length = len(update) - size - 2
    if not 0 < length <= 0x7F or update[size] != length or update[-1] or not update[size + 1 :].isascii():
        return 0
    return length if clock + length <= CLOCK_MAX else 0


def _needs(sections: dict[int, tuple[int, int]], structs: list[Struct], deletes: list[DeleteRange]) -> list[Id]:
    """What an update refers to and does not bring itself."""
    needs = {Id(client, start - 1): None for client, (start, _) in sections.items() if start}
    for _, _, _, _, origin, right_origin, parent, _ in structs:
        if origin is not None and not _contains(sections, origin):
            needs[origin] = None
        if right_origin is not None and not _contains(sections, right_origin):
            needs[right_origin] = None
        if type(parent) is Id and not _contains(sections, parent):
            needs[parent] = None
    for client, _, end in deletes:
        last = Id(client, end - 1)
        if not _contains(sections, last):
            needs[last] = None
    return list(needs)


def _contains(sections: dict[int, tuple[int, int]], ref: Id) -> bool:
    section = sections.get(ref.client)
    return section is not None and section[0] <= ref.clock < section[1]


def _read_typed(data: bytes) -> Update | None:
    """The commonest update, in half the time: one run of ASCII beside existing text, nothing deleted.

    None for all others, and for what is cut off: `Reader` reads those, or says why not.
    """
    if data[:2] != _ONE_STRUCT or data[-1] or len(data) > _TYPED_BYTES_MAX:
        return None
    try:
        client, at = uint_at(data, 2)
        clock, at = uint_at(data, at)
        info = data[at]
        if info not in _TYPED_INFOS:
            return None
        at += 1
        origin = right_origin = None
        if info & _HAS_ORIGIN:
            origin, at = _id_at(data, at)
        if info & _HAS_RIGHT_ORIGIN:
            right_origin, at = _id_at(data, at)
        length = data[at]
    except IndexError:
        return None
    if not 0 < length <= 0x7F or length != len(data) - at - 2 or client > CLIENT_MAX:
        return None
    if not data[at + 1 : -1].isascii():
        return None
    end = clock + length
    if end > CLOCK_MAX or _is_over(origin) or _is_over(right_origin):
        return None
    struct = _new(Struct, (client, clock, length, Content.STRING, origin, right_origin, None, None))
    sections = {client: (clock, end)}
    needs = [ref for ref in (origin, right_origin) if ref is not None and not _contains(sections, ref)]
    if clock and origin != (client, clock - 1):
        needs.insert(0, Id(client, clock - 1))
    return Update(sections, [struct], [], needs)


def _id_at(data: bytes, at: int) -> tuple[Id, int]:
    client, at = uint_at(data, at)
    clock, at = uint_at(data, at)
    return _new(Id, (client, clock)), at


def _is_over(ref: Id | None) -> bool:
    return ref is not None and (ref.client > CLIENT_MAX or ref.clock > CLOCK_MAX)


def read_state_vector(state_vector: bytes) -> StateVector:
    """Read a state vector. Raises PeerError with `bad_state`."""
    try:
        decoder = Decoder(state_vector)
        found: StateVector = {}
        for _ in range(decoder.count()):
            client = decoder.uint(CLIENT_MAX)
            if client in found:
                raise BadUpdate("malformed", "a client twice")
            found[client] = decoder.uint(CLOCK_MAX)
    except (IndexError, BadUpdate) as exc:
        raise PeerError(Code.BAD_STATE, "not a state vector") from exc
    if decoder.at != len(state_vector):
        raise PeerError(Code.BAD_STATE, "bytes after the end of the state vector")
    return found


def write_state_vector(state_vector: Mapping[int, int]) -> bytes:
    """The bytes of a state vector, clients in ascending order."""
    out = bytearray()
    write_uint(out, len(state_vector))
    for client in sorted(state_vector):
        write_uint(out, client)
        write_uint(out, state_vector[client])
    return bytes(out)


class Reader(Decoder):
    """A position in the bytes of an update."""

    __slots__ = ("_client", "_client_bytes", "_clients_max", "_structs_left", "pairs", "sections")

    def __init__(self, data: bytes, bounded: bool) -> None:
        super().__init__(data, VALUES_MAX if bounded else len(data))
        self.sections: dict[int, tuple[int, int]] = {}
        self.pairs: list[Id] = []
        self._structs_left = STRUCTS_MAX if bounded else len(data)
        self._clients_max = CLIENTS_MAX if bounded else len(data)
        self._client = 0
        self._client_bytes = b""

    def structs(self) -> list[Struct]:
        """All clients' structs; fills `sections` and `pairs`."""
        structs: list[Struct] = []
        for _ in range(self.count()):
            client, start, struct_count = self.section()
            clock = start
            for _ in range(struct_count):
                struct = self.struct(client, clock)
                clock += struct.length
                structs.append(struct)
            if clock > CLOCK_MAX:
                raise BadUpdate("limit", f"a clock is over {CLOCK_MAX}")
            self.sections[client] = (start, clock)
        return structs

    def section(self) -> tuple[int, int, int]:
        """What comes before a client's structs: the client, the first one's clock, how many there are."""
        struct_count = self.count()
        at = self.at
        client = self._client = self.uint(CLIENT_MAX)
        self._client_bytes = self.data[at : self.at]
        clock = self.uint(CLOCK_MAX)
        if client in self.sections or not struct_count:
            raise BadUpdate("malformed", "a client twice, or without structs")
        self._structs_left -= struct_count
        if self._structs_left < 0 or len(self.sections) >= self._clients_max:
            raise BadUpdate("limit", "too many structs, or clients")
        return client, clock, struct_count

    def struct(self, client: int, clock: int) -> Struct:
        info = self.data[self.at]
        self.at += 1
        if info == _GC:
            return Struct(client, clock, self.length(), Content.GC)
        kind = info & _CONTENT_BITS
        if kind not in _KINDS:
            raise BadUpdate("unsupported", f"{_UNSUPPORTED.get(kind, f'a struct of kind {kind}')} is not supported")
        origin = right_origin = parent = key = None
        if info & _HAS_ORIGIN:
            origin = self._id()
        if info & _HAS_RIGHT_ORIGIN:
            right_origin = self._id()
        if origin is None and right_origin is None:
            parent = self._parent()
            if info & _HAS_KEY:
                key = self.text()
        if kind == _STRING:
            content, length = Content.STRING, self._string(client, clock)
        elif kind == _TYPE:
            content, length = self._type(), 1
        else:
            content, step = _CONTENTS[kind]
            length = step(self)
        return _new(Struct, (client, clock, length, content, origin, right_origin, parent, key))

    def _id(self) -> Id:
        """An id; of the section's own client most of the time."""
        data, at = self.data, self.at
        if data.startswith(self._client_bytes, at):
            client, at = self._client, at + len(self._client_bytes)
        else:
            client, at = uint_at(data, at)
        clock, self.at = uint_at(data, at)
        if client > CLIENT_MAX or clock > CLOCK_MAX:
            raise BadUpdate("limit", "an id is over 53 bits, or a clock over 31")
        return _new(Id, (client, clock))

    def _parent(self) -> str | Id:
        is_root = self.uint(CLIENT_MAX)
        if is_root > 1:
            raise BadUpdate("malformed", "a parent is a root or an id")
        return self.text() if is_root else self._id()

    def _string(self, client: int, clock: int) -> int:
        """Step over a string; says how many UTF-16 code units it has, and notes its surrogate pairs."""
        text = self.text()
        if not text:
            raise BadUpdate("malformed", "a string is empty")
        return len(text) if text.isascii() else self._units(text, client, clock)

    def _units(self, text: str, client: int, clock: int) -> int:
        end = clock
        for char in text:
            end += 1
            if char > "\uffff":
                self.pairs.append(Id(client, end))
                end += 1
        return end - clock

    def _any(self) -> int:
        length = self.length()
        self.skip_values(length)
        return length

    def _binary(self) -> int:
        self.blob()
        return 1

    def _embed(self) -> int:
        self.skip_json()
        return 1

    def _format(self) -> int:
        self.text()
        self.skip_json()
        return 1

    def _doc(self) -> int:
        self.text()
        self.skip_options()
        return 1

    def _type(self) -> Content:
        kind = self.uint(CLIENT_MAX)
        if kind not in _TYPES:
            raise BadUpdate("unsupported", f"{_UNSUPPORTED_TYPES.get(kind, f'a type of kind {kind}')} is not supported")
        if kind == _XML_ELEMENT:
            self.text()
        return _TYPES[kind]

    def deletes(self) -> list[DeleteRange]:
        """The delete set: ranges that ascend within each client, and do not overlap."""
        ranges: list[DeleteRange] = []
        clients: set[int] = set()
        for _ in range(self.count()):
            client, range_count = self.delete_section(clients)
            self.ranges(client, range_count, ranges)
        return ranges

    def delete_section(self, clients: set[int]) -> tuple[int, int]:
        """What comes before a client's ranges: the client, how many there are. `clients` are those that were read."""
        client = self.uint(CLIENT_MAX)
        range_count = self.count()
        if client in clients or not range_count:
            raise BadUpdate("malformed", "a client twice in the delete set, or without ranges")
        clients.add(client)
        return client, range_count

    def ranges(self, client: int, count: int, ranges: list[DeleteRange]) -> None:
        """The client's next ranges, behind those before them."""
        data, at = self.data, self.at
        end = ranges[-1].end if ranges and ranges[-1].client == client else 0
        for _ in range(count):
            start, at = uint_at(data, at)
            length, at = uint_at(data, at)
            if start < end or not length:
                raise BadUpdate("malformed", "the delete set does not ascend, or has a range without length")
            end = start + length
            ranges.append(_new(DeleteRange, (client, start, end)))
        if end > CLOCK_MAX:
            raise BadUpdate("limit", f"a clock is over {CLOCK_MAX}")
        self.at = at


def _is_v2(update: bytes) -> bool:
    """True for what has the form of a v2 update: a zero, nine columns with their sizes in front, and the rest."""
    if update[:1] != b"\x00":
        return False
    decoder = Decoder(update)
    decoder.at = 1
    try:
        for _ in range(_V2_COLUMNS):
            decoder.blob()
        return decoder.count() <= len(update)
    except (IndexError, BadUpdate):
        return False


# A struct's first byte: what it holds in five bits, then which of its fields follow.
_CONTENT_BITS: Final = 0x1F
_HAS_KEY: Final = 0x20
_HAS_RIGHT_ORIGIN: Final = 0x40
_HAS_ORIGIN: Final = 0x80

_new: Final = tuple.__new__
"""Makes a named tuple in a third of the time."""

_ONE_STRUCT: Final = b"\x01\x01"
_TYPED_INFOS: Final = (0x84, 0xC4, 0x44)
"""A string with a left neighbour, with both, with a right one."""
_TYPED_BYTES_MAX: Final = 192

_GC, _STRING, _TYPE = 0, 4, 7
_CONTENTS: dict[int, tuple[Content, Callable[[Reader], int]]] = {
    1: (Content.DELETED, Reader.length),
    3: (Content.BINARY, Reader._binary),
    5: (Content.EMBED, Reader._embed),
    6: (Content.FORMAT, Reader._format),
    8: (Content.ANY, Reader._any),
    9: (Content.DOC, Reader._doc),
}
"""What a struct may hold beside strings and types, by its number, and what steps over it and counts its clocks."""
_KINDS: Final = frozenset((_STRING, _TYPE, *_CONTENTS))

# The library reads one value of JSON too many, and takes the rest of the update for something else. It does not keep
# the name of an XML hook, and so writes states that nobody can read.
_UNSUPPORTED = {2: "JSON (of before Yjs 13)", 10: "a skip", 11: "a move"}
_UNSUPPORTED_TYPES = {5: "an XML hook", 7: "a weak link"}

_XML_ELEMENT = 3
_TYPES = {
    0: Content.ARRAY_TYPE,
    1: Content.MAP_TYPE,
    2: Content.TEXT_TYPE,
    _XML_ELEMENT: Content.XML_ELEMENT,
    4: Content.XML_FRAGMENT,
    6: Content.XML_TEXT,
}

_V2_COLUMNS = 9


def _uint_bytes(value: int) -> bytes:
    if value < 0x80:
        return _ONE_BYTE[value]
    if value < 1 << 14:
        return _ONE_BYTE[value & 0x7F | 0x80] + _ONE_BYTE[value >> 7]
    out = bytearray()
    write_uint(out, value)
    return bytes(out)


_ONE_BYTE: Final = tuple(bytes((value,)) for value in range(0x100))
_client_bytes: Final = lru_cache(maxsize=4096)(_uint_bytes)
