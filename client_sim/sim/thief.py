"""Somebody with a copy of a device's token and of all that it ever said, but without its key."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any, NamedTuple

from client_sim.sim.handset import Surroundings
from client_sim.sim.issuer import claims_of
from client_sim.sim.keys import PocketKey
from client_sim.sim.link import DeviceEnd, Link
from crdt.errors import PeerError
from crdt.limits import Limits
from crdt.protocol.codec import decode_device_frame, decode_server_frame, encode
from crdt.protocol.frames import Hello, Nonce, Open
from crdt.protocol.proof import OPTION_KEY, OPTION_PROOF, SIGNATURE_BYTES, signed_bytes

Options = Mapping[str, Any]


class Loot(NamedTuple):
    """A token that is bound to a key, what it is called, and what its owner proved its key with, once."""

    device: str
    token: str
    token_id: str
    proof: Options

    @classmethod
    def of(cls, said: bytes) -> Loot | None:
        """What a HELLO gives away; None if its token is good for everybody."""
        hello = decode_device_frame(said, Limits())
        assert isinstance(hello, Hello)
        claims = claims_of(hello.token)
        proof = {name: hello.options[name] for name in (OPTION_PROOF, OPTION_KEY) if name in hello.options}
        return cls(hello.device, hello.token, claims["jti"], proof) if "cnf" in claims else None


@dataclass(slots=True)
class Thief:
    """Each time that it acts it tries the door once, with what it finds of `steal` and a trick."""

    world: Surroundings
    rng: Random
    connect: Callable[[DeviceEnd], Link | None]
    steal: Callable[[Random], Loot | None]
    label: str = "thief"
    link: Link | None = None
    _loot: Loot | None = None

    def act(self, rng: Random) -> None:
        loot = self.steal(rng)
        if self.link is None and loot is not None:
            self._loot = loot
            self.link = self.connect(self)

    # --- its end of the link

    def connected(self) -> None:
        pass

    def received(self, data: bytes) -> None:
        try:
            frame = decode_server_frame(data)
        except PeerError:
            return
        if isinstance(frame, Nonce) and self._loot is not None:
            self._knock(self._loot, frame.nonce)

    def lost(self, code: int | None, reason: str) -> None:
        self.link = self._loot = None

    def _knock(self, loot: Loot, nonce: bytes) -> None:
        name = self.rng.choice(tuple(_TRICKS))
        self.world.history.note(self.label, "hostile", name)
        self.world.history.counts[f"hostile {name}"] += 1
        options = dict(_TRICKS[name](loot, nonce, self.rng))
        hello = Hello(1, loot.token, loot.device, "syncline-python/0.1", options, (Open(1, "alice/main", None, b"\0"),))
        if self.link is not None:
            self.link.send_up(encode(hello))


def _nothing(loot: Loot, nonce: bytes, rng: Random) -> Options:
    return {}


def _replay(loot: Loot, nonce: bytes, rng: Random) -> Options:
    """What the owner said on a connection of its own."""
    return loot.proof


def _own_key(loot: Loot, nonce: bytes, rng: Random) -> Options:
    """All is right, but for whose key it is."""
    key = PocketKey(rng)
    return {OPTION_PROOF: key.sign(signed_bytes(nonce, loot.token_id)), OPTION_KEY: key.public.jwk}


def _owners_key(loot: Loot, nonce: bytes, rng: Random) -> Options:
    """The owner's key is shown, and another one signs."""
    return {**_own_key(loot, nonce, rng), OPTION_KEY: loot.proof.get(OPTION_KEY, "")}


def _scrawl(loot: Loot, nonce: bytes, rng: Random) -> Options:
    signature = rng.choice((b"", bytes(SIGNATURE_BYTES), rng.randbytes(SIGNATURE_BYTES), b"\xff" * SIGNATURE_BYTES))
    return {**loot.proof, OPTION_PROOF: signature}


_TRICKS: dict[str, Callable[[Loot, bytes, Random], Options]] = {
    "no proof": _nothing,
    "proof replayed": _replay,
    "proof by another key": _own_key,
    "proof under the owner's name": _owners_key,
    "no signature": _scrawl,
}
