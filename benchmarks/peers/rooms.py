"""The devices of one document, and what each of them has been delivered, told by content.

Window: a device's next update goes out when its earlier one has arrived at one designated other device of the document
(device 0; for device 0 itself device 1). The rule is the same for every server, whether it acknowledges or not, so none
gains by acknowledging early, and Syncline's deliveries come after the sync to disk. The designated devices read what
they receive at once; the others keep it, with the time, and it is read when the run is over.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from pycrdt import Text

from benchmarks.peers.device import CLOSED, Device, clock
from benchmarks.peers.dialects import Acked, Changes, Dialect
from crdt.replica import Replica
from crdt.update import read_update

ACK: Final = -1
News = tuple[tuple[int, int, int], ...]
"""(author, first, end) for each run of updates; (ACK, op, 0) for an acknowledgement, op 0 for one more."""


@dataclass(frozen=True, slots=True)
class Script:
    """What the devices of a document send: update number k of author a is `updates[a][k]`, and types one character."""

    updates: tuple[tuple[bytes, ...], ...]
    known: dict[bytes, tuple[int, int, int]]
    authors: dict[int, int]
    """By the client id in their updates."""

    def read(self, update: bytes) -> News:
        """Whose updates these are, alone or merged with others by the server."""
        known = self.known.get(update)
        if known is not None:
            return (known,)
        sections = read_update(update).sections
        return tuple((self.authors[client], start, end) for client, (start, end) in sections.items())


@lru_cache(maxsize=4)
def script(devices: int, updates: int) -> Script:
    """Each device types on its own, nine in ten characters at the end."""
    made, known, authors = [], {}, {}
    for author in range(devices):
        rng = random.Random(author)
        client = rng.getrandbits(32)
        replica = Replica(client_id=client)
        typed = []
        for length in range(updates):
            at = length if rng.random() < 0.9 else rng.randrange(length + 1)
            update = replica.edit(lambda doc, at=at: doc.get("t", type=Text).insert(at, "x"))  # type: ignore[misc]
            assert update is not None
            known[update] = (author, length, length + 1)
            typed.append(update)
        made.append(tuple(typed))
        authors[client] = author
    return Script(tuple(made), known, authors)


class Room:
    """One document's devices. `timing` keeps how long each update took to each device."""

    def __init__(self, dialect: Dialect, devices: Sequence[Device], script: Script, *, timing: bool) -> None:
        self.devices = devices
        self.saturating = False
        self.fault = ""
        """What makes the run worthless, if anything did."""
        self.arrived_bytes = 0
        self.arrived_at = 0.0
        self.delivery_s: list[float] = []
        self.ack_s: list[float] = []
        self._acked = [0] * len(devices)
        self._reached = [[0] * len(devices) for _ in devices]
        """What receiver r has of author a: `_reached[r][a]` updates, from the first on."""
        self._tapes: list[list[tuple[float, bytes]]] = [[] for _ in devices]
        self._numbers = {id(device): number for number, device in enumerate(devices)}
        self._memo: dict[bytes, News] = {}
        self._dialect = dialect
        self._script = script
        self._timing = timing
        for number, device in enumerate(devices):
            device.load(script.updates[number])
            device.on_data = self._witnessed if number < 2 else self._taped

    @property
    def sent(self) -> int:
        return sum(device.sent for device in self.devices)

    def complete(self) -> bool:
        """Whether every update reached every other device, and was acknowledged where servers do that."""
        for number in range(2, len(self.devices)):
            for at, data in self._tapes[number]:
                self._digest(number, at, data)
            self._tapes[number].clear()
        sent = [device.sent for device in self.devices]
        if self._dialect.acknowledges and self._acked != sent:
            return False
        return all(
            reached[author] == count
            for number, reached in enumerate(self._reached)
            for author, count in enumerate(sent)
            if author != number
        )

    def delivered_of(self, author: int) -> int:
        """How many updates of a device its designated device has."""
        return self._reached[_witness(author)][author]

    def witnessed(self) -> bool:
        """The same of the designated devices alone, which costs little."""
        return all(self.delivered_of(author) == device.sent for author, device in enumerate(self.devices))

    def _taped(self, device: Device, data: bytes) -> None:
        self.arrived_at = at = clock()
        self.arrived_bytes += len(data)
        self._tapes[self._numbers[id(device)]].append((at, data))

    def _witnessed(self, device: Device, data: bytes) -> None:
        self.arrived_at = at = clock()
        self.arrived_bytes += len(data)
        number = self._numbers[id(device)]
        for author, count in self._digest(number, at, data).items():
            if self.saturating and _witness(author) == number:
                self._go_on(self.devices[author], count)

    def _go_on(self, device: Device, count: int) -> None:
        if device.lost:
            self.fault = CLOSED
        elif device.left < count:
            self.fault = "a device ran out of updates: a generator that runs dry measures nothing"
        else:
            device.push(count)

    def _digest(self, number: int, at: float, data: bytes) -> dict[int, int]:
        """Take in what receiver `number` was sent; how many new updates of each author there were."""
        reached, memo = self._reached[number], self._memo
        news: dict[int, int] = {}
        for payload in self.devices[number].messages.feed(data):
            read = memo.get(payload)
            if read is None:
                read = memo[payload] = self._read(payload)
            for author, first, end in read:
                if author == ACK:
                    self._acknowledged(number, first, at)
                    continue
                had = reached[author]
                if first > had:
                    self.fault = f"update {first} of device {author} came before {had}"
                elif end > had:
                    reached[author] = end
                    news[author] = news.get(author, 0) + end - had
                    if self._timing and author != number:
                        self.delivery_s.extend(at - sent for sent in self.devices[author].sent_at[had:end])
        return news

    def _read(self, payload: bytes) -> News:
        try:
            said = self._dialect.read(payload)
        except ConnectionError as exc:
            self.fault = str(exc)
            return ()
        match said:
            case Changes(updates):
                return tuple(news for update in updates for news in self._script.read(update))
            case Acked(op):
                return ((ACK, op or 0, 0),)
            case _:
                return ()

    def _acknowledged(self, number: int, op: int, at: float) -> None:
        before = self._acked[number]
        self._acked[number] = after = op or before + 1
        if self._timing:
            self.ack_s.extend(at - sent for sent in self.devices[number].sent_at[before:after])


def _witness(author: int) -> int:
    return 0 if author else 1
