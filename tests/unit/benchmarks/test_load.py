"""The light generator counts exactly what a decoder would, in whatever pieces it arrives."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing

import pytest

from benchmarks.client import client_frame
from benchmarks.figures import WorkloadFailed
from benchmarks.load import Device, Loop, Script, clock, deltas, messages
from crdt.limits import Limits
from crdt.protocol import frames
from crdt.protocol.codec import decode_device_frame, encode

CHAIN = bytes(frames.CHAIN_BYTES)
WITHIN_S = 5.0


def message(frame: frames.ServerFrame) -> bytes:
    """As a server sends it: without a mask."""
    payload = encode(frame)
    size = len(payload)
    if size < 126:
        return bytes((0x82, size)) + payload
    if size < 1 << 16:
        return b"\x82\x7e" + size.to_bytes(2, "big") + payload
    return b"\x82\x7f" + size.to_bytes(8, "big") + payload


DELTAS = [frames.Delta(1, seq, (bytes(size),)) for seq, size in enumerate((1, 200, 70_000, 125, 3), 1)]
STREAM = b"".join(
    (
        message(DELTAS[0]),
        b"\x89\x00",
        message(DELTAS[1]),
        message(frames.Ack(1, 2, 6, CHAIN)),
        message(DELTAS[2]),
        b"\x89\x02hi",
        message(DELTAS[3]),
        message(frames.Pong(7, 0)),
        message(DELTAS[4]),
    )
)


class Bench:
    """A device and the server's end of its connection."""

    def __init__(self, loop: Loop, device: Device, server: socket.socket) -> None:
        self.loop = loop
        self.device = device
        self.server = server

    def run(self) -> None:
        """Read what is there now."""
        self.loop.run_until(clock() + 0.02)

    def received(self) -> list[frames.DeviceFrame | None]:
        """The frames that the device has sent, unmasked as they are."""
        data = self.server.recv(1 << 20)
        found = []
        while data:
            assert data[0] == 0x82
            length, start = data[1] & 0x7F, 6
            assert length < 126
            found.append(decode_device_frame(data[start : start + length], Limits()))
            data = data[start + length :]
        return found


@pytest.fixture
def bench() -> Iterator[Bench]:
    ours, theirs = socket.socketpair()
    loop = Loop()
    with closing(theirs), closing(loop), closing(Device(loop, ours, 1, b"")) as device:
        theirs.settimeout(WITHIN_S)
        device.script = Script.of([bytes([number]) for number in range(8)], 1)
        yield Bench(loop, device, theirs)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 131, len(STREAM)])
def test_whole_frames_are_counted_however_they_are_cut(bench: Bench, size: int) -> None:
    bench.device.kept = []
    stream = STREAM if size > 100 else STREAM[: STREAM.index(message(DELTAS[2]))]
    for start in range(0, len(stream), size):
        bench.server.sendall(stream[start : start + size])
        bench.loop._read(WITHIN_S)
    bench.run()
    expected = DELTAS if size > 100 else DELTAS[:2]
    assert bench.device.deltas == len(expected)
    assert [delta for _, delta in deltas(bench.device.kept)] == expected
    assert (bench.device.acked, bench.device.entries, bench.device.head) == (2, 1, 6)


def test_pings_are_answered(bench: Bench) -> None:
    bench.server.sendall(b"\x89\x02hi")
    bench.run()
    assert bench.server.recv(100) == b"\x8a\x82\x00\x00\x00\x00hi"


def test_what_is_not_whole_is_left() -> None:
    payloads, rest = messages(STREAM[:-1])
    assert len(payloads) == 6
    assert rest == message(DELTAS[4])[:-1]


def test_an_ack_makes_room_for_as_many_ops_as_it_acknowledges(bench: Bench) -> None:
    bench.device.saturating = True
    bench.device.push(2)
    assert bench.received() == [frames.Push(1, 1, (b"\x00",)), frames.Push(1, 2, (b"\x01",))]
    bench.server.sendall(message(frames.Ack(1, 2, 1, CHAIN)))
    bench.run()
    assert bench.received() == [frames.Push(1, 3, (b"\x02",)), frames.Push(1, 4, (b"\x03",))]


def test_a_batch_is_one_message(bench: Bench) -> None:
    bench.device.batching = True
    bench.device.push(3)
    assert bench.received() == [frames.Push(1, 1, (b"\x00", b"\x01", b"\x02"))]


def test_the_run_ends_when_a_device_has_nothing_left(bench: Bench) -> None:
    bench.device.push(20)
    assert bench.device.sent == 8
    assert bench.loop.stopped


def test_an_op_that_was_known_is_no_entry(bench: Bench) -> None:
    bench.server.sendall(message(frames.Ack(1, 2, 0, CHAIN)))
    bench.run()
    assert (bench.device.acked, bench.device.entries) == (2, 0)


@pytest.mark.parametrize(
    "data",
    [message(frames.GoAway("stopping", 1000)), b"\x88\x02\x03\xe8", b""],
    ids=["goaway", "close", "the end"],
)
def test_a_server_that_gives_up_fails_the_run(bench: Bench, data: bytes) -> None:
    bench.server.sendall(data)
    if not data:
        bench.server.shutdown(socket.SHUT_WR)
    with pytest.raises(WorkloadFailed):
        bench.run()


def test_a_server_that_is_gone_fails_the_run_of_whoever_pushes(bench: Bench) -> None:
    bench.server.close()
    with pytest.raises(WorkloadFailed):
        bench.device.push()


def test_a_server_that_does_not_read_fails_the_run(bench: Bench) -> None:
    bench.device.script = Script.of([bytes(1 << 16)] * 100, 1)
    with pytest.raises(WorkloadFailed):
        bench.device.push(40)
    with pytest.raises(WorkloadFailed):
        bench.device.push(40)


@pytest.mark.parametrize("length", [0, 125, 126, 65_535, 65_536])
def test_messages_of_devices_have_a_mask_that_changes_nothing(length: int) -> None:
    data = client_frame(bytes(length))
    assert data[1] & 0x80
    assert len(data) == length + (6 if length < 126 else 8 if length < 1 << 16 else 14)
