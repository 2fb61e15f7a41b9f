"""WebSocket messages as devices send them that are to be light: with a mask of zeros, which is a valid one."""

from __future__ import annotations

_MASK = b"\x00\x00\x00\x00"
"""Leaves the payload as it is."""


def client_frame(payload: bytes) -> bytes:
    """One binary message as a client sends it."""
    length = len(payload)
    if length < 126:
        return bytes((0x82, 0x80 | length)) + _MASK + payload
    if length < 1 << 16:
        return b"\x82\xfe" + length.to_bytes(2, "big") + _MASK + payload
    return b"\x82\xff" + length.to_bytes(8, "big") + _MASK + payload


def pong(payload: bytes) -> bytes:
    """The answer to a ping with that payload, which has 125 bytes at most."""
    return bytes((0x8A, 0x80 | len(payload))) + _MASK + payload
