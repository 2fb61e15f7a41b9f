"""A device's key pair, on disk and at work."""

from __future__ import annotations

import stat
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from jwt.algorithms import ECAlgorithm

from client_sim.live.keys import DeviceKey
from crdt.protocol.proof import PublicKey


def test_a_saved_key_is_the_same_and_nobody_elses_to_read(tmp_path: Path) -> None:
    key, path = DeviceKey.generate(), tmp_path / "key.pem"
    key.save(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    again = DeviceKey.load(path)
    assert (again.public, again.thumbprint) == (key.public, key.thumbprint)


def test_a_key_is_never_written_over(tmp_path: Path) -> None:
    key, path = DeviceKey.generate(), tmp_path / "key.pem"
    key.save(path)
    with pytest.raises(FileExistsError):
        DeviceKey.generate().save(path)
    assert DeviceKey.load(path).public == key.public


def test_two_keys_differ() -> None:
    assert DeviceKey.generate().thumbprint != DeviceKey.generate().thumbprint


def test_a_signature_is_as_jws_has_it() -> None:
    """Another library verifies it with the public key as it travels."""
    key, es256 = DeviceKey.generate(), ECAlgorithm(ECAlgorithm.SHA256)
    public = ECAlgorithm.from_jwk(key.public.jwk)
    assert isinstance(public, ec.EllipticCurvePublicKey)
    padded = {0: False, 32: False}
    while not all(padded.values()):  # r and s are short one time in 256
        signature = key.sign(b"data")
        assert len(signature) == 64
        assert es256.verify(b"data", public, signature)
        for start in padded:
            padded[start] |= signature[start] == 0
    assert not es256.verify(b"date", public, signature)


def test_the_thumbprint_is_that_of_the_public_key() -> None:
    key = DeviceKey.generate()
    assert PublicKey.read(key.public.jwk).thumbprint == key.thumbprint
    assert len(key.thumbprint) == 43
    assert jwt.PyJWK.from_json(key.public.jwk, algorithm="ES256").key_type == "EC"


def pem(private: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey, password: bytes | None = None) -> bytes:
    encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no key",
        pem(ec.generate_private_key(ec.SECP384R1())),
        pem(ed25519.Ed25519PrivateKey.generate()),
        pem(ec.generate_private_key(ec.SECP256R1()), b"secret"),
    ],
)
def test_a_file_without_such_a_key_is_a_value_error(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    path.write_bytes(content)
    with pytest.raises(ValueError):  # noqa: PT011 - whichever of its kinds
        DeviceKey.load(path)
    with pytest.raises(OSError, match="No such file"):
        DeviceKey.load(tmp_path / "none.pem")
