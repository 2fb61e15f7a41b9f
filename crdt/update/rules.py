"""Which content belongs where: what Yjs and this library write, and can read back."""

from __future__ import annotations

from enum import IntEnum

from crdt.update.model import TYPES, XML_TYPES, Content


class Kind(IntEnum):
    """What a container is. A root is OPEN until its list has content that tells: then TEXT or ROOT_ARRAY."""

    DEAD = 0
    OPEN = 1
    ROOT_ARRAY = 2
    TEXT = 3
    ARRAY = 4
    MAP = 5
    XML_ELEMENT = 6
    XML_FRAGMENT = 7


KIND_OF_TYPE = {
    Content.ARRAY_TYPE: Kind.ARRAY,
    Content.MAP_TYPE: Kind.MAP,
    Content.TEXT_TYPE: Kind.TEXT,
    Content.XML_TEXT: Kind.TEXT,
    Content.XML_ELEMENT: Kind.XML_ELEMENT,
    Content.XML_FRAGMENT: Kind.XML_FRAGMENT,
}


class Class(IntEnum):
    """What content tells of the list that it is in."""

    UNKNOWN = 0
    """Deleted: it may have been anything, a container too."""
    NEUTRAL = 1
    """Nested types, which every list may hold."""
    TEXT = 2
    VALUE = 3


_VALUES = frozenset((Content.ANY, Content.BINARY, Content.DOC))
_RUNS = frozenset((Content.STRING, Content.FORMAT, Content.EMBED))
_DELETED = frozenset((Content.DELETED,))

CLASS_OF_CONTENT = {
    Content.GC: Class.UNKNOWN,
    Content.DELETED: Class.UNKNOWN,
    **dict.fromkeys(TYPES, Class.NEUTRAL),
    **dict.fromkeys(_RUNS, Class.TEXT),
    **dict.fromkeys(_VALUES, Class.VALUE),
}

TOLD_BY: dict[int, Kind] = {Class.TEXT: Kind.TEXT, Class.VALUE: Kind.ROOT_ARRAY}
"""What an open root becomes by content of these classes in its list."""

_EVERYTHING = frozenset(Content)
_OF_KEYS = _VALUES | TYPES | _DELETED

IN_LIST: dict[int, frozenset[Content]] = {
    Kind.DEAD: _EVERYTHING,
    Kind.OPEN: _VALUES | _RUNS | TYPES | _DELETED,
    Kind.ROOT_ARRAY: _VALUES | TYPES | _DELETED,
    Kind.TEXT: _RUNS | TYPES | _DELETED,
    Kind.ARRAY: _VALUES | TYPES | _DELETED,
    Kind.MAP: frozenset(),
    Kind.XML_ELEMENT: XML_TYPES | _DELETED,
    Kind.XML_FRAGMENT: XML_TYPES | _DELETED,
}
UNDER_KEY: dict[int, frozenset[Content]] = {
    Kind.DEAD: _EVERYTHING,
    Kind.OPEN: _OF_KEYS,
    Kind.ROOT_ARRAY: _OF_KEYS,
    Kind.TEXT: _OF_KEYS,
    Kind.ARRAY: frozenset(),
    Kind.MAP: _OF_KEYS,
    Kind.XML_ELEMENT: _OF_KEYS - TYPES - {Content.DOC},  # the library reads neither in attributes
    Kind.XML_FRAGMENT: _OF_KEYS,
}
