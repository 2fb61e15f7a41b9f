"""encode_message is the library's serialisation, and the bearer is read from one header only."""

from __future__ import annotations

import pytest
from websockets.datastructures import Headers
from websockets.frames import Frame, Opcode
from websockets.http11 import Request

from server.runtime.wire import bearer_token, encode_message


@pytest.mark.parametrize("length", [0, 1, 125, 126, 127, 65535, 65536, 1 << 20])
def test_a_message_is_one_frame_as_the_library_writes_it(length: int) -> None:
    payload = bytes(length)
    assert encode_message(payload) == Frame(Opcode.BINARY, payload).serialize(mask=False)


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
