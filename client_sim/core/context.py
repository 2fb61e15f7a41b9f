"""What a device and its documents share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from client_sim.core.counters import Counters
from client_sim.core.effects import Effect, Problem, Send, WindowClosed
from client_sim.core.errand import Errand, Outcome
from client_sim.core.pacing import Pacing
from client_sim.core.pending import Pending
from client_sim.core.ports import DeviceStore, Randomness, Salvage
from client_sim.core.reasons import STORE_REBUILT
from crdt.limits import Limits
from crdt.protocol import codec
from crdt.protocol.frames import DeviceFrame, Hello, Open, Push, Report, Resync

CLIENT_ID_BITS = 32
_ANSWERED = (Hello, Open, Push, Resync)


class EditUnderWay(RuntimeError):
    """Inside of an edit there is only what `change` is given: read and write its roots, and do the rest afterwards."""


class Context:
    """The store, randomness, the server's limits, and the effects of the event that is being handled."""

    def __init__(self, store: DeviceStore, rng: Randomness) -> None:
        self.store = store
        self.rng = rng
        self.limits = Limits()
        self.counters = Counters()
        self.pacing = Pacing()
        self.pushing = True
        """False once the server has said that it is about to close."""
        self.errand: Errand | None = None
        self._asked_bytes = 0
        self._traffic = False
        self._effects: list[Effect] = []
        self._last_ref = 0
        self._edited: str | None = None

    def send(self, frame: DeviceFrame) -> None:
        data = codec.encode(frame, deflate=True)
        self.counters.bytes_up += len(data)
        self._traffic = True
        if isinstance(frame, _ANSWERED):
            self._asked_bytes += len(data)
        self._effects.append(Send(data))

    def report(self, report: Report) -> None:
        """Send it where the server takes one so long: it is not worth a connection."""
        if len(codec.encode(report)) <= self.limits.report_bytes:
            self.send(report)

    def received(self, size: int) -> None:
        self.counters.bytes_down += size
        self._traffic = True

    @property
    def asked_bytes(self) -> int:
        """What `take_asked` would say."""
        return self._asked_bytes

    def take_asked(self) -> int:
        """Bytes of frames that will be answered, sent since this was asked."""
        asked, self._asked_bytes = self._asked_bytes, 0
        return asked

    def take_traffic(self) -> bool:
        """True if anything was sent or has come since this was asked."""
        traffic, self._traffic = self._traffic, False
        return traffic

    def can_send(self, size: int) -> bool:
        """False if a background-sync window has no room for so many bytes: it ends then."""
        if self.errand is None or self.errand.bytes_left >= size:
            return True
        self.errand.is_full = True
        return False

    def close_window(self, outcome: Outcome, pending: Pending, now: float) -> None:
        """The background-sync window, if there is one, is over."""
        errand, self.errand = self.errand, None
        if errand is not None:
            self.emit(WindowClosed(errand.report(outcome, pending, now)))

    def rebuilt(self, salvage: Salvage | None) -> None:
        """The store was damaged, and is another one now; None if it was not."""
        if salvage is not None:
            self.counters.rebuilds += 1
            self.emit(Problem(STORE_REBUILT, str(salvage)))

    def emit(self, effect: Effect) -> None:
        self.counters.sync_failures += isinstance(effect, Problem)
        self._effects.append(effect)

    def take_effects(self) -> list[Effect]:
        effects, self._effects = self._effects, []
        return effects

    # --- edits

    @contextmanager
    def editing(self, name: str) -> Iterator[None]:
        """An edit of this document runs inside of it."""
        self._edited = name
        try:
            yield
        finally:
            self._edited = None

    def check_no_edit(self, name: str | None = None) -> None:
        """Raises EditUnderWay if an edit runs: of this document, or, without a name, of any."""
        if self._edited is not None and name in (None, self._edited):
            raise EditUnderWay(f"an edit of {self._edited} is under way: use the roots that it was given")

    # --- names

    def next_ref(self) -> int:
        """A name for the next request; SERVER_REF is not among them."""
        self._last_ref += 1
        return self._last_ref

    def next_client_id(self) -> int:
        """A replica takes a fresh one each time it starts, so that two clones of a device never write under one."""
        return self.rng.getrandbits(CLIENT_ID_BITS)
