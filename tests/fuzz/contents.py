"""Content of structs: honest, odd, and out of bounds."""

from __future__ import annotations

import struct
from random import Random

from tests.fuzz.raw import (
    ANY,
    BINARY,
    DELETED,
    DOC,
    EMBED,
    FORMAT,
    GC,
    STRING,
    TYPE,
    Piece,
    blob,
    container,
    gone,
    string,
    text,
    uint,
    values,
)

STRINGS = (
    *(
        "a",
        "b",
        "xy",
        "hello ",
        "😀",
        "a😀b",
        "😀😀",
        "é",
        "\0",
        "\ufffd",
        "\ufeff",
        "日本",
        "👨‍👩‍👧",
        "\U0010ffff",
        "\n",
    ),
    "x" * 130,
)
KEYS = ("k", "k", "k2", "", "class", "😀", "__proto__", "length")
ROOTS = ("a", "a", "text", "map", "array", "xml", "", "😀")
TYPES = (0, 1, 2, 3, 3, 4, 6)
JSONS = (
    *("true", "null", "1", "-1.5", '"x"', '{"a":[1,{"b":null}]}', "[]", "{}", '""', '"\\ud83d\\ude00"', "1e3", "-0"),
    *('{"__proto__":1}', '"\\u0000"', "[[[[1]]]]", "12345678901234567890123", '"😀"', '{"a":1,"a":2}'),
)
BAD_JSONS = (
    *("", "nul", "NaN", "[1,]", '"\\ud83d"', "1e999", "9223372036854775808", "[" * 40 + "]" * 40, "1 2", '{"a"}', "\0"),
    *("18446744073709551615", "-9223372036854775809", "[" * 5000 + "]" * 5000, "'a'", "Infinity", "01", '"\t"'),
)


def integer(value: int) -> bytes:
    """A whole number among embedded values."""
    sign, left = (0x40 if value < 0 else 0), abs(value)
    out = bytearray((left & 0x3F | sign,))
    left >>= 6
    while left:
        out[-1] |= 0x80
        out.append(left & 0x7F)
        left >>= 7
    return b"\x7d" + bytes(out)


_NUMBERS = (
    *(integer(value) for value in (0, 1, -1, 63, 64, -64, 1 << 31, -(1 << 31), (1 << 53) - 1, -((1 << 53) - 1))),
    *(b"\x7b" + struct.pack(">d", value) for value in (0.5, float("nan"), float("inf"), -0.0, 1e308, 2.0**60, 3.0)),
    *(b"\x7c" + struct.pack(">f", value) for value in (0.5, float("nan"), float("-inf"), 3.0)),
    *(b"\x7a" + struct.pack(">q", value) for value in (0, -1, (1 << 60) + 1, 1 - (1 << 63))),
    b"\x7d\x40",
)
_PLAIN = (b"\x78", b"\x79", b"\x7e", b"\x7f", b"\x74\x00", b"\x74\x02\xff\x00")


def value(random: Random, depth: int = 3) -> bytes:
    """An embedded value."""
    choice = random.randrange(10 if depth else 8)
    if choice < 3:
        return b"\x77" + text(random.choice(STRINGS[:-1]))
    if choice < 6:
        return random.choice(_NUMBERS)
    if choice < 8:
        return random.choice(_PLAIN)
    items = [value(random, depth - 1) for _ in range(random.randrange(3))]
    if choice == 8:
        return b"\x75" + uint(len(items)) + b"".join(items)
    return b"\x76" + uint(len(items)) + b"".join(text(random.choice(KEYS)) + item for item in items)


def bad_value(random: Random) -> bytes:
    """An embedded value that is none, or too much of one."""
    depth = random.choice((31, 32, 33, 34, 5000))
    return random.choice(
        (
            b"\x75\x01" * depth + b"\x7e",
            b"\x76\x01\x01a" * depth + b"\x7e",
            b"\x7d\xff\xff\xff\xff\xff\xff\xff\x1f",
            b"\x7d\xff\xff\xff\xff\xff\xff\xff\x7f",
            b"\x7d\x80\x00",
            b"\x75\xff\xff\xff\xff\x07",
            b"\x77\xff\xff\xff\xff\x0f",
            b"\x77\x03\xed\xa0\xbd",
            b"\x77\x01\xff",
            b"\x73",
            b"\x76\x02\x01a\x7e\x01a\x7f",
        )
    )


def _options(random: Random) -> bytes:
    names = random.sample(("gc", "guid", "meta", "autoLoad", "shouldLoad", "collectionid", "encoding", "z"), 2)
    chosen = names[: random.randrange(3)]
    return b"\x76" + uint(len(chosen)) + b"".join(text(name) + value(random, 1) for name in chosen)


def piece(random: Random, kind: int) -> Piece:
    """Content of this kind as it may be."""
    if kind in (GC, DELETED):
        return gone(kind, random.choice((1, 1, 1, 2, 5)))
    if kind == STRING:
        return string(random.choice(STRINGS))
    if kind == TYPE:
        return container(random.choice(TYPES), random.choice(("p", "p", "", "😀", "a b")))
    if kind == ANY:
        return values(value(random) for _ in range(random.choice((1, 1, 1, 2, 4))))
    return Piece(kind, 1, _single(random, kind))


def _single(random: Random, kind: int) -> bytes:
    if kind == BINARY:
        return blob(random.choice((b"", b"\xff", b"abc", b"\x00" * 200)))
    if kind == EMBED:
        return text(random.choice(JSONS))
    if kind == FORMAT:
        return text(random.choice(("bold", "b", "", "😀"))) + text(random.choice(JSONS))
    if kind == DOC:
        return text(random.choice(("", "guid", "guid2", "😀"))) + _options(random)
    return random.randbytes(random.randrange(6))


def bad_piece(random: Random) -> Piece:
    """Content that must be refused, or very nearly so."""
    choice = random.randrange(9)
    if choice == 0:
        return values([bad_value(random)])
    if choice == 1:
        return Piece(EMBED, 1, text(random.choice(BAD_JSONS)))
    if choice == 2:
        return Piece(FORMAT, 1, text("b") + text(random.choice(BAD_JSONS)))
    if choice == 3:
        return Piece(STRING, 1, random.choice((b"\x00", b"\x03\xed\xa0\xbd", b"\x01\xff", b"\xff\xff\x03abc")))
    if choice == 4:
        return gone(random.choice((GC, DELETED)), random.choice((0, 1 << 20, 1 << 31, 1 << 32, 1 << 62)))
    if choice == 5:
        return Piece(TYPE, 1, uint(random.choice((5, 7, 8, 9, 15, 1 << 40))) + text("h"))
    if choice == 6:
        return Piece(ANY, random.choice((0, 3, 1 << 40)), uint(random.choice((0, 3, 1 << 40))) + value(random))
    if choice == 7:
        return Piece(random.choice((2, 10, 11, 12, 31)), 1, uint(random.randrange(4)) + text("1"))
    return Piece(DOC, 1, text("guid") + random.choice((value(random), bad_value(random), b"\x76\x01\x02gc\x75\x00")))
