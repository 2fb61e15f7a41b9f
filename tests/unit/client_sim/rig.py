"""A device and a fake server with the wire between them in a test's hands."""

from __future__ import annotations

import builtins
from collections import deque
from collections.abc import Callable
from random import Random

from client_sim.core import events
from client_sim.core.device import Device
from client_sim.core.document import Document
from client_sim.core.driving import drive
from client_sim.core.effects import CloseConnection, Connect, Effect, FetchToken, Send
from client_sim.core.ports import Signer
from client_sim.core.roots import Roots
from client_sim.core.status import Status
from client_sim.store import MemoryStore
from crdt.limits import Limits
from crdt.protocol import codec
from crdt.protocol.frames import DeviceFrame
from tests.unit.client_sim.fake_server import FakeServer, Session


class Rig:
    """Connects at once when the device asks, and then moves a message only when it is told to."""

    def __init__(
        self,
        server: FakeServer,
        name: str = "phone",
        *,
        store: MemoryStore | None = None,
        seed: int = 1,
        documents: tuple[str, ...] = ("main",),
        user: str = "alice",
        key: Signer | None = None,
    ) -> None:
        self.server = server
        self.name = name
        self.user = user
        self.key = key
        self.now = 0.0
        self.rng = Random(seed)
        self.store = store or MemoryStore()
        self.names = documents
        self.session: Session | None = None
        self.up: deque[bytes] = deque()
        self.told: list[Effect] = []
        self.sent: list[DeviceFrame] = []
        self.token: str | None = "token"
        self.reachable = True
        self.device = self._boot()

    def _boot(self) -> Device:
        device = Device(self.name, self.store, self.rng, key=self.key)
        self.device = device
        for name in self.names:
            self.feed(events.OpenRequested(name))
        return device

    # --- the device

    @property
    def document(self) -> Document:
        return self.device.document(self.names[0])

    @property
    def text(self) -> str:
        return str(self.document.values().get("body", ""))

    @property
    def status(self) -> Status:
        return self.document.status()

    def start(self) -> Rig:
        self.feed(events.Started())
        return self.settle()

    def type(self, text: str, name: str = "main") -> Rig:
        return self.edit(lambda roots: roots.text("body").append(text), name)

    def begin(self) -> Rig:
        """As `start`, but no message moves."""
        self.feed(events.Started())
        return self

    def audit(self) -> Rig:
        self.feed(events.AuditRequested(self.names[0]))
        return self

    def pending_is_none_and_text_has(self, *parts: str) -> bool:
        return not self.document.pending and all(part in self.text for part in parts)

    def edit(self, change: Callable[[Roots], object], name: str = "main") -> Rig:
        self.feed(events.Edited(name, change))
        return self

    def feed(self, event: events.Event) -> None:
        drive(self.device, event, self.now, self._execute)

    def _execute(self, effect: Effect) -> None:
        match effect:
            case Connect() if self.reachable:
                self.session = self.server.connect(self.user)
                self.feed(events.ConnectionMade())
            case Connect():
                self.feed(events.ConnectionLost())
            case FetchToken(device) if self.token is not None:
                self.feed(events.TokenFetched(device, self.token))
            case FetchToken():
                pass
            case Send(data):
                self.up.append(data)
                frame = codec.decode_device_frame(data, Limits())
                assert frame is not None
                self.sent.append(frame)
            case CloseConnection():
                self._unplug()
                self.told.append(effect)
            case _:
                self.told.append(effect)

    # --- the wire

    def deliver_up(self) -> bool:
        """Let the server have the device's next message."""
        if not self.up or self.session is None:
            return False
        self.session.receive(self.up.popleft())
        return True

    def deliver_down(self) -> bool:
        """Let the device have the server's next message, or its close after the last one."""
        if self.session is None:
            return False
        if self.session.outgoing:
            self.feed(events.MessageReceived(self.session.outgoing.popleft()))
            return True
        if self.session.closed:
            self.lose(*self.session.closed)
            return True
        return False

    def settle(self) -> Rig:
        """Move messages until there are none."""
        while self.deliver_up() or self.deliver_down():
            pass
        return self

    def lose(self, code: int | None = None, reason: str = "") -> Rig:
        """The connection is gone, with what was on it."""
        self._unplug()
        self.feed(events.ConnectionLost(code, reason))
        return self

    def _unplug(self) -> None:
        if self.session is not None:
            self.session.leave()
        self.session = None
        self.up.clear()

    def kill(self, *, without_last_transaction: bool = False) -> Rig:
        """The process dies, and another one starts from what the store has."""
        self._unplug()
        self.store = self.store.restarted(without_last_transaction=without_last_transaction)
        self._boot()
        return self

    def wait(self) -> Rig:
        """Let time pass to the device's next deadline."""
        deadline = self.device.next_deadline()
        assert deadline is not None
        self.now = max(self.now, deadline)
        self.feed(events.TimePassed())
        return self

    def frames(self, kind: builtins.type[DeviceFrame]) -> list[DeviceFrame]:
        """All frames of a kind that the device sent."""
        return [frame for frame in self.sent if isinstance(frame, kind)]

    def told_of(self, kind: builtins.type[Effect]) -> list[Effect]:
        return [effect for effect in self.told if isinstance(effect, kind)]
