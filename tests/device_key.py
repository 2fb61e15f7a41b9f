"""A device's key, made with another library call than the one that verifies."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from crdt.protocol.proof import OPTION_KEY, OPTION_PROOF, PublicKey, signed_bytes


class DeviceKey:
    """ES256. `bound` is what a token that only its owner may use has in `cnf`."""

    def __init__(self) -> None:
        self.private = generate_private_key(SECP256R1())

    @cached_property
    def public(self) -> PublicKey:
        point = self.private.public_key().public_numbers()
        return PublicKey(point.x.to_bytes(32), point.y.to_bytes(32))

    @property
    def bound(self) -> dict[str, str]:
        return {"jkt": self.public.thumbprint}

    def sign(self, data: bytes) -> bytes:
        r, s = decode_dss_signature(self.private.sign(data, ECDSA(SHA256())))
        return r.to_bytes(32) + s.to_bytes(32)

    def options(self, nonce: bytes, token_id: str) -> dict[str, Any]:
        """What HELLO says on a connection with that nonce, beside a token with that `jti`."""
        return {OPTION_PROOF: self.sign(signed_bytes(nonce, token_id)), OPTION_KEY: self.public.jwk}
