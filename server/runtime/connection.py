"""One WebSocket, from the accepted handshake to the end of its TCP connection."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from enum import Enum
from typing import ClassVar, Final, cast

from websockets.frames import CloseCode, Frame, Opcode
from websockets.protocol import State

from crdt.protocol.codes import CLOSE, Code
from server.core.events import SessionId
from server.runtime.parsers import Parser, drop, held_bytes, lent_parser, takes_back
from server.runtime.silence import Pinged
from server.runtime.transport import Shared
from server.runtime.wire import frame_bytes, short_messages

TURN_FRAMES: Final = 64
LATE_BYTES_MAX: Final = 2 << 20
"""What a peer may send before it takes notice of our close frame."""


class Phase(Enum):
    """OPEN to CLOSING when an end says close or breaks the protocol; either to LOST with the TCP connection."""

    OPEN = "open"
    CLOSING = "closing"
    LOST = "lost"


class Connection(asyncio.Protocol):
    """Speaks WebSocket over a transport: whole messages in, encoded frames out.

    Short messages are read here (`short_messages`), and all those of a read are told together; every other frame is
    for the Sans-I/O protocol of `websockets`, which the connection has only while it needs one (`lent_parser`).

    One read may hold tens of thousands of tiny frames. `TURN_FRAMES` of them end the connection's turn: what is left is
    taken in the loop's next turn, before more is read, so a flood delays itself.

    Writes of one loop turn go out together, from the listener's flusher. The transport's own limits are both set to
    `outbox_drained_bytes`, so "writing is not paused" means "the reader has caught up".
    """

    PING: ClassVar[bytes] = Frame(Opcode.PING, b"").serialize(mask=False)
    __slots__ = (
        "_address",
        "_awaiting_drain",
        "_backlog",
        "_congested",
        "_fragments",
        "_heard_at",
        "_idle_frames",
        "_late_bytes",
        "_lent_bytes",
        "_outbox",
        "_overfull",
        "_parser",
        "_paused",
        "_phase",
        "_queued_bytes",
        "_read_bytes",
        "_session",
        "_shared",
        "_sink",
        "_timer",
        "_transport",
        "_unread",
        "_verified",
        "_written_bytes",
        "ping_interval_s",
    )

    def __init__(self, shared: Shared, transport: asyncio.Transport, address: str) -> None:
        """Take over a transport on which the handshake was accepted. `address` is the peer's, to count."""
        self._shared = shared
        self._sink = shared.sink
        self._parser: Parser | None = None
        """The library, while a message is begun, and from the first close frame on."""
        self._transport = transport
        self._address = address
        self._verified = False
        self._phase = Phase.OPEN
        self._session: SessionId | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.ping_interval_s = shared.options.ping_interval_s
        self._heard_at = shared.loop.time()
        self._idle_frames = self._late_bytes = 0
        self._fragments = bytearray()
        self._paused = False
        self._backlog: list[bytes] = []
        self._unread = b""
        self._lent_bytes = 0
        """What the library still lacks of the frame that it has begun."""

        self._outbox: list[bytes] = []
        self._queued_bytes = 0
        self._written_bytes = self._read_bytes = 0
        self._congested = self._overfull = self._awaiting_drain = False

        drained_bytes = shared.options.outbox_drained_bytes
        transport.set_write_buffer_limits(high=drained_bytes, low=drained_bytes)
        transport.set_protocol(self)
        shared.members.add(self)
        shared.lobby.enter(self, address)
        shared.sockets.opened(address)
        shared.counters.sockets_opened += 1

    def open(self, answer: bytes, bearer: str | None) -> None:
        """Send the handshake's answer, and tell the sink."""
        self._queue(answer)
        self._arm(self.ping_interval_s, self._watch)
        try:
            self._session = self._sink.socket_opened(self, bearer)
        except Exception as error:  # noqa: BLE001 - a bug of the sink ends this connection, never the listener
            self._sink_failed(error)

    # --- what the driver asks for

    @property
    def buffered_bytes(self) -> int:
        """What waits for the reader: queued in this turn, and not yet taken by the kernel."""
        if self._phase is Phase.LOST:
            return 0
        return self._queued_bytes + self._transport.get_write_buffer_size()

    def send(self, frames: bytes) -> None:
        """Queue encoded frames, one or several. On a connection that is closing they are dropped."""
        if self._phase is Phase.OPEN:
            self._queue(frames)

    def close(self, code: int, reason: str = "") -> None:
        """Send what is queued, then a close frame; wait for the peer's, up to `close_timeout_s`.

        `reason` is at most 123 bytes of UTF-8. Closing twice is closing once.
        """
        if self._phase is not Phase.OPEN:
            return
        self._start_closing()
        # Else the peer's close came in the read that is being delivered, and its answer goes out after that.
        parser = self._borrow()
        if parser.state is State.OPEN:
            parser.send_close(code, reason)
            self._send_answers()

    def abort(self) -> None:
        """Cut the connection now; what is queued is dropped. `socket_closed` follows in a later turn."""
        if self._phase is Phase.LOST:
            return
        self._phase = Phase.CLOSING
        self._drop_all()
        self._transport.abort()

    def shut_down(self, code: int, reason: str) -> None:
        self.close(code, reason)

    def give_way(self) -> None:
        """Send a close frame, and wait for no answer: others wait for the room."""
        self._shared.counters.crowded_out += 1
        self.close(CLOSE[Code.OVERLOADED], Code.OVERLOADED)
        self.flush()
        self._transport.close()

    def accept_large_messages(self) -> None:
        """The peer is known now: messages may have `message_bytes_max`."""
        self._verified = True
        self._shared.lobby.leave(self)
        if self._parser is not None:
            self._parser.max_message_size = self._message_bytes_max

    def pause_reading(self) -> None:
        """Deliver nothing until `resume_reading`; what the last read brought is kept."""
        if self._phase is Phase.OPEN:
            self._paused = True
            self._transport.pause_reading()

    def give_back(self, messages: Sequence[bytes]) -> None:
        """The sink paused and did not look at these: they are told again, before all else."""
        self._backlog[:0] = messages if self._paused else ()

    def resume_reading(self) -> None:
        """Deliver what was kept, in a later turn, and only then read again: so messages stay in order."""
        if self._paused and self._phase is Phase.OPEN:
            self._paused = False
            self._heard_at = self._shared.loop.time()
            self._shared.rounds.add(self)

    def await_drain(self) -> None:
        """Ask for one `outbox_drained`, in a later turn: as soon as no more than `outbox_drained_bytes` wait."""
        if self._phase is Phase.OPEN:
            self._awaiting_drain = True
            self._shared.flusher.add(self)

    def flush(self) -> None:
        """Write what is queued in one piece. Called by the flusher."""
        if self._outbox:
            data = self._outbox[0] if len(self._outbox) == 1 else b"".join(self._outbox)
            self._outbox.clear()
            self._queued_bytes = 0
            self._written_bytes += len(data)
            self._shared.counters.bytes_sent += len(data)
            self._transport.write(data)
        if self._congested:
            self._judge_backpressure()
        elif self._awaiting_drain:
            self._awaiting_drain = False
            self._tell(self._sink.outbox_drained)

    # --- what the event loop tells

    def data_received(self, data: bytes) -> None:
        self._heard_at = self._shared.loop.time()
        self._shared.counters.bytes_received += len(data)
        if self._phase is Phase.CLOSING and self._is_too_late(data):
            return
        if self._verified:
            self._take(self._unread + data if self._unread else data)
        else:
            self._take_in_turn(data)

    def eof_received(self) -> None:
        """The peer sends no more. Without a close frame before it this is a failure, and the rest is closed too."""
        unread, self._unread = self._unread, b""
        if unread:
            self._parse(unread)
        if self._parser is None:
            self._hang_up()
        else:
            self._parser.receive_eof()
            self._send_answers()

    def connection_lost(self, exc: Exception | None) -> None:
        self._phase = Phase.LOST
        self._drop_all()
        self._drop_parser()
        self._end_session()
        self._shared.lobby.leave(self)
        self._shared.sockets.closed(self._address)
        self._shared.members.remove(self)
        self._shared.counters.sockets_closed += 1

    def pause_writing(self) -> None:
        self._congested = True

    def resume_writing(self) -> None:
        self._congested = False
        self._overfull = False
        if self._awaiting_drain:
            self._shared.flusher.add(self)

    # --- receiving

    @property
    def _message_bytes_max(self) -> int:
        options = self._shared.options
        return options.message_bytes_max if self._verified else options.hello_bytes_max

    def _borrow(self) -> Parser:
        """The library, as far as this connection is."""
        if self._parser is None:
            self._parser = lent_parser(self._message_bytes_max)
        return self._parser

    def _drop_parser(self) -> None:
        if self._parser is not None:
            drop(self._parser)
            self._parser = None

    def _take_in_turn(self, data: bytes) -> None:
        """At once where nobody waits, else in rounds after everybody else: a thousand may say HELLO together."""
        self._unread += data
        unfinished_bytes = len(self._unread) + len(self._fragments) + held_bytes(self._parser)
        if not self._shared.lobby.holds(self, unfinished_bytes):
            self.give_way()
        elif not self._paused and self._shared.rounds.gives_turn():
            self._take(self._unread)
        elif not self._paused:
            self._transport.pause_reading()
            self._shared.rounds.add(self)

    def _take(self, data: bytes) -> bool:
        """Parse what was read, for at most a turn. True if some is left for another, which will come."""
        at = frames = 0
        while at < len(data) and frames < TURN_FRAMES and not self._paused:
            if not self._lent_bytes:
                messages, at = self._short_messages(data, at, TURN_FRAMES - frames)
                if messages:
                    self._deliver(messages)
                    frames += len(messages)
                    continue
                self._lent_bytes = frame_bytes(data, at)
                if not self._lent_bytes:
                    break
            lent = data[at : at + self._lent_bytes]
            self._lent_bytes -= len(lent)
            at += len(lent)
            frames += self._parse(lent)
            if not self._lent_bytes:
                self._give_back()
        self._unread = data[at:]
        has_more = bool(self._unread) and frames >= TURN_FRAMES and not self._paused
        if has_more:
            self._transport.pause_reading()
            self._shared.rounds.add(self)
        return has_more

    def _short_messages(self, data: bytes, at: int, count_max: int) -> tuple[list[bytes], int]:
        """None within a fragmented message, which they may not interrupt. Before HELLO is through, one at a time."""
        if self._parser is not None:
            return [], at
        return short_messages(data, at, count_max if self._verified else 1, self._message_bytes_max)

    def _parse(self, data: bytes) -> int:
        """Parse, deliver and answer; how many frames that were."""
        parser = self._borrow()
        parser.receive_data(data)
        # Messages from before the peer's close, or before its fault, still count.
        frames = cast("list[Frame]", parser.events_received())
        for frame in frames:
            if frame.opcode is Opcode.BINARY and frame.fin:
                self._deliver([bytes(frame.data)])
            elif self._phase is Phase.OPEN:
                self._take_other(frame)
        if parser.writes:
            self._send_answers()
        return len(frames)

    def _give_back(self) -> None:
        """The library has had a frame to its end, and nothing beyond it."""
        if self._parser is not None and takes_back(self._parser):
            self._parser = None

    def go_on(self) -> None:
        """Deliver what was kept while the sink paused, then take what was read and not yet parsed, then read again."""
        while self._backlog and not self._paused:
            self._tell(self._sink.messages_received, [self._backlog.pop(0)])
        if self._transport.is_closing() or self._paused:
            return
        has_more = self._unread and self._take(self._unread)
        if not has_more and not self._paused:
            self._transport.resume_reading()

    def _is_too_late(self, data: bytes) -> bool:
        """Whether nothing that comes matters any more. A peer that goes on and on is cut."""
        self._late_bytes += len(data)
        if self._late_bytes > LATE_BYTES_MAX:
            self._cut()
            return True
        return self._parser is not None and self._parser.eof_sent

    def _take_other(self, frame: Frame) -> None:
        """A control frame, a fragment, or text."""
        opcode = frame.opcode
        self._idle_frames += 1
        options = self._shared.options
        if self._idle_frames > (options.idle_frames_max if self._verified else options.unverified_idle_frames_max):
            self._fail(CloseCode.POLICY_VIOLATION, "too many control frames or fragments")
        elif opcode is Opcode.TEXT:
            self.close(CLOSE[Code.BAD_FRAME], Code.BAD_FRAME)
        elif opcode is Opcode.BINARY or opcode is Opcode.CONT:
            self._fragments += frame.data
            if frame.fin:
                message, self._fragments = bytes(self._fragments), bytearray()
                self._deliver([message])

    def _deliver(self, messages: list[bytes]) -> None:
        if self._paused:
            self._backlog.extend(messages)
        elif self._phase is Phase.OPEN:
            self._tell(self._sink.messages_received, messages)

    def _tell(self, method: Callable[..., None], *args: list[bytes]) -> None:
        try:
            method(self._session, *args)
        except Exception as error:  # noqa: BLE001 - a bug of the sink ends this connection, never the listener
            self._sink_failed(error)

    def _sink_failed(self, error: Exception) -> None:
        self._shared.on_error(error)
        self.close(CLOSE[Code.INTERNAL], Code.INTERNAL)

    # --- sending

    def _queue(self, data: bytes) -> None:
        if not self._outbox:
            self._shared.flusher.add(self)
        self._outbox.append(data)
        self._queued_bytes += len(data)
        if self._queued_bytes > self._shared.options.outbox_bytes_cap:
            self._cut()

    def _send_answers(self) -> None:
        """Send what the library wants sent: pongs, close frames, the end of stream."""
        for data in self._borrow().data_to_send():
            if data:
                self._queue(data)
            else:
                self._hang_up()

    def _judge_backpressure(self) -> None:
        waiting_bytes = self._transport.get_write_buffer_size()
        if waiting_bytes > self._shared.options.outbox_bytes_cap:
            self._cut()
        elif waiting_bytes > self._shared.options.outbox_bytes_max and not self._overfull:
            self._overfull = True
            if self._phase is Phase.OPEN:
                self._tell(self._sink.outbox_overfull)

    # --- ending

    def _start_closing(self) -> None:
        self._phase = Phase.CLOSING
        self._arm(self._shared.options.close_timeout_s, self._cut)
        self._backlog.clear()
        self._awaiting_drain = False
        if self._paused:
            self._paused = False
            self._shared.rounds.add(self)  # for the peer's close frame

    def _fail(self, code: int, reason: str) -> None:
        """Close, and parse nothing more of what comes."""
        self._borrow().fail(code, reason)
        self._send_answers()

    def _hang_up(self) -> None:
        """The closing handshake is done, or the peer broke the protocol: send the rest and the end of stream.

        Reading goes on until the peer's end of stream, for closing over unread bytes would reset the connection and
        could destroy our close frame on its way. TLS has no half-closed state.
        """
        self._start_closing()
        self.flush()
        self._end_session()
        if self._transport.is_closing():
            return
        if self._transport.can_write_eof():
            self._transport.write_eof()
        else:
            self._transport.close()

    def _cut(self) -> None:
        self._shared.counters.connections_aborted += 1
        self.abort()

    def _end_session(self) -> None:
        if self._session is None:
            return
        session, self._session = self._session, None
        try:
            self._sink.socket_closed(session)
        except Exception as error:  # noqa: BLE001 - as in _tell, and here the connection ends already
            self._shared.on_error(error)

    def _drop_all(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._outbox.clear()
        self._queued_bytes = 0
        self._backlog.clear()
        self._unread = b""
        self._fragments.clear()
        self._awaiting_drain = self._congested = False

    # --- signs of life

    def _watch(self) -> None:
        """Ping a peer that was silent for the whole interval."""
        now = self._shared.loop.time()
        self._idle_frames = 0
        silent_s = now - self._heard_at
        if silent_s < self.ping_interval_s:
            self._arm(self.ping_interval_s - silent_s, self._watch)
            return
        pinged = Pinged.now(now, self._transport, self._written_bytes, self._read_bytes)
        self._arm(self._shared.options.ping_timeout_s, self._judge_silence, pinged)
        self._ping()

    def _ping(self) -> None:
        self._queue(self.PING)

    def _judge_silence(self, pinged: Pinged) -> None:
        """Anything from the peer is life, and so are some other things (`Pinged.given_time`).

        The loop's clock tells whole milliseconds, so an answer may be as old as its ping, but nothing before it.
        """
        now, transport = self._shared.loop.time(), self._transport
        if self._heard_at >= pinged.at_s:
            self._read_bytes = pinged.written_bytes
            self._watch()
        elif again := pinged.given_time(now, transport, self._written_bytes, is_paused=self._paused):
            self._arm(self._shared.options.ping_timeout_s, self._judge_silence, again)
        else:
            self._cut()

    def _arm(self, delay_s: float, callback: Callable[..., None], *args: Pinged) -> None:
        """Replace the connection's one timer."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._shared.loop.call_later(delay_s, callback, *args)
