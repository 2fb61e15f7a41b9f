"""Keys of devices, for proof of possession: drawn from a seed, and each signs the same thing in the same way."""

from __future__ import annotations

from random import Random

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from crdt.protocol.proof import COORDINATE_BYTES, PublicKey

_SECRET_BITS = 255
"""Every number of so many bits, but for 0, is a key of P-256."""


class PocketKey:
    """An ES256 key pair whose signatures follow from what is signed (RFC 6979), as all does in a simulated world."""

    def __init__(self, rng: Random) -> None:
        self._private = ec.derive_private_key(1 + rng.getrandbits(_SECRET_BITS), ec.SECP256R1())
        point = self._private.public_key().public_numbers()
        self.public = PublicKey(point.x.to_bytes(COORDINATE_BYTES), point.y.to_bytes(COORDINATE_BYTES))

    @property
    def thumbprint(self) -> str:
        return self.public.thumbprint

    def sign(self, data: bytes) -> bytes:
        r, s = decode_dss_signature(self._private.sign(data, ec.ECDSA(hashes.SHA256(), deterministic_signing=True)))
        return r.to_bytes(COORDINATE_BYTES) + s.to_bytes(COORDINATE_BYTES)
