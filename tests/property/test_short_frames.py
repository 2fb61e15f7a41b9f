"""However a client's frames are cut into reads, a connection tells and answers what the library alone would."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import cast

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from websockets.frames import Opcode
from websockets.protocol import State
from websockets.server import ServerProtocol

from crdt.protocol.codes import CLOSE, Code
from server.runtime.connection import Connection
from server.runtime.lobby import Lobby, Sockets
from server.runtime.transport import Flusher, Rounds, Shared, Socket, TransportOptions

SOAK = "SYNCLINE_SOAK" in os.environ
OPTIONS = TransportOptions(hello_bytes_max=300, message_bytes_max=70_000)
SIZES = (0, 1, 2, 7, 30, 124, 125, 126, 127, 299, 300, 301, 65_535, 65_536, 70_000, 70_001)
BINARY, TEXT, CONT, CLOSING, PING, PONG = 0x2, 0x1, 0x0, 0x8, 0x9, 0xA
FIN = 0x80


# --- what a client sends


def frame(head: int, payload: bytes, *, key: bytes | None = b"\x01\x80\xfe\x37", length_bytes: int = 0) -> bytes:
    """One client frame (RFC 6455, 5.2); `length_bytes` makes its length longer than it need be."""
    size = len(payload)
    mask = FIN if key is not None else 0
    if size > 0xFFFF or length_bytes == 8:
        length = bytes((127 | mask,)) + size.to_bytes(8, "big")
    elif size > 125 or length_bytes == 2:
        length = bytes((126 | mask,)) + size.to_bytes(2, "big")
    else:
        length = bytes((size | mask,))
    if key is None:
        return bytes((head,)) + length + payload
    return bytes((head,)) + length + key + bytes(byte ^ key[at % 4] for at, byte in enumerate(payload))


def content(size: int, seed: int) -> bytes:
    return bytes((seed + at) & 0xFF for at in range(min(size, 300))).ljust(size, b"\xa5")


@dataclass
class Script:
    """Draws frames; each message has other bytes, so that one lost or out of order is noticed."""

    draw: st.DrawFn
    frames: list[bytes] = field(default_factory=list)

    def payload(self, sizes: Sequence[int] = SIZES) -> bytes:
        return content(self.draw(st.sampled_from(sizes)), len(self.frames) * 7 + 1)

    def short(self) -> None:
        for _ in range(self.draw(st.integers(1, 5))):
            self.frames.append(frame(FIN | BINARY, self.payload(SIZES[:7])))

    def burst(self) -> None:
        for number in range(self.draw(st.integers(60, 140))):
            self.frames.append(frame(FIN | BINARY, number.to_bytes(2, "big")))

    def message(self) -> None:
        self.frames.append(frame(FIN | BINARY, self.payload(), length_bytes=self.draw(st.sampled_from((0, 0, 2, 8)))))

    def control(self) -> None:
        opcode = self.draw(st.sampled_from((PING, PING, PONG)))
        self.frames.append(frame(FIN | opcode, self.payload(SIZES[:7])))

    def fragmented(self) -> None:
        sizes = self.draw(st.lists(st.sampled_from(SIZES[:10]), min_size=2, max_size=4))
        for index, size in enumerate(sizes):
            head = (FIN if index == len(sizes) - 1 else 0) | (CONT if index else BINARY)
            self.frames.append(frame(head, content(size, index)))
            if index < len(sizes) - 1 and self.draw(st.booleans()):
                self.control()

    def wrong(self) -> None:
        """Text, a close, or what breaks the protocol (some of it only where it stands)."""
        self.frames.append(
            self.draw(
                st.sampled_from(
                    (
                        frame(FIN | TEXT, b"text"),
                        frame(TEXT, b"te"),
                        frame(BINARY, b"begun"),
                        frame(FIN | CONT, b"stray"),
                        frame(FIN | CLOSING, b"\x03\xe8bye"),
                        frame(FIN | CLOSING, b""),
                        frame(FIN | CLOSING, b"\x03"),
                        frame(FIN | CLOSING, b"\x03\xed"),
                        frame(FIN | BINARY | 0x40, b"reserved"),
                        frame(FIN | BINARY | 0x10, b"reserved"),
                        frame(FIN | 0x3, b"unknown"),
                        frame(FIN | PING, bytes(126)),
                        frame(PING, b"in parts"),
                        frame(FIN | BINARY, b"unmasked", key=None),
                        frame(FIN | BINARY, bytes(200), key=None),
                        b"\x82\xff" + b"\xff" * 12,
                    )
                )
            )
        )


@st.composite
def scripts(draw: st.DrawFn) -> list[bytes]:
    script = Script(draw)
    often: list[Callable[[], None]] = [script.short] * 4 + [script.control, script.fragmented, script.message]
    for act in draw(st.lists(st.sampled_from([*often, script.burst, script.wrong]), min_size=1, max_size=8)):
        act()
    if draw(st.booleans()):  # the last may be cut off
        script.frames[-1] = script.frames[-1][: draw(st.integers(1, len(script.frames[-1])))]
    return script.frames


# --- what the library alone makes of it


@dataclass
class Outcome:
    told: list[bytes] = field(default_factory=list)
    answers: bytes = b""
    ended: bool = False
    """The server sends no more."""


def library_alone(sent: list[bytes], verified_after: int, *, eof: bool) -> Outcome:
    outcome = Outcome()
    protocol = ServerProtocol(state=State.OPEN, max_size=OPTIONS.hello_bytes_max)
    fragments = b""
    is_open = True
    for data in sent:
        if len(outcome.told) >= verified_after:
            protocol.max_message_size = OPTIONS.message_bytes_max
        protocol.receive_data(data)
        for event in protocol.events_received():
            assert not hasattr(event, "headers")
            if is_open and event.opcode is Opcode.TEXT:
                protocol.send_close(CLOSE[Code.BAD_FRAME], Code.BAD_FRAME)
                is_open = False
            elif is_open and event.opcode in (Opcode.BINARY, Opcode.CONT):
                fragments += event.data
                if event.fin:
                    outcome.told.append(fragments)
                    fragments = b""
        _collect(protocol, outcome)
        is_open = is_open and protocol.state is State.OPEN
    if eof:
        protocol.receive_eof()
        _collect(protocol, outcome)
    return outcome


def _collect(protocol: ServerProtocol, outcome: Outcome) -> None:
    for data in protocol.data_to_send():
        outcome.answers += data
        outcome.ended |= not data


# --- a connection without sockets


class HandClock:
    """A loop that runs what is due when the test says so."""

    def __init__(self) -> None:
        self.now = 0.0
        self.soon: list[Callable[[], None]] = []
        self.later: list[tuple[float, Callable[[], None], asyncio.TimerHandle]] = []

    def time(self) -> float:
        return self.now

    def call_soon(self, callback: Callable[..., None], *args: object) -> None:
        self.soon.append(lambda: callback(*args))

    def call_later(self, delay_s: float, callback: Callable[..., None], *args: object) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(self.now + delay_s, callback, args, cast("asyncio.AbstractEventLoop", self))
        self.later.append((self.now + delay_s, lambda: callback(*args), handle))
        return handle

    def get_debug(self) -> bool:
        return False

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        self.later = [timer for timer in self.later if timer[2] is not handle]

    def turn(self) -> None:
        """A millisecond goes by."""
        soon, self.soon = self.soon, []
        for callback in soon:
            callback()
        self.now += 0.001
        due = [timer for timer in self.later if timer[0] <= self.now]
        self.later = [timer for timer in self.later if timer[0] > self.now]
        for _, callback, _ in due:
            callback()


class Wire:
    """A transport that keeps what is written, and whether it may be read."""

    def __init__(self) -> None:
        self.written = b""
        self.ended = False
        self.is_read = True
        self.is_cut = False

    def set_write_buffer_limits(self, high: int, low: int) -> None:
        pass

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def write(self, data: bytes) -> None:
        assert not self.ended, "written after the end of the stream"
        self.written += data

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.ended = True

    def pause_reading(self) -> None:
        self.is_read = False

    def resume_reading(self) -> None:
        self.is_read = True

    def is_closing(self) -> bool:
        return self.is_cut

    def abort(self) -> None:
        self.is_cut = True

    close = abort


class Sink:
    """Knows the peer after so many messages, and pauses at some."""

    def __init__(self, verified_after: int, pauses: frozenset[int]) -> None:
        self.told: list[bytes] = []
        self.is_paused = False
        self._verified_after = verified_after
        self._pauses = pauses
        self.connection: Connection | None = None

    def socket_opened(self, connection: Socket, bearer: str | None) -> int:
        assert isinstance(connection, Connection)
        self.connection = connection
        if not self._verified_after:
            connection.accept_large_messages()
        return 1

    def messages_received(self, session: int, messages: list[bytes]) -> None:
        assert self.connection is not None
        assert not self.is_paused, "told while paused"
        before = len(self.told)
        self.told += messages
        if before < self._verified_after:
            assert len(messages) == 1, "before HELLO is through, one at a time"
            if len(self.told) >= self._verified_after:
                self.connection.accept_large_messages()
        if self._pauses & set(range(before, len(self.told))):
            self.is_paused = True
            self.connection.pause_reading()

    def socket_closed(self, session: int) -> None:
        pass

    outbox_overfull = outbox_drained = socket_closed


@dataclass
class Bench:
    """One connection, read by hand."""

    sink: Sink
    clock: HandClock = field(default_factory=HandClock)
    wire: Wire = field(default_factory=Wire)
    errors: list[Exception] = field(default_factory=list)
    connection: Connection = field(init=False)

    def __post_init__(self) -> None:
        loop = cast("asyncio.AbstractEventLoop", self.clock)
        lobby, sockets = Lobby(0, 0), Sockets(0, 0, ())
        shared = Shared(loop, self.sink, OPTIONS, self.errors.append, Flusher(loop), Rounds(loop), lobby, sockets)
        self.connection = Connection(shared, cast("asyncio.Transport", self.wire), "127.0.0.1")
        self.connection.open(b"", None)

    def read(self, data: bytes) -> None:
        self.settle()
        self.connection.data_received(data)

    def settle(self) -> None:
        """Turns go by until the connection reads again; the sink resumes when nothing else happens."""
        for _ in range(200):
            self.clock.turn()
            if self.wire.is_read and not self.clock.soon:
                return
            if self.sink.is_paused:
                self.sink.is_paused = False
                self.connection.resume_reading()
        raise AssertionError("it never reads again")

    def end(self) -> Outcome:
        self.settle()
        self.connection.connection_lost(None)
        assert self.errors == []
        return Outcome(self.sink.told, self.wire.written, self.wire.ended)


def cut(stream: bytes, cuts: list[int]) -> list[bytes]:
    ends = sorted({at % (len(stream) + 1) for at in cuts} | {len(stream)})
    return [stream[begin:end] for begin, end in zip([0, *ends[:-1]], ends, strict=True) if end > begin]


CUTS = st.lists(st.integers(0, 1 << 20), max_size=12) | st.just(list(range(400)))
PAUSES = st.frozensets(st.integers(0, 60), max_size=4)


@given(scripts(), CUTS, st.sampled_from((0, 1, 3, 10_000)), PAUSES, st.booleans())
@settings(
    max_examples=4000 if SOAK else 150, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)
@example([frame(FIN | BINARY, b"")] * 65, [], 0, frozenset(), False)
@example([frame(FIN | BINARY, b"fine"), frame(FIN | BINARY, b"unmasked", key=None)], [], 0, frozenset(), False)
@example([frame(FIN | BINARY, b"fine"), frame(FIN | BINARY | 0x40, b"reserved")], [], 0, frozenset(), False)
@example([frame(FIN | BINARY, bytes(size)) for size in (125, 126, 127, 65_535, 65_536)], [], 0, frozenset(), False)
def test_what_is_told_and_answered_is_what_the_library_makes_of_it(
    sent: list[bytes], cuts: list[int], verified_after: int, pauses: frozenset[int], eof: bool
) -> None:
    bench = Bench(Sink(verified_after, pauses))
    for data in cut(b"".join(sent), cuts):
        bench.read(data)
    if eof:
        bench.settle()
        bench.connection.eof_received()
    assert bench.end() == library_alone(sent, verified_after, eof=eof)


@given(st.integers(1, 100), st.integers(1, 8))
@settings(max_examples=300 if SOAK else 40, deadline=None, derandomize=True)
def test_what_one_connection_left_half_said_reaches_no_other(count: int, rest_bytes: int) -> None:
    """Over TLS the end of the stream comes with what was read last, however much of that waits for its turn."""
    short = frame(FIN | BINARY, b"one")
    bench = Bench(Sink(0, frozenset((0,))))
    bench.connection.data_received(short + short * count + short[:rest_bytes])
    bench.connection.eof_received()
    bench.connection.connection_lost(None)
    other = Bench(Sink(0, frozenset()))
    ping = frame(FIN | PING, b"other")
    other.read(ping)
    assert other.end() == library_alone([ping], 0, eof=False)
