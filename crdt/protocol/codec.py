"""Frames to bytes and back: msgpack arrays `[type, ...fields]`, read strictly.

Fields appended by later minor versions are ignored; everything else that is not exactly the protocol is `bad_frame`.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, Final, TypeVar

import msgpack

from crdt.errors import PeerError
from crdt.limits import DEFLATE_FROM_BYTES, Limits
from crdt.protocol import frames
from crdt.protocol.codes import Code
from crdt.protocol.frames import Access, Cursor, DeviceFrame, Mode, Open, Push, Resume, ServerFrame

UINT_MAX: Final = (1 << 63) - 1
"""Integers fit a signed 64-bit column and most languages' integers."""

CONTAINERS_MAX: Final = 4096
"""Arrays and maps in one message, whatever their depth: an honest one has a few hundred at most."""

_SMALL_BYTES = 1 << 12
"""What zlib sets up for a window of this size costs a fifth: most of the time that a short list takes."""

_unpackb: Final = msgpack.unpackb
_packer: Final = msgpack.Packer(use_bin_type=True, autoreset=True)
_new: Final = tuple.__new__
"""Makes a named tuple in a third of the time."""
_PUSH: Final = frames.Push.TYPE
_NO_LIMITS = Limits(inflated_bytes=1 << 30, updates_per_push=1 << 30)

_E = TypeVar("_E", Access, Mode)


def bad_frame(message: str) -> PeerError:
    """The error for anything that is not the protocol."""
    return PeerError(Code.BAD_FRAME, message)


# --- encoding


def encode(frame: DeviceFrame | ServerFrame, *, deflate: bool = False) -> bytes:
    """One frame as the bytes of one WebSocket message.

    With `deflate`, a list of updates of DEFLATE_FROM_BYTES or more is raw-deflated, where that is shorter.
    """
    packed: bytes
    if type(frame) is frames.Delta:  # the two that make up nearly all that is sent, without a look at their fields
        packed = _packer.pack(
            (frames.Delta.TYPE, frame.handle, frame.seq, pack_updates(frame.updates, deflate=deflate))
        )
    elif type(frame) is frames.Ack:
        packed = _packer.pack((frames.Ack.TYPE, frame.handle, frame.op, frame.seq, frame.chain))
    else:
        packed = _packer.pack([frame.TYPE, *_wire_fields(frame, deflate)])
    return packed


def _wire_fields(frame: DeviceFrame | ServerFrame, deflate: bool) -> list[Any]:
    values: list[Any] = [getattr(frame, name) for name in _FIELD_NAMES[type(frame)]]
    match frame:
        case frames.Push():
            values[2] = pack_updates(frame.updates, deflate=deflate)
        case frames.Opened():
            values[4] = pack_updates(frame.updates, deflate=deflate)
        case frames.Hello():
            values[5] = [_wire_fields(opened, deflate) for opened in frame.opens]
        case _:
            pass
    return values


def pack_updates(updates: tuple[bytes, ...], *, deflate: bool) -> tuple[bytes, ...] | bytes:
    """A list of updates as it goes into a frame: the list itself, or the raw-deflated msgpack of it."""
    if not deflate or bytes_of(updates) < DEFLATE_FROM_BYTES:
        return updates
    packed = encode_updates(updates)
    deflated = deflate_raw(packed)
    return deflated if len(deflated) < len(packed) else updates


def bytes_of(updates: tuple[bytes, ...]) -> int:
    """How long these are together."""
    size = 0
    for update in updates:
        size += len(update)
    return size


def encode_updates(updates: tuple[bytes, ...]) -> bytes:
    """The msgpack array of the updates: what CHUNK frames carry slices of."""
    packed: bytes = _packer.pack(updates)
    return packed


def deflate_raw(data: bytes) -> bytes:
    """RFC 1951 without header or checksum, as `DecompressionStream("deflate-raw")` reads it."""
    small = len(data) <= _SMALL_BYTES
    compressor = zlib.compressobj(level=6, wbits=-12 if small else -15, memLevel=4 if small else 8)
    return compressor.compress(data) + compressor.flush()


def field_names(frame: type[Any]) -> tuple[str, ...]:
    """A frame's fields, in wire order."""
    return getattr(frame, "_fields", None) or tuple(field.name for field in fields(frame))


# --- decoding


def decode_device_frame(data: bytes, limits: Limits) -> DeviceFrame | None:
    """What a device sent; None for an optional frame that this version does not know.

    Raises PeerError with `bad_frame`, or `too_big` for what is over `limits`.
    """
    frame: DeviceFrame | None = _decode(data, _DEVICE_FRAMES, limits)
    return frame


def decode_server_frame(data: bytes, limits: Limits = _NO_LIMITS) -> ServerFrame | None:
    """What a server sent; None for an optional frame that this version does not know. Raises PeerError."""
    frame: ServerFrame | None = _decode(data, _SERVER_FRAMES, limits)
    return frame


def decode_updates(payload: bytes, *, deflated: bool, limits: Limits = _NO_LIMITS) -> tuple[bytes, ...]:
    """The updates of a chunked answer, once all its slices are there. Raises PeerError.

    `deflated` is what HELLO's `options.deflate` agreed to: chunked answers are long enough to be always deflated.
    """
    return _unpack_updates(_inflate(payload, limits) if deflated else payload, limits)


def _decode(data: bytes, table: Mapping[int, _Shape], limits: Limits) -> Any:
    values = _unpack(data)
    if type(values) is not list or not values or type(values[0]) is not int:
        raise bad_frame("a frame is an array that begins with its type")
    kind = values[0]
    if kind == _PUSH and table is _DEVICE_FRAMES and (push := _short_push(values, limits)) is not None:
        return push
    shape = table.get(kind)
    if shape is None:
        if kind in frames.OPTIONAL_TYPES:
            return None
        raise bad_frame(f"unknown frame type {kind}")
    return shape.build(values, 1, limits)


def _short_push(values: list[Any], limits: Limits) -> Push | None:
    """What nearly every frame is, one update and nothing unusual, without the detour over its shape; None if not."""
    if len(values) != 4 and (len(values) != 5 or values[4] is not False):
        return None
    handle, first_op, updates = values[1], values[2], values[3]
    if type(handle) is not int or not 0 <= handle <= UINT_MAX:
        return None
    if type(first_op) is not int or not 0 <= first_op <= UINT_MAX:
        return None
    if type(updates) is not list or len(updates) != 1 or type(updates[0]) is not bytes or limits.updates_per_push < 1:
        return None
    return _new(Push, (handle, first_op, (updates[0],), False))


def _unpack(data: bytes) -> Any:
    try:
        if len(data) <= CONTAINERS_MAX:
            return _unpackb(data, raw=False, strict_map_key=True, use_list=True, max_ext_len=0)
        hooks = _container_bound()
        return _unpackb(data, raw=False, strict_map_key=True, use_list=True, max_ext_len=0, **hooks)
    except (ValueError, msgpack.UnpackException, RecursionError, OverflowError) as exc:
        raise bad_frame("not one msgpack value") from exc


def _container_bound() -> dict[str, Callable[[Any], Any]]:
    """Hooks that stop at too many arrays and maps. One takes a byte on the wire and up to eighty in memory."""
    left = iter(range(CONTAINERS_MAX))

    def count(container: Any) -> Any:
        if next(left, None) is None:
            raise bad_frame(f"a message has at most {CONTAINERS_MAX} arrays and maps")
        return container

    return {"list_hook": count, "object_hook": count}


def _unpack_updates(data: bytes, limits: Limits) -> tuple[bytes, ...]:
    """The msgpack array of updates in `data`, of which nothing else is built: a few deflated bytes can be millions."""
    unpacker = msgpack.Unpacker(max_buffer_size=max(len(data), 1), **_BINARY_ONLY)
    unpacker.feed(data)
    try:
        count = unpacker.read_array_header()
        _check_count(count, limits)
        updates = tuple(_bin(unpacker.unpack(), limits) for _ in range(count))
    except (ValueError, msgpack.UnpackException) as exc:
        raise bad_frame("not one list of updates") from exc
    if unpacker.tell() != len(data):
        raise bad_frame("bytes after the list of updates")
    return updates


_BINARY_ONLY = {"max_array_len": 0, "max_map_len": 0, "max_str_len": 0, "max_ext_len": 0}


def _check_count(count: int, limits: Limits) -> None:
    if count > limits.updates_per_push:
        raise PeerError(Code.TOO_BIG, f"a list has at most {limits.updates_per_push} updates")


# Readers: each takes a decoded msgpack value and the limits, and gives the field's value or raises.

_Reader = Callable[[Any, Limits], Any]


def _uint(value: Any, _: Limits) -> int:
    if type(value) is not int or not 0 <= value <= UINT_MAX:
        raise bad_frame("expected an unsigned integer")
    return value


def _text(value: Any, _: Limits) -> str:
    if type(value) is not str:
        raise bad_frame("expected a string")
    return value


def _token(value: Any, limits: Limits) -> str:
    if len(_text(value, limits)) > limits.token_bytes:
        raise PeerError(Code.TOO_BIG, f"a token has at most {limits.token_bytes} bytes")
    return str(value)


def _flag(value: Any, _: Limits) -> bool:
    if type(value) is not bool:
        raise bad_frame("expected a boolean")
    return value


def _bin(value: Any, _: Limits) -> bytes:
    if type(value) is not bytes:
        raise bad_frame("expected binary")
    return value


def _mapping(value: Any, limits: Limits) -> dict[str, Any]:
    if type(value) is not dict or not all(type(key) is str for key in value):
        raise bad_frame("expected a map with string keys")
    return value


def _bin_of(size: int) -> _Reader:
    def read(value: Any, _: Limits) -> bytes:
        if type(value) is not bytes or len(value) != size:
            raise bad_frame(f"expected {size} bytes")
        return value

    return read


def _member_of(enum: type[_E]) -> _Reader:
    def read(value: Any, limits: Limits) -> _E:
        try:
            found: _E = enum(_text(value, limits))
        except ValueError as exc:
            raise bad_frame(f"not one of {[str(member) for member in enum]}") from exc
        return found

    return read


def _optional(reader: _Reader) -> _Reader:
    def read(value: Any, limits: Limits) -> Any:
        return None if value is None else reader(value, limits)

    return read


def _pair(value: Any, what: str) -> list[Any]:
    if type(value) is not list or len(value) < 2:
        raise bad_frame(f"expected {what}")
    return value


def _cursor(value: Any, limits: Limits) -> Cursor:
    epoch, seq, *_ = _pair(value, "a cursor [epoch, seq]")
    return Cursor(_bin_of(frames.EPOCH_BYTES)(epoch, limits), _uint(seq, limits))


def _resume(value: Any, limits: Limits) -> Resume:
    payload_id, offset, *_ = _pair(value, "a resume point [payload_id, offset]")
    return Resume(_bin_of(frames.PAYLOAD_ID_BYTES)(payload_id, limits), _uint(offset, limits))


def _updates(value: Any, limits: Limits) -> tuple[bytes, ...]:
    if type(value) is bytes:
        return _unpack_updates(_inflate(value, limits), limits)
    if type(value) is not list:
        raise bad_frame("expected a list of updates")
    _check_count(len(value), limits)
    for update in value:
        if type(update) is not bytes:
            raise bad_frame("an update is binary")
    return tuple(value)


def _inflate(data: bytes, limits: Limits) -> bytes:
    inflater = zlib.decompressobj(wbits=-15)
    try:
        inflated = inflater.decompress(data, limits.inflated_bytes + 1)
    except zlib.error as exc:
        raise bad_frame("not deflated data") from exc
    if len(inflated) > limits.inflated_bytes:
        raise PeerError(Code.TOO_BIG, f"a list inflates to at most {limits.inflated_bytes} bytes")
    if not inflater.eof or inflater.unused_data:
        raise bad_frame("deflated data is cut off or has bytes after its end")
    return inflated


def _opens(value: Any, limits: Limits) -> tuple[Open, ...]:
    if type(value) is not list:
        raise bad_frame("expected a list of opens")
    if len(value) > limits.opens_per_hello:
        raise PeerError(Code.TOO_BIG, f"HELLO opens at most {limits.opens_per_hello} documents")
    return tuple(_OPEN.build(item, 0, limits) for item in value)


class _Shape:
    """The fields of one frame type: `readers` in wire order, of which the first `required` must be there."""

    def __init__(self, frame: type[Any], required: int, *readers: _Reader) -> None:
        self.frame = frame
        self.required = required
        self.readers = readers

    def build(self, values: Any, start: int, limits: Limits) -> Any:
        if type(values) is not list or len(values) - start < self.required:
            raise bad_frame(f"{self.frame.__name__} has at least {self.required} fields")
        found = values[start : start + len(self.readers)]
        try:
            return self.frame(*[read(v, limits) for read, v in zip(self.readers, found, strict=False)])
        except PeerError as exc:
            raise PeerError(exc.code, f"{self.frame.__name__}: {exc.message}", **exc.detail) from exc


_OPEN = _Shape(Open, 2, _uint, _text, _optional(_cursor), _optional(_bin), _optional(_resume))

_DEVICE_FRAMES: dict[int, _Shape] = {
    frames.Hello.TYPE: _Shape(frames.Hello, 6, _uint, _token, _text, _text, _mapping, _opens),
    frames.Open.TYPE: _OPEN,
    frames.Push.TYPE: _Shape(frames.Push, 3, _uint, _uint, _updates, _flag),
    frames.Leave.TYPE: _Shape(frames.Leave, 1, _uint),
    frames.Presence.TYPE: _Shape(frames.Presence, 2, _uint, _optional(_bin)),
    frames.Auth.TYPE: _Shape(frames.Auth, 1, _token),
    frames.Ping.TYPE: _Shape(frames.Ping, 1, _uint),
    frames.Resync.TYPE: _Shape(frames.Resync, 3, _uint, _optional(_cursor), _bin),
    frames.Audit.TYPE: _Shape(frames.Audit, 3, _uint, _uint, _bin_of(frames.DIGEST_BYTES)),
    frames.Report.TYPE: _Shape(frames.Report, 1, _mapping),
}

_SERVER_FRAMES: dict[int, _Shape] = {
    frames.Nonce.TYPE: _Shape(frames.Nonce, 1, _bin_of(frames.NONCE_BYTES)),
    frames.Welcome.TYPE: _Shape(frames.Welcome, 7, _uint, _text, _text, _uint, _mapping, _uint, _uint),
    frames.Opened.TYPE: _Shape(
        frames.Opened, 10,
        _uint, _uint, _member_of(Mode), _cursor, _updates, _uint, _optional(_bin), _member_of(Access), _flag,
        _bin_of(frames.CHAIN_BYTES), _optional(_bin_of(frames.PAYLOAD_ID_BYTES)),
    ),
    frames.Delta.TYPE: _Shape(frames.Delta, 3, _uint, _uint, _updates),
    frames.Ack.TYPE: _Shape(frames.Ack, 4, _uint, _uint, _uint, _bin_of(frames.CHAIN_BYTES)),
    frames.DevicePresence.TYPE: _Shape(frames.DevicePresence, 3, _uint, _text, _optional(_bin)),
    frames.Error.TYPE: _Shape(
        frames.Error, 5,
        _optional(_uint), _optional(_uint), _text, _text, _text, _optional(_uint), _optional(_mapping),
    ),
    frames.GoAway.TYPE: _Shape(frames.GoAway, 2, _text, _uint),
    frames.Pong.TYPE: _Shape(frames.Pong, 2, _uint, _uint),
    frames.Chunk.TYPE: _Shape(frames.Chunk, 4, _uint, _uint, _uint, _bin),
    frames.Expiring.TYPE: _Shape(frames.Expiring, 1, _uint),
    frames.Audited.TYPE: _Shape(frames.Audited, 3, _uint, _uint, _flag),
}  # fmt: skip

_FIELD_NAMES: dict[type[Any], tuple[str, ...]] = {
    shape.frame: field_names(shape.frame) for shape in (*_DEVICE_FRAMES.values(), *_SERVER_FRAMES.values())
}
