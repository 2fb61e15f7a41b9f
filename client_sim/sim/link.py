"""One WebSocket between a device and a server process: two pipes that keep order, and what goes wrong with them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import Enum
from random import Random
from typing import NamedTuple, Protocol

from client_sim.sim.timetable import Timetable
from client_sim.sim.weather import STALLS, Weather


def type_of(data: bytes) -> int:
    """A frame's type, without reading it; -1 for what is none."""
    return data[1] if len(data) > 1 and data[0] >> 4 == 0x9 else -1


class Closed(NamedTuple):
    """A WebSocket close, on its way behind what was sent before it."""

    code: int | None
    reason: str


class Moment(Enum):
    """When a link is cut, as seen from the next message of one direction."""

    BEFORE = "before"
    WITHIN = "within"
    AFTER = "after"


class DeviceEnd(Protocol):
    def connected(self) -> None: ...

    def received(self, data: bytes) -> None: ...

    def lost(self, code: int | None, reason: str) -> None: ...


class ServerEnd(Protocol):
    def opened(self, link: Link) -> None: ...

    def received(self, link: Link, data: bytes) -> None: ...

    def lost(self, link: Link) -> None: ...

    def drained(self, link: Link) -> None: ...

    def overfull(self, link: Link) -> None: ...


class Pipe:
    """One direction. A message arrives after its time on the wire and the latency, never before the one ahead of it."""

    def __init__(
        self, timetable: Timetable, rng: Random, weather: Weather, arrive: Callable[[bytes | Closed], None]
    ) -> None:
        self.waiting_bytes = 0
        self.bandwidth = weather.bandwidth
        self.is_silent = False
        """Half-open: what is sent waits for ever."""
        self.is_cut = False
        self._timetable = timetable
        self._rng = rng
        self._weather = weather
        self._arrive = arrive
        self._free_at = self._last_at = 0.0

    def send(self, item: bytes | Closed) -> None:
        if self.is_cut:
            return
        size = len(item) if isinstance(item, bytes) else 4
        self.waiting_bytes += size
        if self.is_silent:
            return
        self._free_at = max(self._free_at, self._timetable.now) + size / self.bandwidth
        if self._rng.random() < self._weather.stall:
            self._free_at += STALLS.draw(self._rng)
        self._last_at = max(self._last_at, self._free_at + self._weather.latency.draw(self._rng))
        self._timetable.at(self._last_at, lambda: self._deliver(item, size))

    def calm(self, weather: Weather) -> None:
        self._weather, self.bandwidth = weather, weather.bandwidth

    def _deliver(self, item: bytes | Closed, size: int) -> None:
        if not (self.is_cut or self.is_silent):
            self.waiting_bytes -= size
            self._arrive(item)


class Link:
    """From the attempt to connect until both ends know that it is over. `outbox_max` bytes may wait for the device."""

    def __init__(
        self,
        timetable: Timetable,
        rng: Random,
        weather: Weather,
        device: DeviceEnd,
        server: ServerEnd,
        name: str,
        thumbprint: str | None = None,
    ) -> None:
        self.name = name
        self.thumbprint = thumbprint
        """Of the key that the device has."""
        self.up = Pipe(timetable, rng, weather, self._arrive_up)
        self.down = Pipe(timetable, rng, weather, self._arrive_down)
        self.session = 0
        self.is_paused = False
        self.awaits_drain = self.is_overfull = False
        self.outbox_max, self.outbox_cap, self.silence_s = 1 << 20, 16 << 20, 60.0
        self._timetable = timetable
        self._rng = rng
        self._weather = weather
        self._device: DeviceEnd | None = device
        self._server: ServerEnd | None = server
        self._backlog: deque[bytes] = deque()
        self._armed: tuple[Pipe, Moment] | None = None
        self._closing = self._is_open = False
        timetable.after(2 * weather.latency.draw(rng), self._shake_hands)

    @property
    def is_up(self) -> bool:
        """The device still believes in it, and messages go through."""
        return self._device is not None and not (self.up.is_cut or self.up.is_silent)

    def _shake_hands(self) -> None:
        if self._device is None or self._server is None or self.up.is_cut:
            return
        self._is_open = True
        self._server.opened(self)
        self._tell_device()

    def _tell_device(self) -> None:
        if self._device is not None and not self.up.is_cut:
            self._device.connected()

    # --- what the ends do

    def send_up(self, data: bytes) -> None:
        if self._is_open:
            self._send(self.up, data)

    def send_down(self, data: bytes) -> None:
        if self._closing:
            return
        self._send(self.down, data)
        if self.down.waiting_bytes > self.outbox_cap:
            self.cut()
        elif self.down.waiting_bytes > self.outbox_max and not self.is_overfull:
            self.is_overfull = True
            self._timetable.after(0.0, lambda: self._tell_server(lambda end: end.overfull(self)))

    def _send(self, pipe: Pipe, data: bytes) -> None:
        armed = self._armed
        if armed is None or armed[0] is not pipe:
            pipe.send(data)
            return
        self._armed = None
        how = f"cut {armed[1].value} a message {'down' if pipe is self.down else 'up'}"
        if armed[1] is Moment.AFTER:
            pipe.send(data)
            self._timetable.at(self._timetable.now + 2 * self._weather.latency.high, lambda: self.cut(how))
        else:  # a part of a message is no message
            self.cut(how)

    def hang_up(self, code: int, reason: str) -> None:
        """The device closes: nothing is fed to it any more."""
        self._device = None
        self.up.send(Closed(code, reason))
        if self.up.is_silent or self.up.is_cut:
            self._timetable.after(self.silence_s, self._end_server)

    def close(self, code: int, reason: str) -> None:
        """The server closes, after what it has sent."""
        if not self._closing:
            self._closing = True
            self._backlog.clear()
            self.down.send(Closed(code, reason))
            self._timetable.after(5.0, self._end_server)

    def pause(self) -> None:
        self.is_paused = True

    def resume(self) -> None:
        if self.is_paused:
            self.is_paused = False
            self._timetable.after(0.0, self._go_on)

    def await_drain(self) -> None:
        self.awaits_drain = True
        self._timetable.after(0.0, self._look_drained)

    # --- what goes wrong

    def arm(self, downwards: bool, moment: Moment) -> None:
        """Cut it at the next message of that direction."""
        self._armed = (self.down if downwards else self.up, moment)

    def cut(self, how: str = "cut") -> None:
        """What is under way is lost. Each end finds out in its own time."""
        if self.up.is_cut:
            return
        self.up.is_cut = self.down.is_cut = True
        noticed = self._weather.noticed
        self._timetable.after(noticed.draw(self._rng), lambda: self._end_device(None, how))
        self._timetable.after(min(self.silence_s, noticed.draw(self._rng)), self._end_server)

    def fall_silent(self) -> None:
        """Nothing comes through any more, and nobody is told: only deadlines find out."""
        if not self.up.is_cut:
            self.up.is_silent = self.down.is_silent = True
            self._timetable.after(self.silence_s, self._end_server)

    def server_died(self) -> None:
        """The process is gone, and has nothing to say to its end."""
        self._server = None
        if not self.up.is_silent:
            self.cut("server died")

    def calm(self, weather: Weather) -> None:
        """The network is better from now on; what fell silent stays so."""
        self._weather = weather
        for pipe in (self.up, self.down):
            pipe.calm(weather)

    # --- what arrives

    def _arrive_up(self, item: bytes | Closed) -> None:
        if isinstance(item, Closed):
            self._end_server()
        elif self._closing or self._server is None:
            pass
        elif self.is_paused or self._backlog:
            self._backlog.append(item)
        else:
            self._server.received(self, item)

    def _go_on(self) -> None:
        while self._backlog and not self.is_paused and self._server is not None:
            self._server.received(self, self._backlog.popleft())

    def _arrive_down(self, item: bytes | Closed) -> None:
        if isinstance(item, Closed):
            self._end_device(item.code, item.reason)
            self._timetable.after(self._weather.latency.draw(self._rng), self._end_server)
            return
        if self._device is not None:
            self._device.received(item)
        self._look_drained()

    def _look_drained(self) -> None:
        if self.down.waiting_bytes * 2 > self.outbox_max:
            return
        self.is_overfull = False
        if self.awaits_drain:
            self.awaits_drain = False
            self._tell_server(lambda end: end.drained(self))

    def _tell_server(self, tell: Callable[[ServerEnd], None]) -> None:
        if self._server is not None and not self._closing:
            tell(self._server)

    def _end_device(self, code: int | None, reason: str) -> None:
        device, self._device = self._device, None
        if device is not None:
            device.lost(code, reason)

    def _end_server(self) -> None:
        server, self._server = self._server, None
        self.up.is_cut = self.down.is_cut = True
        if server is not None:
            server.lost(self)
        if self._device is not None and not self.down.is_silent:
            self._timetable.after(self._weather.noticed.draw(self._rng), lambda: self._end_device(None, "gone"))
