"""The independent device's frames, after docs/PROTOCOL.md ("Encoding"). Frozen with protocol 1.0, as `device.py` is."""

from __future__ import annotations

import zlib
from typing import Any

import msgpack

HELLO, OPEN, PUSH, LEAVE, PRESENCE, AUTH, PING, RESYNC, AUDIT, REPORT = range(1, 11)
NONCE, WELCOME, OPENED, DELTA, ACK, OTHERS_PRESENCE, ERROR, GOAWAY, PONG, CHUNK, EXPIRING, AUDITED = range(32, 44)
NONE, ANY_LIST = type(None), (list, bytes)
SHAPES: dict[int, list[Any]] = {  # the required fields of a server's frames
    NONCE: [bytes],
    WELCOME: [int, str, str, int, dict, int, int],
    OPENED: [int, int, str, list, ANY_LIST, int, (bytes, NONE), str, bool, bytes],
    DELTA: [int, int, ANY_LIST],
    ACK: [int, int, int, bytes],
    OTHERS_PRESENCE: [int, str, (bytes, NONE)],
    ERROR: [(int, NONE), (int, NONE), str, str, str],
    GOAWAY: [str, int],
    PONG: [int, int],
    CHUNK: [int, int, int, bytes],
    EXPIRING: [int],
    AUDITED: [int, int, bool],
}
INFLATED_BYTES = 1 << 30

Frame = list[Any]


class BadFrameError(Exception):
    """What came is not the protocol."""


def no_extensions(code: int, _data: bytes) -> Any:
    raise BadFrameError(f"extension type {code}")


def unpack(data: bytes) -> Any:
    try:
        return msgpack.unpackb(data, raw=False, strict_map_key=True, ext_hook=no_extensions)
    except ValueError as error:  # all that msgpack raises, and UnicodeDecodeError
        raise BadFrameError(str(error)) from error


def read_frame(message: str | bytes) -> Frame | None:
    """A frame whose required fields are right; None if it is one that a device may not know."""
    if isinstance(message, str):
        raise BadFrameError("a text message")
    frame = unpack(message)
    if not isinstance(frame, list) or not frame or type(frame[0]) is not int:
        raise BadFrameError("no array with a type")
    if 64 <= frame[0] <= 127:
        return None
    shape = SHAPES.get(frame[0])
    if shape is None or len(frame) <= len(shape):
        raise BadFrameError(f"frame {frame[0]} with {len(frame)} fields")
    for value, wanted in zip(frame[1:], shape, strict=False):
        if type(value) not in (wanted if isinstance(wanted, tuple) else (wanted,)):
            raise BadFrameError(f"frame {frame[0]}: a field is {type(value).__name__}")
    return frame


def write_updates(updates: list[bytes], *, deflate: bool) -> list[bytes] | bytes:
    if not deflate or sum(map(len, updates)) < 128:
        return updates
    stream = zlib.compressobj(wbits=-15)
    return stream.compress(msgpack.packb(updates)) + stream.flush()


def inflate(data: bytes) -> bytes:
    stream = zlib.decompressobj(wbits=-15)
    try:
        inflated = stream.decompress(data, INFLATED_BYTES)
    except zlib.error as error:
        raise BadFrameError(str(error)) from error
    if not stream.eof or stream.unused_data:
        raise BadFrameError("a deflated list that does not end where its bin does")
    return inflated


def read_updates(value: Any) -> list[bytes]:
    """A list of updates in either form."""
    updates = unpack(inflate(value)) if isinstance(value, bytes) else value
    if not isinstance(updates, list) or not all(isinstance(update, bytes) for update in updates):
        raise BadFrameError("no list of updates")
    return updates
