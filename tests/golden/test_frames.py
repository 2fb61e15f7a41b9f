"""The bytes of protocol 1.0, frozen.

Phones keep an app for years and cannot be made to update. So what 1.0 wrote must be read as it was meant for ever, and
1.0 must be able to read what we write. The files of v1.0 therefore never change, not even where they could be nicer; a
later minor version brings a directory of its own and keeps this one. A test that fails here found a broken promise.
"""

from __future__ import annotations

from hashlib import sha256

import pytest

from crdt.chain import extend
from crdt.limits import Limits
from crdt.protocol import codec, frames
from crdt.replica import Replica
from tests.golden import story

GOLDEN = story.load()
FILES = {
    "digest.json": "544491f44322d1b6480a04055c77505e292e984937abe22567fcde82267fd82f",
    "frames.json": "81c0c63b82c22151d8595ff075bd75589732b9b96b1e7d505f64f7110a121e30",
}


def decode(name: str) -> frames.DeviceFrame | frames.ServerFrame | None:
    sender, data = GOLDEN[name]
    return codec.decode_device_frame(data, Limits()) if sender == "device" else codec.decode_server_frame(data)


def test_the_files_are_the_ones_that_were_released() -> None:
    found = {file.name: sha256(file.read_bytes()).hexdigest() for file in story.FILE.parent.iterdir()}

    assert found == FILES


def test_every_encoding_has_an_expected_value() -> None:
    assert GOLDEN.keys() == story.ALL.keys()


def test_every_frame_has_an_encoding() -> None:
    types = {type(frame) for frame in story.EXACT.values()}

    assert types == set(frames.DeviceFrame.__args__) | set(frames.ServerFrame.__args__)


@pytest.mark.parametrize("name", story.ALL)
def test_golden_bytes_decode_to_their_value(name: str) -> None:
    assert decode(name) == story.ALL[name]


@pytest.mark.parametrize("name", story.EXACT)
def test_values_encode_to_their_golden_bytes(name: str) -> None:
    assert codec.encode(story.EXACT[name]).hex() == GOLDEN[name].data.hex()


@pytest.mark.parametrize("name", ["push-deflated", "opened-deflated", "delta-deflated"])
def test_a_long_list_is_deflated_where_that_was_agreed(name: str) -> None:
    """The very bytes depend on the build of zlib: only what they inflate to is promised."""
    frame = story.READ[name]
    assert frame is not None

    encoded = codec.encode(frame, deflate=True)

    assert len(encoded) < 100
    decoded = (
        codec.decode_server_frame(encoded)
        if GOLDEN[name].sender == "server"
        else codec.decode_device_frame(encoded, Limits())
    )
    assert decoded == frame


def test_the_chain_values_are_those_of_the_updates() -> None:
    assert extend(frames.CHAIN_START, [story.HI]) == story.CHAIN_1
    assert extend(story.CHAIN_1, [story.BANG]) == story.CHAIN_2


def test_the_digest_is_that_of_the_document() -> None:
    replica = Replica.load([story.HI, story.SET_X, story.BANG])

    assert replica.values() == {"title": "Hi!", "data": {"x": 1}}
    assert replica.digest() == story.DIGEST
