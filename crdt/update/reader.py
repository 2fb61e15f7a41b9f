"""Reading and writing the bytes of updates and state vectors."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from crdt.errors import BadUpdate, PeerError
from crdt.protocol.codes import Code
from crdt.update.model import (
    CLIENT_MAX,
    CLOCK_MAX,
    DEPTH_MAX,
    Content,
    DeleteRange,
    Id,
    StateVector,
    Struct,
    Update,
)  # fmt: skip


def read_update(update: bytes) -> Update:
    """Read a v1 update. Raises BadUpdate for bytes that are not one, and for content that is not supported."""
    typed = _read_typed(update)
    if typed is not None:
        return typed
    try:
        reader = _Reader(update)
        structs = reader.structs()
        deletes = reader.deletes()
    except IndexError as exc:
        raise BadUpdate("malformed", "the update is cut off") from exc
    except UnicodeDecodeError as exc:
        raise BadUpdate("malformed", "a string is not UTF-8") from exc
    if reader.at != len(update):
        raise BadUpdate("malformed", "bytes after the end of the update")
    return Update(reader.sections, structs, deletes, _needs(reader.sections, structs, deletes))


def continuation(update: bytes, client: int, clock: int) -> int:
    """How many clocks an update takes that only types ASCII right behind (client, clock - 1); 0 if it is any other.

    Most updates of a device that types are just that, and need no more reading than this.
    """
    client_bytes = _client_bytes(client)
    head = b"".join((_ONE_STRUCT, client_bytes, _uint_bytes(clock), b"\x84", client_bytes, _uint_bytes(clock - 1)))
    if not update.startswith(head):
        return 0
    text = update[len(head) + 1 : -1]
    length = len(text)
    if not 0 < length <= 0x7F or update[len(head)] != length or update[-1] or not text.isascii():
        return 0
    return length if clock + length <= CLOCK_MAX else 0


def _needs(sections: dict[int, tuple[int, int]], structs: list[Struct], deletes: list[DeleteRange]) -> list[Id]:
    """What an update refers to and does not bring itself."""
    refs = [Id(client, start - 1) for client, (start, _) in sections.items() if start]
    for struct in structs:
        if struct.origin is not None:
            refs.append(struct.origin)
        if struct.right_origin is not None:
            refs.append(struct.right_origin)
        if type(struct.parent) is Id:
            refs.append(struct.parent)
    refs.extend(Id(client, end - 1) for client, _, end in deletes)
    return [ref for ref in dict.fromkeys(refs) if not _contains(sections, ref)]


def _contains(sections: dict[int, tuple[int, int]], ref: Id) -> bool:
    section = sections.get(ref.client)
    return section is not None and section[0] <= ref.clock < section[1]


def _read_typed(data: bytes) -> Update | None:
    """The commonest update, in half the time: one run of ASCII beside existing text, nothing deleted.

    None for all others, and for what is wrong: `_Reader` reads those, or says why not.
    """
    if data[:2] != _ONE_STRUCT or data[-1] or len(data) > _TYPED_BYTES_MAX:
        return None
    try:
        client, at = _uint_at(data, 2)
        clock, at = _uint_at(data, at)
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
    text = data[at + 1 : -1]
    if not length or length != len(text) or length > 0x7F or not text.isascii() or client > CLIENT_MAX:
        return None
    end = clock + length
    if end > CLOCK_MAX or _is_over(origin) or _is_over(right_origin):
        return None
    struct = Struct(client, clock, length, Content.STRING, origin, right_origin)
    sections = {client: (clock, end)}
    needs = [ref for ref in (origin, right_origin) if ref is not None and not _contains(sections, ref)]
    if clock and origin != (client, clock - 1):
        needs.insert(0, Id(client, clock - 1))
    return Update(sections, [struct], [], needs)


def _uint_at(data: bytes, at: int) -> tuple[int, int]:
    """An integer, and where the next field begins. Raises IndexError at the end of the bytes, and if it is too long."""
    byte = data[at]
    value = byte & 0x7F
    shift = 7
    while byte >= 0x80:
        if shift > _SHIFT_MAX:
            raise IndexError(at)
        at += 1
        byte = data[at]
        value |= (byte & 0x7F) << shift
        shift += 7
    return value, at + 1


def _id_at(data: bytes, at: int) -> tuple[Id, int]:
    client, at = _uint_at(data, at)
    clock, at = _uint_at(data, at)
    return Id(client, clock), at


def _is_over(ref: Id | None) -> bool:
    return ref is not None and (ref.client > CLIENT_MAX or ref.clock > CLOCK_MAX)


def read_state_vector(state_vector: bytes) -> StateVector:
    """Read a state vector. Raises PeerError with `bad_state`."""
    try:
        reader = _Reader(state_vector)
        found: StateVector = {}
        for _ in range(reader.count()):
            client = reader.uint(CLIENT_MAX)
            if client in found:
                raise BadUpdate("malformed", "a client twice")
            found[client] = reader.uint(CLOCK_MAX)
    except (IndexError, BadUpdate) as exc:
        raise PeerError(Code.BAD_STATE, "not a state vector") from exc
    if reader.at != len(state_vector):
        raise PeerError(Code.BAD_STATE, "bytes after the end of the state vector")
    return found


def write_state_vector(state_vector: Mapping[int, int]) -> bytes:
    """The bytes of a state vector, clients in ascending order."""
    out = bytearray()
    _write_uint(out, len(state_vector))
    for client in sorted(state_vector):
        _write_uint(out, client)
        _write_uint(out, state_vector[client])
    return bytes(out)


class _Reader:
    """A position in the bytes of an update or state vector. Reading past the end raises IndexError."""

    __slots__ = ("at", "data", "sections")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0
        self.sections: dict[int, tuple[int, int]] = {}

    # --- primitives

    def uint(self, maximum: int) -> int:
        """A variable-length unsigned integer, little end first, seven bits a byte."""
        at = self.at
        byte = self.data[at]
        at += 1
        value = byte & 0x7F
        shift = 7
        while byte >= 0x80:
            if shift > _SHIFT_MAX:
                raise BadUpdate("malformed", "an integer is too long")
            byte = self.data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
        self.at = at
        if value > maximum:
            raise BadUpdate("limit", f"{value} is over {maximum}")
        return value

    def count(self) -> int:
        """A count of items that take at least a byte each."""
        return self.uint(len(self.data) - self.at)

    def blob(self) -> bytes:
        """Bytes with their length in front."""
        size = self.uint(len(self.data))
        end = self.at + size
        if end > len(self.data):
            raise IndexError(end)
        blob = self.data[self.at : end]
        self.at = end
        return blob

    def text(self) -> str:
        return self.blob().decode()

    def id(self) -> Id:
        return Id(self.uint(CLIENT_MAX), self.uint(CLOCK_MAX))

    def skip(self, size: int) -> None:
        self.at += size
        if self.at > len(self.data):
            raise IndexError(self.at)

    # --- structs

    def structs(self) -> list[Struct]:
        """All clients' structs; fills `sections`."""
        structs: list[Struct] = []
        for _ in range(self.count()):
            struct_count = self.count()
            client = self.uint(CLIENT_MAX)
            start = clock = self.uint(CLOCK_MAX)
            if client in self.sections or not struct_count:
                raise BadUpdate("malformed", "a client twice, or without structs")
            for _ in range(struct_count):
                struct = self._struct(client, clock)
                clock += struct.length
                structs.append(struct)
            if clock > CLOCK_MAX:
                raise BadUpdate("limit", f"a clock is over {CLOCK_MAX}")
            self.sections[client] = (start, clock)
        return structs

    def _struct(self, client: int, clock: int) -> Struct:
        info = self.data[self.at]
        self.at += 1
        if info == _GC:
            return Struct(client, clock, self._length(), Content.GC)
        origin = right_origin = parent = key = None
        if info & _HAS_ORIGIN:
            origin = self.id()
        if info & _HAS_RIGHT_ORIGIN:
            right_origin = self.id()
        if origin is None and right_origin is None:
            parent = self._parent()
            if info & _HAS_KEY:
                key = self.text()
        content, length = self._content(info & _CONTENT_BITS)
        return Struct(client, clock, length, content, origin, right_origin, parent, key)

    def _parent(self) -> str | Id:
        is_root = self.uint(CLIENT_MAX)
        if is_root > 1:
            raise BadUpdate("malformed", "a parent is a root or an id")
        return self.text() if is_root else self.id()

    def _length(self) -> int:
        length = self.uint(CLOCK_MAX)
        if not length:
            raise BadUpdate("malformed", "a struct has no length")
        return length

    def _content(self, ref: int) -> tuple[Content, int]:
        """Step over what a struct holds; says what it is and how many clocks it takes."""
        if ref == _STRING:
            return Content.STRING, self._string_length()
        if ref == _DELETED:
            return Content.DELETED, self._length()
        if ref == _ANY:
            length = self._length()
            for _ in range(length):
                self._skip_any(DEPTH_MAX)
            return Content.ANY, length
        single = self._single(ref)
        if single is None:
            raise BadUpdate("unsupported", f"structs of kind {ref} are not supported")
        return single, 1

    def _string_length(self) -> int:
        text = self.text()
        length = len(text)
        if not text.isascii():
            length += sum(char > "\uffff" for char in text)
        if not length:
            raise BadUpdate("malformed", "a string is empty")
        return length

    def _single(self, ref: int) -> Content | None:
        """Step over content that takes one clock."""
        match ref:
            case 3:
                self.blob()
                return Content.BINARY
            case 5:
                self.blob()
                return Content.EMBED
            case 6:
                self.blob()
                self.blob()
                return Content.FORMAT
            case 7:
                return self._type()
            case 9:
                self.blob()
                self._skip_any(DEPTH_MAX)
                return Content.DOC
            case _:
                return None

    def _type(self) -> Content:
        kind = self.uint(CLIENT_MAX)
        if kind not in _TYPES:
            raise BadUpdate("unsupported", f"types of kind {kind} are not supported")
        if kind == _XML_ELEMENT:
            self.blob()
        return _TYPES[kind]

    def _skip_any(self, depth: int) -> None:
        """Step over one embedded value (lib0 Any)."""
        tag = self.data[self.at]
        self.at += 1
        if tag in _ANY_FIXED:
            self.skip(_ANY_FIXED[tag])
        elif tag in (_ANY_STRING, _ANY_BINARY):
            self.blob()
        elif tag == _ANY_INTEGER:
            while self.data[self.at] >= 0x80:
                self.at += 1
            self.at += 1
        elif tag in (_ANY_ARRAY, _ANY_OBJECT):
            if not depth:
                raise BadUpdate("limit", f"values are nested more than {DEPTH_MAX} deep")
            for _ in range(self.count()):
                if tag == _ANY_OBJECT:
                    self.blob()
                self._skip_any(depth - 1)
        else:
            raise BadUpdate("malformed", f"no value begins with {tag}")

    # --- the delete set

    def deletes(self) -> list[DeleteRange]:
        ranges: list[DeleteRange] = []
        clients: set[int] = set()
        for _ in range(self.count()):
            client = self.uint(CLIENT_MAX)
            if client in clients:
                raise BadUpdate("malformed", "a client twice in the delete set")
            clients.add(client)
            for _ in range(self.count()):
                start = self.uint(CLOCK_MAX)
                ranges.append(DeleteRange(client, start, start + self._length()))
        return ranges


_SHIFT_MAX = 56
"""The ninth byte of an integer is the last: the library refuses longer ones."""

# A struct's first byte: what it holds in five bits, then which of its fields follow.
_CONTENT_BITS = 0x1F
_HAS_KEY = 0x20
_HAS_RIGHT_ORIGIN = 0x40
_HAS_ORIGIN = 0x80

_ONE_STRUCT = b"\x01\x01"
_TYPED_INFOS = (0x84, 0xC4, 0x44)
"""A string with a left neighbour, with both, with a right one."""
_TYPED_BYTES_MAX = 192

# Kind 2 (JSON, of before Yjs 13) is missing on purpose: the library reads one value too many, and takes the rest of the
# update for something else.
_GC, _DELETED, _STRING, _ANY = 0, 1, 4, 8

# Kind 5 (XmlHook) is missing on purpose: the library does not read its name, and so writes states that nobody can read.
_XML_ELEMENT = 3
_TYPES = {
    0: Content.ARRAY_TYPE,
    1: Content.TYPE,
    2: Content.TYPE,
    _XML_ELEMENT: Content.XML_TYPE,
    4: Content.XML_TYPE,
    6: Content.XML_TYPE,
}
"""Shared types by their numbers: array, map, text, XML element, XML fragment, XML text."""

_ANY_BINARY, _ANY_ARRAY, _ANY_OBJECT, _ANY_STRING, _ANY_INTEGER = 116, 117, 118, 119, 125
_ANY_FIXED = {120: 0, 121: 0, 122: 8, 123: 8, 124: 4, 126: 0, 127: 0}
"""Size in bytes of true, false, bigint, float64, float32, null and undefined."""


def _uint_bytes(value: int) -> bytes:
    if value < 0x80:
        return _ONE_BYTE[value]
    if value < 1 << 14:
        return bytes((value & 0x7F | 0x80, value >> 7))
    out = bytearray()
    _write_uint(out, value)
    return bytes(out)


_ONE_BYTE = tuple(bytes((value,)) for value in range(0x80))
_client_bytes = lru_cache(maxsize=4096)(_uint_bytes)


def _write_uint(out: bytearray, value: int) -> None:
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
