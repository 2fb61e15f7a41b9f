"""Who else is there: presence of devices as awareness of Yjs clients, and back.

What a Yjs client shows travels as the PRESENCE `{"clientID": 17, "clock": 3, "state": ...}`. Any other JSON that a
device shows is a state too, under a client id that is made of the device's name. What is no JSON is not shown.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import Any

from crdt.errors import PeerError
from crdt.protocol.codes import Code
from crdt.update import CLIENT_MAX
from server.yjs.messages import NOBODY_NEW, NULL, ClientState, awareness


@dataclass(frozen=True, slots=True)
class Shown:
    """What a device shows, as a Yjs client would. `clock` is None where the device has none of its own."""

    client: int
    clock: int | None
    state: str


def payload_of(shown: ClientState) -> bytes:
    """What devices are told of a Yjs client. Raises PeerError for what is no JSON: other clients would stumble."""
    try:
        state = _read_json(shown.state)
        return _json({"clientID": shown.client, "clock": shown.clock, "state": state}).encode()
    except (ValueError, RecursionError) as exc:
        raise PeerError(Code.BAD_FRAME, "an awareness state is no JSON") from exc


@lru_cache(maxsize=256)  # one presence is told to many
def shown_by(device: str, payload: bytes) -> Shown | None:
    """What a device shows; None if Yjs clients can not be told."""
    try:
        value = _read_json(payload.decode())
        match value:
            case {"clientID": int(client), "clock": int(clock), "state": state} if len(value) == 3:
                if 0 <= client <= CLIENT_MAX and 0 <= clock <= CLIENT_MAX:
                    return Shown(client, clock, _json(state))
        return Shown(int.from_bytes(blake2b(device.encode(), digest_size=4).digest()), None, _json(value))
    except (ValueError, RecursionError):
        return None


class People:
    """The others in one document, as one Yjs client was told. `clock`, in milliseconds, is above any told before."""

    def __init__(self) -> None:
        self.clock = 0
        self._others: dict[str, tuple[Shown, ClientState]] = {}

    def told(self, device: str, payload: bytes | None) -> bytes | None:
        """The message that tells the client what a device shows now; None if there is nothing to tell."""
        known = self._others.pop(device, None)
        shown = shown_by(device, payload) if payload is not None else None
        if shown is None:
            return self._gone(known)
        state = self._state(shown)
        self._others[device] = (shown, state)
        return awareness([state])

    def all(self) -> bytes:
        """What all of them show. Clients forget who shows nothing for 30 s, so devices show the same again."""
        self._others = {device: (shown, self._state(shown)) for device, (shown, _) in self._others.items()}
        return awareness([state for _, state in self._others.values()])

    def renewed(self) -> bytes:
        """The same of those who do not do it by themselves; at least a sign of life."""
        silent = {device: shown for device, (shown, _) in self._others.items() if shown.clock is None}
        if not silent:
            return NOBODY_NEW
        self._others |= {device: (shown, self._state(shown)) for device, shown in silent.items()}
        return awareness([self._others[device][1] for device in silent])

    def _state(self, shown: Shown) -> ClientState:
        if shown.clock is not None:
            return ClientState(shown.client, shown.clock, shown.state)
        self.clock += 1
        return ClientState(shown.client, self.clock, shown.state)

    def _gone(self, known: tuple[Shown, ClientState] | None) -> bytes | None:
        if known is None or any(shown.client == known[0].client for shown, _ in self._others.values()):
            return None
        _, state = known
        return awareness([ClientState(state.client, state.clock, NULL)])


def _read_json(text: str) -> Any:
    """JSON as browsers read it. Raises ValueError, RecursionError."""
    return json.loads(text, parse_constant=_no_json)


def _no_json(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _json(value: Any) -> str:
    """In as few bytes of UTF-8 as it takes. Raises ValueError for numbers that JSON has not."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    try:
        text.encode()
    except UnicodeEncodeError:  # half an emoji has no UTF-8, but an escape
        return json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text
