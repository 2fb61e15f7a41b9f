"""A visitor counts what counts, puts answers together however they come in, and hears when it is sent away."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from benchmarks.visitor import NOTHING, Place, TurnedAway, Visit, Visitor
from crdt.limits import Limits
from crdt.protocol import frames
from crdt.protocol.codec import decode_device_frame, deflate_raw, encode, encode_updates
from crdt.protocol.frames import Access, Cursor, DeviceFrame, Mode, ServerFrame

TOKEN = "eyJ.e30.c2ln"
CURSOR = Cursor(b"epoch-01", 7)
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"
WELCOME = frames.Welcome(1, "1", "alice", 0, {}, 30_000, 0)


class Transport:
    """Keeps what was written."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.is_closed = False

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def close(self) -> None:
        self.is_closed = True


def message(payload: bytes, opcode: int = 0x82) -> bytes:
    length = len(payload)
    size = bytes((length,)) if length < 126 else b"\x7e" + length.to_bytes(2, "big")
    return bytes((opcode,)) + size + payload


def opened(mode: Mode, updates: tuple[bytes, ...] = (), *, more: bool = False) -> frames.Opened:
    ref = 1 if mode is not Mode.DIFF or not more else 0
    return frames.Opened(ref, 5, mode, CURSOR, updates, 2, None, Access.WRITE, more, bytes(8), bytes(16))


def sent(transport: Transport, index: int) -> DeviceFrame | None:
    """The message that was written as the `index`th, the upgrade's request left out."""
    data = transport.written[1 + index]
    start = 6 if data[1] & 0x7F < 126 else 8
    return decode_device_frame(data[start:], Limits())


def visiting(place: Place = NOTHING) -> tuple[Visitor, Visit, Transport]:
    visit, transport = Visit("main", place), Transport()
    visitor = Visitor(TOKEN, "phone", [visit])
    visitor.connection_made(cast("asyncio.Transport", transport))
    return visitor, visit, transport


def feed(visitor: Visitor, *server_frames: ServerFrame) -> None:
    for frame in server_frames:
        visitor.data_received(message(encode(frame)))


async def test_frames_both_ways_count_without_the_token() -> None:
    visitor, _, transport = visiting()
    hello = sent(transport, 0)
    assert hello is not None
    visitor.data_received(SWITCHED)
    feed(visitor, WELCOME, opened(Mode.CURRENT))
    assert visitor.frame_bytes_up == len(encode(hello)) - len(TOKEN)
    assert visitor.frame_bytes_down == len(encode(WELCOME)) + len(encode(opened(Mode.CURRENT)))


async def test_an_answer_is_read_byte_by_byte_and_pings_are_answered() -> None:
    visitor, visit, transport = visiting()
    answer = opened(Mode.DIFF, (bytes(300),))
    for byte in SWITCHED + message(encode(WELCOME)) + message(b"there?", 0x89) + message(encode(answer)):
        visitor.data_received(bytes((byte,)))
    assert (await visit.caught_up).updates == (bytes(300),)
    assert transport.written[-1] == b"\x8a\x86\x00\x00\x00\x00there?"


async def test_chunks_are_put_together() -> None:
    visitor, visit, _ = visiting()
    visitor.data_received(SWITCHED)
    data = deflate_raw(encode_updates((b"one", b"two")))
    feed(visitor, opened(Mode.TAIL, more=True), frames.Chunk(5, 0, len(data), data[:4]))
    assert not visit.caught_up.done()
    feed(visitor, frames.Chunk(5, 4, len(data), data[4:]))
    assert (await visit.caught_up).updates == (b"one", b"two")


@pytest.mark.parametrize("epoch", [CURSOR.epoch, b"epoch-00"])
async def test_who_is_asked_for_a_state_vector_tells_it_with_the_cursor_if_that_still_counts(epoch: bytes) -> None:
    place = Place(Cursor(epoch, 3), b"\x01\x05\x02")
    visitor, _, transport = visiting(place)
    visitor.data_received(SWITCHED)
    feed(visitor, opened(Mode.NEED_SV))
    cursor = place.cursor if epoch == CURSOR.epoch else None
    assert sent(transport, 1) == frames.Resync(5, cursor, place.state_vector)


@pytest.mark.parametrize(
    ("said", "retry_after_s"),
    [
        (SWITCHED + message(encode(frames.Error(None, None, "overloaded", "", "later", 1500))), 1.5),
        (SWITCHED + message(encode(frames.GoAway("", 2500))), 2.5),
        (SWITCHED + message(encode(frames.Error(None, None, "bad_token", "", "after_auth"))), None),
        (b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 4\r\n\r\n", 4.0),
    ],
)
async def test_who_is_sent_away_hears_when_to_come_back(said: bytes, retry_after_s: float | None) -> None:
    visitor, visit, _ = visiting()
    visitor.data_received(said)
    visitor.connection_lost(None)
    for waiting in cast("list[asyncio.Future[Any]]", [visitor.welcomed, visit.caught_up]):
        with pytest.raises(TurnedAway) as caught:
            await waiting
        assert caught.value.retry_after_s == retry_after_s


async def test_an_acknowledgement_that_never_comes_is_an_error() -> None:
    visitor, visit, _ = visiting()
    visitor.data_received(SWITCHED)
    feed(visitor, WELCOME, opened(Mode.CURRENT))
    await visit.acknowledged(2)
    waiting = asyncio.ensure_future(visit.acknowledged(4))
    feed(visitor, frames.Ack(5, 3, 8, bytes(8)))
    await asyncio.sleep(0)
    visitor.connection_lost(None)
    with pytest.raises(ConnectionError):
        await waiting
