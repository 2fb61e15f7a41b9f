"""Proof of possession: which bytes a device signs, and how its public key travels and is named.

A device's key is ES256 (ECDSA over P-256 with SHA-256, RFC 7518). Its token names the key by the RFC 7638 thumbprint
in `cnf.jkt`; HELLO's options carry the key itself (`key`) and a signature over this connection's nonce and the
token's `jti` (`proof`). Signing and verifying are for those who have a cryptography library.
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import sha256
from typing import Any, NamedTuple

from crdt.protocol.frames import NONCE_BYTES

OPTION_PROOF = "proof"
"""HELLO's option with the signature: bin, r || s as in JWS."""
OPTION_KEY = "key"
"""HELLO's option with the public key: str, a JWK in JSON with exactly the members crv, kty, x and y."""

SIGNATURE_BYTES = 64
COORDINATE_BYTES = 32
JWK_CHARS_MAX = 512
"""One takes about 140; a reader need not look at more."""

_PURPOSE = b"syncline.proof.v1\0"


def signed_bytes(nonce: bytes, jti: str) -> bytes:
    """What the device signs: it is good for this connection, this token, and nothing else that a key may sign."""
    assert len(nonce) == NONCE_BYTES
    return _PURPOSE + nonce + jti.encode()


class PublicKey(NamedTuple):
    """A point on P-256, each coordinate 32 bytes, big-endian. Whether it is on the curve only a library can tell."""

    x: bytes
    y: bytes

    @classmethod
    def read(cls, jwk: str) -> PublicKey:
        """The key of a JWK in JSON, its members in any order. Raises ValueError."""
        if len(jwk) > JWK_CHARS_MAX:
            raise ValueError(f"a JWK of {len(jwk)} characters")
        try:
            members: Any = json.loads(jwk)
        except RecursionError as exc:
            raise ValueError("a JWK that is nested") from exc
        if not isinstance(members, dict) or sorted(members) != ["crv", "kty", "x", "y"]:
            raise ValueError("a JWK with other members than crv, kty, x and y")
        if (members["kty"], members["crv"]) != ("EC", "P-256"):
            raise ValueError("a key that is not of EC, P-256")
        return cls(_coordinate(members["x"]), _coordinate(members["y"]))

    @property
    def jwk(self) -> str:
        """As JSON in the one form that RFC 7638 hashes: sorted members, no spaces."""
        members = {"crv": "P-256", "kty": "EC", "x": _base64url(self.x), "y": _base64url(self.y)}
        return json.dumps(members, separators=(",", ":"))

    @property
    def thumbprint(self) -> str:
        """The key's name in a token's `cnf.jkt`: 43 characters."""
        return _base64url(sha256(self.jwk.encode()).digest())


def _coordinate(text: object) -> bytes:
    """Raises ValueError for all but the one base64url spelling of 32 bytes."""
    if not isinstance(text, str):
        raise ValueError("a coordinate that is no string")
    value = urlsafe_b64decode(text.encode() + b"=")  # skips what is not base64: hence the comparison
    if len(value) != COORDINATE_BYTES or _base64url(value) != text:
        raise ValueError("a coordinate that is not 32 bytes in base64url")
    return value


def _base64url(value: bytes) -> str:
    return urlsafe_b64encode(value).rstrip(b"=").decode()
