"""Bytes on which WebSocket servers die or bloat: who sends them loses the connection, and nobody else anything."""

from __future__ import annotations

import asyncio
import os
import struct
from itertools import repeat
from pathlib import Path
from typing import TypeAlias

from websockets.frames import Frame, Opcode

from crdt.protocol import codec
from crdt.protocol.frames import PROTOCOL_VERSION, Hello, Welcome
from server.runtime.wire import encode_message
from tests.integration.honest_process import honest_pair, measured
from tests.integration.server_process import ServerProcess, server_process
from tests.integration.transport_peers import Peer, close_frame, masked
from tests.server_fixture import make_token

SOAK = bool(os.environ.get("SYNCLINE_SOAK"))
ATTACKERS = 100 if SOAK else 10
"""Connections that do the same at the same time, before HELLO; as many do it after."""
GROWTH_BYTES_MAX = 16 << 20


def header(opcode: int, length: int, *, fin: bool = True, reserved: int = 0, is_masked: bool = True) -> bytes:
    """The beginning of a frame, whatever it says; its mask is zero."""
    first = fin << 7 | reserved << 4 | opcode
    mask_bit, mask = (0x80, bytes(4)) if is_masked else (0, b"")
    if length < 126:
        return bytes((first, mask_bit | length)) + mask
    if length < 1 << 16:
        return struct.pack("!BBH", first, mask_bit | 126, length) + mask
    return struct.pack("!BBQ", first, mask_bit | 127, length) + mask


def endless(frame: bytes, first: bytes = b"") -> tuple[bytes, bytes]:
    return first or frame, frame * (64 * 1024 // len(frame))


Attack: TypeAlias = tuple[int, bytes, bytes]
"""The close code that it earns, what is sent first, and what is sent on and on then."""

TINY, EMPTY, LARGE = (masked(Frame(Opcode.CONT, bytes(length), fin=False)) for length in (1, 0, 60_000))
BEGIN = masked(Frame(Opcode.BINARY, b"", fin=False))

ATTACKS: dict[str, Attack] = {
    **{f"reserved opcode {code}": (1002, header(code, 0), b"") for code in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)},
    **{f"reserved bits {bits}": (1002, header(2, 0, reserved=bits), b"") for bits in (1, 2, 4, 7)},
    "not masked": (1002, encode_message(b"hello"), b""),
    "2^40 bytes are declared": (1009, header(2, 1 << 40), bytes(1 << 16)),
    "2^63 - 1 bytes are declared": (1009, header(2, (1 << 63) - 1), b""),
    "2^64 - 1 bytes are declared": (1009, header(2, (1 << 64) - 1), b""),
    "a ping that declares 2^40 bytes": (1009, header(9, 1 << 40), b""),
    "text": (4400, masked(Frame(Opcode.TEXT, b"hello")), b""),
    "text that is no UTF-8": (4400, masked(Frame(Opcode.TEXT, b"\xc3\x28")), b""),
    "half of a text, no UTF-8": (4400, masked(Frame(Opcode.TEXT, b"\xff", fin=False)), b""),
    "a reason that is no UTF-8": (1007, header(8, 4) + b"\x03\xe8\xc3\x28", b""),
    "a reason that ends in a character": (1007, header(8, 3) + b"\x03\xe8\xf0", b""),
    "half a close code": (1002, header(8, 1) + b"\x03", b""),
    "a close code that is none": (1002, header(8, 2) + b"\x03\xed", b""),
    "a long ping": (1002, header(9, 126) + bytes(126), b""),
    "a long close": (1002, header(8, 200) + b"\x03\xe8" + bytes(198), b""),
    "a ping in fragments": (1002, header(9, 1, fin=False) + b"x", b""),
    "a close in fragments": (1002, header(8, 2, fin=False) + b"\x03\xe8", b""),
    "a fragment of nothing": (1002, masked(Frame(Opcode.CONT, b"x")), b""),
    "a message within a message": (1002, BEGIN + masked(Frame(Opcode.BINARY, b"x")), b""),
    "a close within a message": (1002, BEGIN + masked(close_frame(1000)), b""),
    "tiny fragments without end": (1008, *endless(TINY, BEGIN)),
    "empty fragments without end": (1008, *endless(EMPTY, BEGIN)),
    "large fragments without end": (1009, *endless(LARGE, BEGIN)),
    "pings without end": (1008, *endless(masked(Frame(Opcode.PING, b"")))),
    "large pings without end": (1008, *endless(masked(Frame(Opcode.PING, bytes(125))))),
    "pongs without end": (1008, *endless(masked(Frame(Opcode.PONG, b"")))),
}
ON_AND_ON = 200
"""How often, at most; the server has closed long before."""


async def greeted(peer: Peer, name: str) -> None:
    """Say HELLO as an honest device would."""
    peer.say(codec.encode(Hello(PROTOCOL_VERSION, make_token("mallory", name), name, "abuse/1", {}, ())))
    while not isinstance(codec.decode_server_frame(await peer.message()), Welcome):
        pass


async def abuse(server: ServerProcess, attack: Attack, name: str | None) -> int | None:
    """Do it, as a device with a good token if it has a name; the code of the server's close.

    None for one who writes on into a connection that is closed: TCP throws away what it has not read by then.
    """
    _, first, then = attack
    async with Peer.at(server.address) as peer:
        assert (await peer.upgrade()).startswith(b"HTTP/1.1 101 ")
        if name is not None:
            await greeted(peer, name)
        peer.writer.write(first)
        sending = asyncio.create_task(_send_on(peer, then))
        try:
            while (frame := await peer.frame()).opcode is not Opcode.CLOSE:
                pass
        except ConnectionError:
            if not then:
                raise
            return None
        finally:
            sending.cancel()
            await asyncio.wait([sending])
        return int.from_bytes(frame.data[:2], "big")


async def _send_on(peer: Peer, data: bytes) -> None:
    try:
        for piece in repeat(data, ON_AND_ON if data else 0):
            if peer.writer.is_closing():
                return
            peer.writer.write(piece)
            await peer.writer.drain()
            await asyncio.sleep(0)  # let what comes be read
    except ConnectionError:
        return


async def test_who_abuses_the_protocol_is_closed_with_the_code_for_it_and_nobody_else_notices(tmp_path: Path) -> None:
    async with server_process(tmp_path) as server, honest_pair(server.url) as honest:
        names = [*repeat(None, ATTACKERS), *(f"bad-{n}" for n in range(ATTACKERS))]
        for title, attack in ATTACKS.items():

            async def all_at_once(attack: Attack = attack) -> None:
                codes = await asyncio.gather(*(abuse(server, attack, name) for name in names))
                assert [code for code in codes if code is not None] == [attack[0]] * (len(names) - codes.count(None))
                assert attack[0] in codes

            (await measured(server, honest, all_at_once)).check(title, grown_bytes_max=GROWTH_BYTES_MAX)
        assert server.is_running
