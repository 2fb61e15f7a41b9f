"""A device's key pair: a token that is bound to it is of no use to who has only the token."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Self

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from crdt.protocol.proof import COORDINATE_BYTES, PublicKey

KEY_FILE_MODE = 0o600


class DeviceKey:
    """An ES256 key pair. Whoever issues the device's tokens puts `thumbprint` into `cnf.jkt`."""

    def __init__(self, private: ec.EllipticCurvePrivateKey) -> None:
        """Raises TypeError, and ValueError for a key of another curve than P-256."""
        if not isinstance(private, ec.EllipticCurvePrivateKey):
            raise TypeError(f"private has to be an EllipticCurvePrivateKey, not {type(private).__name__}")
        if not isinstance(private.curve, ec.SECP256R1):
            raise ValueError(f"a key on {private.curve.name}, not on P-256")
        self._private = private
        numbers = private.public_key().public_numbers()
        self.public = PublicKey(
            numbers.x.to_bytes(COORDINATE_BYTES, "big"), numbers.y.to_bytes(COORDINATE_BYTES, "big")
        )

    @classmethod
    def generate(cls) -> Self:
        return cls(ec.generate_private_key(ec.SECP256R1()))

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """The key that `save` wrote. Raises OSError, and ValueError for a file that has no such key."""
        try:
            private = serialization.load_pem_private_key(Path(path).read_bytes(), password=None)
        except (TypeError, UnsupportedAlgorithm) as exc:  # the first: it is encrypted
            raise ValueError(f"{path}: {exc}") from exc
        if not isinstance(private, ec.EllipticCurvePrivateKey):
            raise ValueError(f"{path} has no key of an elliptic curve")
        return cls(private)

    def save(self, path: str | Path) -> None:
        """Write it as PEM, unencrypted, for this user alone. Raises FileExistsError rather than replace a key."""
        pem = self._private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, KEY_FILE_MODE), "wb") as file:
            file.write(pem)
            file.flush()
            os.fsync(file.fileno())

    @property
    def thumbprint(self) -> str:
        """The key's name, by RFC 7638."""
        return self.public.thumbprint

    def sign(self, data: bytes) -> bytes:
        """An ES256 signature as JWS has it: r || s, 32 bytes each."""
        r, s = decode_dss_signature(self._private.sign(data, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(COORDINATE_BYTES, "big") + s.to_bytes(COORDINATE_BYTES, "big")
