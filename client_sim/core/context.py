"""What a device and its documents share."""

from __future__ import annotations

from client_sim.core.counters import Counters
from client_sim.core.effects import Effect, Send
from client_sim.core.pacing import Pacing
from client_sim.core.ports import DeviceStore, Randomness
from crdt.limits import Limits
from crdt.protocol import codec
from crdt.protocol.frames import DeviceFrame

CLIENT_ID_BITS = 32


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
        self._effects: list[Effect] = []
        self._last_ref = 0

    def send(self, frame: DeviceFrame) -> None:
        data = codec.encode(frame, deflate=True)
        self.counters.bytes_up += len(data)
        self._effects.append(Send(data))

    def emit(self, effect: Effect) -> None:
        self._effects.append(effect)

    def take_effects(self) -> list[Effect]:
        effects, self._effects = self._effects, []
        return effects

    def next_ref(self) -> int:
        """A name for the next request; SERVER_REF is not among them."""
        self._last_ref += 1
        return self._last_ref

    def next_client_id(self) -> int:
        """A replica takes a fresh one each time it starts, so that two clones of a device never write under one."""
        return self.rng.getrandbits(CLIENT_ID_BITS)
