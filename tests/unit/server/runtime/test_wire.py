"""encode_message is the library's serialisation, short messages are what it would read, the bearer is of one header."""

from __future__ import annotations

import pytest
from websockets.datastructures import Headers
from websockets.frames import Frame, Opcode
from websockets.http11 import Request

from server.runtime.wire import bearer_token, encode_message, short_messages


@pytest.mark.parametrize("length", [0, 1, 125, 126, 127, 65535, 65536, 1 << 20])
def test_a_message_is_one_frame_as_the_library_writes_it(length: int) -> None:
    payload = bytes(length)
    assert encode_message(payload) == Frame(Opcode.BINARY, payload).serialize(mask=False)


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 300, 65_535])
def test_a_whole_message_of_less_than_64_kib_is_cut_out_of_what_was_read(size: int) -> None:
    payload = bytes(at & 0xFF for at in range(size))
    read = Frame(Opcode.BINARY, payload).serialize(mask=True)
    assert short_messages(read + read[:-1], 0, 9, size) == ([payload], len(read))
    assert short_messages(b"left" + read * 3, 4, 2, size) == ([payload] * 2, 4 + 2 * len(read))


@pytest.mark.parametrize(
    "read",
    [
        Frame(Opcode.BINARY, bytes(65_536)).serialize(mask=True),
        Frame(Opcode.BINARY, bytes(300)).serialize(mask=False),
        Frame(Opcode.BINARY, bytes(300), fin=False).serialize(mask=True),
        Frame(Opcode.TEXT, b"x" * 300).serialize(mask=True),
        bytes((0x82, 0xFE, 0, 125)) + bytes(4 + 125),  # one byte is enough for this length
        bytes((0x82, 0xFF)) + bytes(7) + b"\x05" + bytes(4 + 5),
        Frame(Opcode.BINARY, bytes(1001)).serialize(mask=True),
    ],
)
def test_any_other_frame_is_left_to_the_library(read: bytes) -> None:
    for end in (len(read), 1, 2, 3, 4, 7, 8, 9):
        assert short_messages(read[:end], 0, 9, 1000) == ([], 0)


@pytest.mark.parametrize(
    ("values", "token"),
    [
        ([], None),
        (["Bearer abc.def"], "abc.def"),
        (["bearer  abc"], "abc"),
        (["Basic abc"], None),
        (["Bearer one", "Bearer two"], None),
    ],
)
def test_the_bearer_is_the_token_of_one_authorization_header(values: list[str], token: str | None) -> None:
    headers = Headers([("Authorization", value) for value in values])
    assert bearer_token(Request("/", headers)) == token
