"""Messages of devices: random, damaged, deep, wide, and right but for a field."""

from __future__ import annotations

import time
import zlib
from random import Random
from typing import Any

import msgpack

from crdt.errors import PeerError
from crdt.limits import Limits
from crdt.protocol.codec import decode_device_frame, encode
from crdt.protocol.codes import Code
from tests.fuzz import mutation
from tests.fuzz.findings import Finding
from tests.golden import story

LIMITS = Limits()
DECODE_S = 0.25
"""CPU seconds that the largest message may take."""

_GOLDEN = [data for sender, data in story.load().values() if sender == "device"]
_TYPES = (*range(1, 12), 0, 32, 38, 64, 127, 128, 1 << 63, -1)
_NUMBERS = (0, 1, 2, 3, 255, 1 << 31, (1 << 63) - 1, 1 << 63, (1 << 64) - 1, -1, -(1 << 63))
_SCALARS = (None, True, False, 0.5, float("nan"), float("inf"), "", "main", "\0", "😀", "x" * 300, b"", b"\x00" * 8)


def make(random: Random) -> bytes:
    """One message."""
    match random.randrange(9):
        case 0:
            return random.randbytes(random.choice((0, 1, 2, 8, 40, 400)))
        case 1 | 2:
            return mutation.bytes_changed(random, random.choice(_GOLDEN), _GOLDEN)
        case 3 | 4:
            return _packed(_changed(random, msgpack.unpackb(random.choice(_GOLDEN))))
        case 5:
            return _packed([random.choice(_TYPES), *(_value(random, 3) for _ in range(random.randrange(9)))])
        case 6:
            return _packed(_value(random, 4))
        case 7:
            return _packed([3, 1, 1, _bomb(random)])
        case _:
            return _deep(random)


def _packed(value: Any) -> bytes:
    packed: bytes = msgpack.packb(value, use_bin_type=True, datetime=False)
    return packed


def _value(random: Random, depth: int) -> Any:
    match random.randrange(9 if depth else 5):
        case 0:
            return random.choice(_NUMBERS)
        case 1:
            return random.randbytes(random.choice((0, 1, 5, 8, 16, 17)))
        case 2:
            return msgpack.ExtType(random.randrange(128), random.randbytes(3))
        case 3 | 4:
            return random.choice(_SCALARS)
        case 5 | 6:
            return [_value(random, depth - 1) for _ in range(random.randrange(5))]
        case _:
            keys = ("a", "deflate", "key", "proof", "", 1, b"k", None)
            return {random.choice(keys): _value(random, depth - 1) for _ in range(random.randrange(4))}


def _changed(random: Random, values: list[Any]) -> list[Any]:
    """A frame with a field that is another, lost, or added."""
    at = random.randrange(len(values))
    match random.randrange(5):
        case 0:
            values[at] = _value(random, 3)
        case 1:
            values[at:at] = [_value(random, 2)]
        case 2:
            del values[at:]
        case 3:
            values[at] = [values[at]] * random.choice((2, 100, 70_000))
        case _:
            values[at] = random.choice(_NUMBERS)
    return values


def _bomb(random: Random) -> bytes:
    """Deflated: zeros without end, a list of very many, a header that lies, or what is cut off."""
    content = random.choice(
        (
            bytes(random.choice((1 << 10, 1 << 20, 17 << 20))),
            b"\xdd\x00\x0f\x42\x40" + b"\xc4\x00" * 1_000_000,
            b"\xdd\xff\xff\xff\xff",
            b"\xdc\xff\xff" + b"\xc4\x00" * 65_535,
            b"\xdc\x27\x10" + b"\xc4\x00" * 10_000,
            b"\x91" * 100_000,
            b"\x91\xc6\xff\xff\xff\xff",
            b"\x92\xc4\x00\xa1a",
        )
    )
    packer = zlib.compressobj(random.choice((1, 9)), wbits=-15)
    data = packer.compress(content) + packer.flush()
    return data[: random.randrange(len(data))] if random.random() < 0.3 else data


def _deep(random: Random) -> bytes:
    depth = random.choice((10, 500, 1024, 5000, 100_000))
    opener = random.choice((b"\x91", b"\x81\xa1a", b"\x81\x91", b"\xdc\x00\x02\xc0"))
    inner = opener * depth + random.choice((b"\xc0", b""))
    return random.choice((b"", b"\x92\x0a", b"\x97\x01\x01\xa0\xa1a\xa0", b"\x94\x03\x01\x01")) + inner


def check(data: bytes) -> str:
    """What became of it. Raises Finding."""
    started_s = time.process_time()
    try:
        frame = decode_device_frame(data, LIMITS)
    except PeerError as exc:
        if exc.code not in (Code.BAD_FRAME, Code.TOO_BIG):
            raise Finding("frame", f"refused as {exc.code}") from exc
        outcome = str(exc.code)
    else:
        outcome = "ignored" if frame is None else "accepted"
        if frame is not None:
            encoded = encode(frame)
            if encode(decode_device_frame(encoded, LIMITS)) != encoded:  # type: ignore[arg-type]
                raise Finding("frame", "it says something else once it is written again")
    if time.process_time() - started_s > DECODE_S:
        raise Finding("slow", f"a message of {len(data)} bytes")
    return outcome
