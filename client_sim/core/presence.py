"""What devices on a document tell each other of the moment: never stored, void with the connection."""

from __future__ import annotations

from client_sim.core.context import Context
from client_sim.core.effects import PresenceChanged
from crdt.protocol import frames


class Presence:
    """`own` is this device's, told again on each connection; `peers` are the others', by `user/device`."""

    def __init__(self, context: Context, document: str) -> None:
        self.own: bytes | None = None
        self.peers: dict[str, bytes] = {}
        self._context = context
        self._document = document

    def set(self, payload: bytes | None, handle: int | None) -> None:
        self.own = payload
        if handle is not None:
            self._context.send(frames.Presence(handle, payload))

    def tell_again(self, handle: int) -> None:
        if self.own is not None:
            self.set(self.own, handle)

    def heard(self, frame: frames.DevicePresence) -> None:
        self.peers.pop(frame.device, None)
        if frame.payload is not None:
            self.peers[frame.device] = frame.payload
        self._context.emit(PresenceChanged(self._document, frame.device, frame.payload))

    def disconnected(self) -> None:
        self.peers = {}
