"""The bytes of a proof of possession: what is signed, and what a key is called."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import sha256
from pathlib import Path

import pytest

from crdt.protocol.proof import JWK_CHARS_MAX, PublicKey, signed_bytes

# The key of RFC 7515, appendix A.3.
X, Y = "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"
JWK = {"kty": "EC", "crv": "P-256", "x": X, "y": Y}
COORDINATES = [urlsafe_b64decode(coordinate + "=") for coordinate in (X, Y)]
THUMBPRINT = "oKIywvGUpTVTyxMQ3bwIIeQUudfr_CkLMjCE19ECD-U"


def test_a_thumbprint_is_of_the_key_and_not_of_how_it_is_written() -> None:
    keys = [
        PublicKey.read(json.dumps(JWK)),
        PublicKey.read(json.dumps(dict(sorted(JWK.items())), indent=2)),
        PublicKey.read(PublicKey.read(json.dumps(JWK)).jwk),
    ]
    assert keys == [keys[0]] * 3
    assert keys[0].jwk == f'{{"crv":"P-256","kty":"EC","x":"{X}","y":"{Y}"}}'
    assert keys[0].thumbprint == THUMBPRINT
    assert urlsafe_b64encode(sha256(keys[0].jwk.encode()).digest()).rstrip(b"=").decode() == THUMBPRINT


def test_what_is_signed_names_its_purpose_the_connection_and_the_token() -> None:
    assert signed_bytes(bytes(range(16)), "token-1") == b"syncline.proof.v1\0" + bytes(range(16)) + b"token-1"


def test_the_worked_values_of_the_reference() -> None:
    doc = (Path(__file__).parents[4] / "docs" / "PROTOCOL.md").read_text()
    nonce = bytes.fromhex("a0a1a2a3a4a5a6a7a8a9aaabacadaeaf")  # of its example
    assert f"`{signed_bytes(nonce, 'token-1').hex()}`" in doc
    assert f"`{PublicKey(*COORDINATES).jwk}` has the thumbprint `{THUMBPRINT}`" in doc


def without(name: str) -> dict[str, object]:
    return {member: value for member, value in JWK.items() if member != name}


@pytest.mark.parametrize(
    "jwk",
    [
        "",
        "[]",
        "null",
        "{",
        "[" * 500,
        json.dumps(JWK) + " " * JWK_CHARS_MAX,
        *(json.dumps(without(name)) for name in JWK),
        json.dumps(JWK | {"d": X}),
        json.dumps(JWK | {"kty": "RSA"}),
        json.dumps(JWK | {"crv": "P-384"}),
        json.dumps(JWK | {"kty": ["EC"]}),
        json.dumps(JWK | {"x": 1}),
        json.dumps(JWK | {"x": X[:-1]}),
        json.dumps(JWK | {"x": X + "="}),
        json.dumps(JWK | {"x": X + "A"}),
        json.dumps(JWK | {"x": X[:-1] + "V"}),  # the same 32 bytes, and bits that mean nothing
        json.dumps(JWK | {"y": Y.replace("_", "/")}),
        json.dumps(JWK | {"y": Y[:-1] + "\u00e9"}),
        json.dumps(JWK | {"y": ""}),
    ],
)
def test_what_is_no_key_is_a_value_error(jwk: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - whichever of its kinds
        PublicKey.read(jwk)
