"""Tokens for development are good tokens, and nothing that is not a name gets into one."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP384R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from crdt.errors import PeerError
from crdt.ids import DocumentId
from crdt.protocol.codes import Code
from crdt.protocol.frames import Access
from server.core.auth import Authority, VerificationKey, verify
from server.keys import BadKeys, key_thumbprint
from server.tokens import mint
from tests.device_key import DeviceKey

NOW_S = 1_800_000_000.0
SECRET = b"a secret of at least thirty-two bytes"
AUTHORITY = Authority((VerificationKey("HS256", SECRET),), audience="syncline", issuer="here")
PLANS = DocumentId("bob", "plans")


def minted(**changes: Any) -> str:
    wanted: dict[str, Any] = {
        "user": "alice",
        "device": "phone",
        "ttl_s": 60,
        "grants": {PLANS: Access.READ},
        "secret": SECRET,
        "audience": "syncline",
        "issuer": "here",
        "now_s": NOW_S,
        "token_id": "t1",
    }
    return mint(**(wanted | changes))


def test_it_says_who_and_what_and_until_when() -> None:
    claims = verify(minted(), AUTHORITY, NOW_S)
    assert (claims.user, claims.device, claims.token_id) == ("alice", "phone", "t1")
    assert claims.expires_s == NOW_S + 60
    assert claims.grants == {PLANS: Access.READ}


def test_it_expires() -> None:
    with pytest.raises(PeerError) as refused:
        verify(minted(), AUTHORITY, NOW_S + 60)
    assert refused.value.code is Code.TOKEN_EXPIRED


@pytest.mark.parametrize("what", ["user", "device", "token_id"])
@pytest.mark.parametrize("name", ["", "a/b", "a b", "a" * 129, "é"])
def test_what_is_no_name_is_refused(what: str, name: str) -> None:
    with pytest.raises(ValueError, match="write 1 to 128"):
        minted(**{what: name})


def test_it_can_be_bound_to_a_key() -> None:
    key = DeviceKey()
    assert verify(minted(key_thumbprint=key.public.thumbprint), AUTHORITY, NOW_S).key_thumbprint == key.bound["jkt"]
    assert verify(minted(), AUTHORITY, NOW_S).key_thumbprint is None


@pytest.mark.parametrize("thumbprint", ["", "A" * 42, "A" * 44, "A" * 42 + "=", "A" * 42 + "\n"])
def test_what_is_no_thumbprint_is_refused(thumbprint: str) -> None:
    with pytest.raises(ValueError, match="43 of"):
        minted(key_thumbprint=thumbprint)


def test_a_key_is_named_by_the_same_thumbprint_however_it_is_written() -> None:
    key = DeviceKey()
    pem = key.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    assert key_thumbprint(pem) == key_thumbprint(key.public.jwk + "\n") == key.public.thumbprint


@pytest.mark.parametrize(
    "text", ["", "{}", "{", '{"kty": "EC"}', "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----"]
)
def test_what_is_no_device_key_binds_nothing(text: str) -> None:
    with pytest.raises(BadKeys, match="a device's key"):
        key_thumbprint(text)


def test_a_device_key_is_of_one_curve() -> None:
    other = generate_private_key(SECP384R1()).public_key()
    with pytest.raises(BadKeys, match="P-256"):
        key_thumbprint(other.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode())
