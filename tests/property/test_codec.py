"""The codec on everything there is: every frame survives the wire, and no bytes make it do anything but say no."""

from __future__ import annotations

import os
import tracemalloc
from collections.abc import Callable
from typing import Any

import msgpack
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crdt.errors import PeerError
from crdt.limits import Limits
from crdt.protocol import codec, frames
from crdt.protocol.codes import Code
from crdt.protocol.frames import Access, Cursor, Mode, Open, Resume

MANY = settings(
    max_examples=20_000 if os.environ.get("SYNCLINE_SOAK") else 150,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)

uints = st.integers(0, codec.UINT_MAX)
texts = st.text(max_size=20)
binaries = st.binary(max_size=40)
update_lists = st.lists(binaries, max_size=6).map(tuple) | st.just((b"long" * 300, b"er" * 300))
flags = st.booleans()
scalars = st.none() | flags | uints | st.floats(allow_nan=False) | texts | binaries
maps = st.dictionaries(
    texts, st.recursive(scalars, lambda inner: st.lists(inner, max_size=3), max_leaves=5), max_size=4
)


def blobs(size: int) -> st.SearchStrategy[bytes]:
    return st.binary(min_size=size, max_size=size)


cursors = st.builds(Cursor, blobs(8), uints)
opens = st.builds(
    Open, uints, texts, st.none() | cursors, st.none() | binaries, st.none() | st.builds(Resume, blobs(16), uints)
)

DEVICE: dict[type[Any], st.SearchStrategy[Any]] = {
    frames.Hello: st.builds(frames.Hello, uints, texts, texts, texts, maps, st.lists(opens, max_size=3).map(tuple)),
    frames.Open: opens,
    frames.Push: st.builds(frames.Push, uints, uints, update_lists, flags),
    frames.Leave: st.builds(frames.Leave, uints),
    frames.Presence: st.builds(frames.Presence, uints, st.none() | binaries),
    frames.Auth: st.builds(frames.Auth, texts),
    frames.Ping: st.builds(frames.Ping, uints),
    frames.Resync: st.builds(frames.Resync, uints, st.none() | cursors, binaries),
    frames.Audit: st.builds(frames.Audit, uints, uints, blobs(16)),
    frames.Report: st.builds(frames.Report, maps),
}

SERVER: dict[type[Any], st.SearchStrategy[Any]] = {
    frames.Nonce: st.builds(frames.Nonce, blobs(16)),
    frames.Welcome: st.builds(frames.Welcome, uints, texts, texts, uints, maps, uints, uints),
    frames.Opened: st.builds(
        frames.Opened, uints, uints, st.sampled_from(Mode), cursors, update_lists, uints, st.none() | binaries,
        st.sampled_from(Access), flags, blobs(8), st.none() | blobs(16),
    ),
    frames.Delta: st.builds(frames.Delta, uints, uints, update_lists),
    frames.Ack: st.builds(frames.Ack, uints, uints, uints, blobs(8)),
    frames.DevicePresence: st.builds(frames.DevicePresence, uints, texts, st.none() | binaries),
    frames.Error: st.builds(
        frames.Error, st.none() | uints, st.none() | uints, texts, texts, texts, st.none() | uints, st.none() | maps
    ),
    frames.GoAway: st.builds(frames.GoAway, texts, uints),
    frames.Pong: st.builds(frames.Pong, uints, uints),
    frames.Chunk: st.builds(frames.Chunk, uints, uints, uints, binaries),
    frames.Expiring: st.builds(frames.Expiring, uints),
    frames.Audited: st.builds(frames.Audited, uints, uints, flags),
}  # fmt: skip

device_frames = st.one_of(*DEVICE.values())
server_frames = st.one_of(*SERVER.values())
any_frames = device_frames | server_frames


def decode(data: bytes, limits: Limits = Limits()) -> Any:  # noqa: B008 - a frozen value
    """Both decoders in one: their type numbers do not overlap."""
    values = msgpack.unpackb(data)
    return codec.decode_device_frame(data, limits) if values[0] < 32 else codec.decode_server_frame(data)


def refusal(data: bytes, limits: Limits) -> Code:
    with pytest.raises(PeerError) as caught:
        codec.decode_device_frame(data, limits)
    return caught.value.code


def answers(read: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
    """The promise on bytes from anyone: a value, or PeerError with a code that closes; nothing else ever."""
    code = None
    try:
        read(*args, **kwargs)
    except PeerError as exc:
        code = exc.code
    assert code in (None, Code.BAD_FRAME, Code.TOO_BIG)


def both_answer(data: bytes) -> None:
    answers(codec.decode_device_frame, data, Limits())
    answers(codec.decode_server_frame, data)


def test_every_frame_has_a_strategy() -> None:
    assert set(DEVICE) == set(frames.DeviceFrame.__args__)
    assert set(SERVER) == set(frames.ServerFrame.__args__)


@pytest.mark.parametrize("frame_type", [*DEVICE, *SERVER])
def test_a_frame_survives_the_wire(frame_type: type[Any]) -> None:
    @settings(MANY, max_examples=MANY.max_examples // 6)
    @given((DEVICE | SERVER)[frame_type], flags)
    def check(frame: Any, deflate: bool) -> None:
        assert decode(codec.encode(frame, deflate=deflate)) == frame

    check()


@MANY
@given(any_frames, st.lists(scalars | maps, min_size=1, max_size=3))
def test_appended_fields_are_ignored(frame: Any, appended: list[Any]) -> None:
    longer = msgpack.packb([*msgpack.unpackb(codec.encode(frame)), *appended])

    assert decode(longer) == frame


@MANY
@given(st.integers(64, 127), st.lists(scalars | maps, max_size=3))
def test_unknown_optional_types_are_ignored(frame_type: int, values: list[Any]) -> None:
    data = msgpack.packb([frame_type, *values])

    assert codec.decode_device_frame(data, Limits()) is None
    assert codec.decode_server_frame(data) is None


@MANY
@given(st.integers().filter(lambda n: -(1 << 63) <= n < 1 << 64 and n not in range(64, 128)), flags)
def test_other_unknown_types_are_refused(frame_type: int, from_device: bool) -> None:
    known = {frame.TYPE for frame in (DEVICE if from_device else SERVER)}
    data = msgpack.packb([frame_type, 1, 1])
    read = codec.decode_device_frame if from_device else codec.decode_server_frame

    if frame_type not in known:
        with pytest.raises(PeerError, match="unknown frame type"):
            read(data, Limits())


@MANY
@given(st.binary(max_size=200))
def test_random_bytes_are_refused_and_no_more(data: bytes) -> None:
    both_answer(data)
    both_answer(b"\x94" + data)


@MANY
@given(any_frames, flags, st.data())
def test_damaged_frames_are_refused_and_no_more(frame: Any, deflate: bool, data: st.DataObject) -> None:
    good = bytearray(codec.encode(frame, deflate=deflate))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(good)))
        good[at : at + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=4))

    both_answer(bytes(good))


@MANY
@given(any_frames, st.data())
def test_a_cut_frame_and_a_longer_message_are_bad_frames(frame: Any, data: st.DataObject) -> None:
    good = codec.encode(frame)
    cut = good[: data.draw(st.integers(0, len(good) - 1))]
    read = codec.decode_device_frame if type(frame) in DEVICE else codec.decode_server_frame

    for damaged in (cut, good + b"\x00"):
        with pytest.raises(PeerError, match="not one msgpack value"):
            read(damaged, Limits())


@MANY
@given(st.integers(0, 3), any_frames, scalars)
def test_a_field_of_another_type_is_refused_or_reads_as_it_was_sent(at: int, frame: Any, other: Any) -> None:
    values = msgpack.unpackb(codec.encode(frame))
    if not 0 < at + 1 < len(values):
        return
    values[at + 1] = other

    both_answer(msgpack.packb(values))


@MANY
@given(st.lists(st.binary(max_size=30), max_size=20), st.integers(0, 40))
def test_a_push_has_at_most_so_many_updates(updates: list[bytes], bound: int) -> None:
    limits = Limits(updates_per_push=bound)
    plain = codec.encode(frames.Push(1, 1, tuple(updates)))
    deflated = msgpack.packb([3, 1, 1, codec.deflate_raw(msgpack.packb(updates))])

    for data in (plain, deflated):
        if len(updates) > bound:
            assert refusal(data, limits) is Code.TOO_BIG
        else:
            assert codec.decode_device_frame(data, limits) == frames.Push(1, 1, tuple(updates))


@MANY
@given(st.lists(st.binary(max_size=30) | st.integers(1, 2000).map(bytes), max_size=20), st.integers(-3, 3))
def test_inflating_stops_exactly_at_its_bound(updates: list[bytes], beyond: int) -> None:
    inflated = msgpack.packb(updates)
    data = msgpack.packb([3, 1, 1, codec.deflate_raw(inflated)])
    limits = Limits(inflated_bytes=max(len(inflated) - beyond, 0))

    if limits.inflated_bytes < len(inflated):
        assert refusal(data, limits) is Code.TOO_BIG
    else:
        assert codec.decode_device_frame(data, limits) == frames.Push(1, 1, tuple(updates))


@MANY
@given(st.lists(binaries, min_size=1, max_size=5), st.data())
def test_a_damaged_deflated_list_is_refused(updates: list[bytes], data: st.DataObject) -> None:
    whole = codec.deflate_raw(msgpack.packb(updates))
    cut = whole[: data.draw(st.integers(0, len(whole) - 1))]
    more = codec.deflate_raw(msgpack.packb(updates) + b"\xc0")

    for damaged in (cut, whole + b"\x00", more):
        assert refusal(msgpack.packb([3, 1, 1, damaged]), Limits()) is Code.BAD_FRAME


@pytest.mark.parametrize("item", [b"\x80", b"\x90", b"\xa0", b"\x91\xc4\x00", b"\xc0", b"\xd4\x01\x00"])
@pytest.mark.parametrize("deflate", [False, True])
@pytest.mark.parametrize("length_is_honest", [False, True])
def test_a_list_of_anything_but_binary_costs_no_memory(item: bytes, deflate: bool, length_is_honest: bool) -> None:
    """A byte that says `empty map` takes eighty in memory, and deflating shrinks a million of them to a kilobyte."""
    count = (3 << 20) // len(item)
    items = b"\xdd" + (count if length_is_honest else 10_000).to_bytes(4, "big") + item * count
    data = b"\x94\x03\x01\x01" + (msgpack.packb(codec.deflate_raw(items)) if deflate else items)

    tracemalloc.start()
    assert refusal(data, Limits()) in (Code.BAD_FRAME, Code.TOO_BIG)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < 64 << 20


@MANY
@given(update_lists, flags)
def test_a_chunked_answer_survives_its_slices(updates: tuple[bytes, ...], deflated: bool) -> None:
    payload = codec.encode_updates(updates)
    if deflated:
        payload = codec.deflate_raw(payload)

    assert codec.decode_updates(payload, deflated=deflated) == updates


@MANY
@given(st.binary(max_size=100), flags)
def test_random_bytes_as_a_chunked_answer_are_refused_and_no_more(payload: bytes, deflated: bool) -> None:
    answers(codec.decode_updates, payload, deflated=deflated, limits=Limits())
