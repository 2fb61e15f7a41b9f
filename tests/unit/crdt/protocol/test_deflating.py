"""Which lists of updates travel deflated, and that any reader inflates them."""

from __future__ import annotations

import zlib
from random import Random

import msgpack
import pytest

from crdt.limits import DEFLATE_FROM_BYTES
from crdt.protocol.codec import deflate_raw, pack_updates

WORDS = b"what somebody types is much like what they typed before; "


def repeated(size: int) -> bytes:
    return (WORDS * (size // len(WORDS) + 1))[:size]


def test_a_list_is_deflated_from_a_length_on_that_its_updates_have_together() -> None:
    half = DEFLATE_FROM_BYTES // 2
    assert isinstance(pack_updates((repeated(half), repeated(half)), deflate=True), bytes)
    shorter = (repeated(half), repeated(half - 1))
    assert pack_updates(shorter, deflate=True) == shorter
    assert pack_updates((repeated(DEFLATE_FROM_BYTES),), deflate=False) == (repeated(DEFLATE_FROM_BYTES),)


def test_what_would_not_be_shorter_is_not_deflated() -> None:
    noise = (Random(1).randbytes(DEFLATE_FROM_BYTES),)
    assert pack_updates(noise, deflate=True) == noise


@pytest.mark.parametrize("size", [128, 1024, 4000, 4096, 4097, 100_000])
def test_any_reader_inflates_it(size: int) -> None:
    """A small list is made with a smaller window, which is no matter to a reader with the largest one."""
    updates = [repeated(size // 2), Random(1).randbytes(size // 8), repeated(size // 2)]
    inflater = zlib.decompressobj(wbits=-15)
    assert msgpack.unpackb(inflater.decompress(deflate_raw(msgpack.packb(updates)))) == updates
    assert inflater.eof
