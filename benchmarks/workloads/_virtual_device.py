"""Devices on a clock of their own that talk to a real server: a day passes in the time that its messages take."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from random import Random

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from benchmarks.figures import WorkloadFailed
from client_sim.core import effects, events
from client_sim.core.device import Device
from client_sim.core.document import Document
from client_sim.core.driving import drive
from client_sim.core.pacing import RADIO_TAIL_S, Policy
from client_sim.core.roots import Roots
from client_sim.core.status import Link, Phase
from client_sim.store import MemoryStore
from crdt.protocol import frames
from crdt.protocol.frames import SUBPROTOCOL

DOCUMENT = "main"
ANSWER_WITHIN_S = 30.0
SETTLING_ROUNDS_MAX = 100_000
_SHORT, _LONG = 126, 1 << 16


class VirtualDevice:
    """The device of `client_sim`, with a store in memory. Time stands still while it waits for the server."""

    def __init__(self, url: str, token: Callable[[str], str], name: str, seed: int) -> None:
        self.bytes_up = self.bytes_down = 0
        """On the socket: the upgrade and WebSocket's framing too, TLS and TCP not."""
        self.awake_s = 0.0
        """Of its radio, which stays up for RADIO_TAIL_S after each byte."""
        self.wake_ups = 0
        self.now = 0.0
        self._url = url
        self._token = token
        self._socket: ClientConnection | None = None
        self._awake_until = -1.0
        self._pings = 0
        """Sent and not answered."""
        self.device = Device(name, MemoryStore(), Random(seed))
        self.feed(events.OpenRequested(DOCUMENT))

    @property
    def document(self) -> Document:
        return self.device.document(DOCUMENT)

    @property
    def seq(self) -> int:
        cursor = self.document.copy.cursor
        return cursor.seq if cursor else 0

    def start(self, policy: Policy) -> None:
        self.feed(events.PolicyChosen(policy))
        self.feed(events.Started())
        self.settle()

    def stop(self) -> None:
        self.feed(events.Stopped())

    def edit(self, change: Callable[[Roots], object]) -> None:
        self.feed(events.Edited(DOCUMENT, change))

    def hurry(self) -> None:
        self.feed(events.Hurried())
        self.settle()

    def pass_time(self, until: float) -> None:
        """Do what is due by then, each thing when it is."""
        while (due := self.device.next_deadline()) is not None and due <= until:
            self.now = max(self.now, due)
            self.feed(events.TimePassed())
            self.settle()
        self.now = until

    def feed(self, event: events.Event) -> None:
        drive(self.device, event, self.now, self._execute)

    def _execute(self, effect: effects.Effect) -> None:
        match effect:
            case effects.FetchToken(name):
                self.feed(events.TokenFetched(name, self._token(name)))
            case effects.Connect():
                self._connect()
            case effects.Send(data):
                assert self._socket is not None
                self._socket.send(data)
                self._pings += data[1] == frames.Ping.TYPE
                self.bytes_up += len(data) + _head_bytes(len(data), masked=True)
                self._wake()
            case effects.CloseConnection(code, reason) if self._socket is not None:
                self._socket.close(code, reason)
                self._socket = None
                self._wake()
            case effects.Problem():
                raise WorkloadFailed(f"a device was told of {effect}")
            case _:
                pass

    def _connect(self) -> None:
        self._socket = connect(
            self._url, subprotocols=[Subprotocol(SUBPROTOCOL)], compression=None, proxy=None, ping_interval=None,
            max_size=None,
        )  # fmt: skip
        self._pings = 0
        assert self._socket.request is not None
        assert self._socket.response is not None
        self.bytes_up += len(self._socket.request.serialize())
        self.bytes_down += len(self._socket.response.serialize())
        self._wake()
        self.feed(events.ConnectionMade())

    def _wake(self) -> None:
        """The radio carries something now."""
        if self.now > self._awake_until:
            self.wake_ups += 1
            self._awake_until = self.now
        self.awake_s += self.now + RADIO_TAIL_S - self._awake_until
        self._awake_until = self.now + RADIO_TAIL_S

    # --- the server's side

    def receive(self, within_s: float) -> bool:
        """Let it have the server's next message; False if none comes."""
        if self._socket is None:
            return False
        try:
            data = self._socket.recv(timeout=within_s, decode=False)
        except TimeoutError:
            return False
        except ConnectionClosed as exc:
            raise WorkloadFailed(f"the server closed a connection: {exc}") from exc
        self.bytes_down += len(data) + _head_bytes(len(data), masked=False)
        self._pings -= data[1] == frames.Pong.TYPE
        self._wake()
        self.feed(events.MessageReceived(data))
        return True

    def settle(self) -> None:
        """Until all that was asked is answered, and all that was sent is acknowledged."""
        for _ in range(SETTLING_ROUNDS_MAX):
            if not self._is_waiting():
                return
            if not self.receive(ANSWER_WITHIN_S):
                raise WorkloadFailed(f"the server does not answer a device that is {self.device.status}")
        raise WorkloadFailed("a device never comes to rest")

    def _is_waiting(self) -> bool:
        if self.device.link is Link.OPEN and self.document.phase is Phase.LIVE:
            return self.document.copy.numbered > 0 or self._pings > 0
        return self.device.link is not Link.IDLE and self._socket is not None

    def follow(self, seq: int) -> None:
        """Until entry `seq` is in, if it is online."""
        while self.device.link is Link.OPEN and self.seq < seq:
            if not self.receive(ANSWER_WITHIN_S):
                raise WorkloadFailed("a reader does not get what was acknowledged")

    def close(self) -> None:
        if self._socket is not None:
            with suppress(ConnectionClosed):
                self._socket.close()


def _head_bytes(size: int, *, masked: bool) -> int:
    """Of a WebSocket frame with so much in it (RFC 6455, 5.2)."""
    length = 2 if size < _SHORT else 4 if size < _LONG else 10
    return length + 4 * masked


def close_all(devices: Sequence[VirtualDevice]) -> None:
    for device in devices:
        device.close()
