"""Who a token speaks for: every bad one is refused with the right code, and none opens another's document."""

from __future__ import annotations

import base64
import hmac
import json
import os
from collections.abc import Mapping
from functools import cache
from random import Random
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ec import generate_private_key as generate_ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key as generate_rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import RSAAlgorithm

from crdt.errors import PeerError
from crdt.ids import DocumentId
from crdt.protocol.codes import Code
from crdt.protocol.frames import Access
from server.core.auth import TOKEN_CHARS_MAX, Authority, VerificationKey, verify
from server.tokens import mint

NOW_S = 1_800_000_000.0
SECRET = b"a secret of at least thirty-two bytes"
OTHER_SECRET = b"another secret of thirty-two bytes or more"
PAIRS = 10_000 if os.environ.get("SYNCLINE_SOAK") else 1_000

GOOD: dict[str, Any] = {
    "iss": "issuer",
    "aud": "syncline",
    "sub": "alice",
    "did": "phone",
    "iat": NOW_S,
    "exp": NOW_S + 3600,
    "jti": "token-1",
    "docs": {"bob/notes": "r", "bob/plans": "rw"},
}
MISSING = object()


@cache
def rsa() -> RSAPrivateKey:
    return generate_rsa(public_exponent=65537, key_size=2048)


@cache
def other_rsa() -> RSAPrivateKey:
    return generate_rsa(public_exponent=65537, key_size=2048)


@cache
def ec() -> EllipticCurvePrivateKey:
    return generate_ec(SECP256R1())


@cache
def ed25519() -> Ed25519PrivateKey:
    return Ed25519PrivateKey.generate()


@cache
def authority() -> Authority:
    """A secret without a kid, and a public key of each kind with one."""
    keys = (
        VerificationKey("HS256", SECRET),
        VerificationKey("RS256", rsa().public_key(), "rsa-1"),
        VerificationKey("ES256", ec().public_key(), "ec-1"),
        VerificationKey("EdDSA", ed25519().public_key(), "ed-1"),
    )
    return Authority(keys, audience="syncline", issuer="issuer")


def segment(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def raw(header: object, payload: object, secret: bytes = SECRET, digest: str = "sha256") -> str:
    """An HMAC token of any header and payload; bytes are taken as they are."""
    parts = [segment(part if isinstance(part, bytes) else json.dumps(part).encode()) for part in (header, payload)]
    signed = ".".join(parts)
    return f"{signed}.{segment(hmac.new(secret, signed.encode(), digest).digest())}"


def having(**changes: object) -> str:
    """A token that is good but for these claims; MISSING ones are left out."""
    claims = {name: value for name, value in (GOOD | changes).items() if value is not MISSING}
    return raw({"alg": "HS256", "typ": "JWT"}, claims)


def headed(**header: object) -> str:
    """A token that is good but for its header."""
    return raw({"alg": "HS256", "typ": "JWT"} | header, GOOD)


def with_payload(payload: bytes) -> str:
    return raw({"alg": "HS256"}, payload)


def signed(key: Any, algorithm: str, key_id: str | None = None) -> str:
    return jwt.encode(GOOD, key, algorithm=algorithm, headers={"kid": key_id} if key_id else None)


def public_pem() -> bytes:
    return rsa().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def good_parts() -> list[str]:
    return having().split(".")


def nested(depth: int) -> bytes:
    return json.dumps(GOOD).encode()[:-1] + b', "x": ' + b"[" * depth + b"]" * depth + b"}"


def _twice(claim: str, value: Any) -> bytes:
    return json.dumps(GOOD).encode()[:-1] + f', "{claim}": {json.dumps(value)}}}'.encode()


def _with_signature(algorithm: str, key_id: str, signature: bytes) -> str:
    """Good but for that."""
    return ".".join([*raw({"alg": algorithm, "kid": key_id}, GOOD).split(".")[:2], segment(signature)])


def _in_other_base64() -> str:
    """A good one whose signature is spelled with + or /."""
    for number in range(100):
        head, _, signature = having(jti=f"token-{number}").rpartition(".")
        if {"-", "_"} & set(signature):
            return f"{head}.{signature.replace('-', '+').replace('_', '/')}"
    raise AssertionError


def _with_spare_bits() -> str:
    """32 bytes take 43 letters, of the last of which two bits mean nothing."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    token = having()
    return token[:-1] + alphabet[alphabet.index(token[-1]) + 1]


def _jwk_of(key: RSAPrivateKey) -> dict[str, Any]:
    return RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)


def _ec_pem() -> bytes:
    return ec().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


BAD_TOKENS: dict[str, tuple[Any, Code]] = {
    # --- claims that are not there
    **{
        f"no {claim}": (lambda claim=claim: having(**{claim: MISSING}), Code.BAD_TOKEN)
        for claim in GOOD
        if claim != "docs"
    },
    **{f"{claim} is null": (lambda claim=claim: having(**{claim: None}), Code.BAD_TOKEN) for claim in GOOD},
    # --- who
    "sub is a number": (lambda: having(sub=7), Code.BAD_TOKEN),
    "sub is a list": (lambda: having(sub=["alice"]), Code.BAD_TOKEN),
    "sub is empty": (lambda: having(sub=""), Code.BAD_TOKEN),
    "sub is too long": (lambda: having(sub="a" * 129), Code.BAD_TOKEN),
    "sub has a slash": (lambda: having(sub="alice/main"), Code.BAD_TOKEN),
    "sub ends with a line feed": (lambda: having(sub="alice\n"), Code.BAD_TOKEN),
    "sub is not ASCII": (lambda: having(sub="ålice"), Code.BAD_TOKEN),
    "did is a number": (lambda: having(did=1), Code.BAD_TOKEN),
    "did is empty": (lambda: having(did=""), Code.BAD_TOKEN),
    "did has a space": (lambda: having(did="my phone"), Code.BAD_TOKEN),
    "did is huge": (lambda: having(did="d" * 4000), Code.BAD_TOKEN),
    "jti is a number": (lambda: having(jti=1), Code.BAD_TOKEN),
    "jti is empty": (lambda: having(jti=""), Code.BAD_TOKEN),
    # --- from whom, for whom
    "another issuer": (lambda: having(iss="somebody"), Code.BAD_TOKEN),
    "a list of issuers": (lambda: having(iss=["issuer"]), Code.BAD_TOKEN),
    "issuer in capitals": (lambda: having(iss="ISSUER"), Code.BAD_TOKEN),
    "another audience": (lambda: having(aud="elsewhere"), Code.BAD_TOKEN),
    "other audiences": (lambda: having(aud=["elsewhere", "sync"]), Code.BAD_TOKEN),
    "no audiences": (lambda: having(aud=[]), Code.BAD_TOKEN),
    "audience is a map": (lambda: having(aud={"syncline": True}), Code.BAD_TOKEN),
    "audience contains ours": (lambda: having(aud="syncline-test"), Code.BAD_TOKEN),
    # --- when
    "expired long ago": (lambda: having(iat=1, exp=2), Code.TOKEN_EXPIRED),
    "expires now": (lambda: having(exp=NOW_S), Code.TOKEN_EXPIRED),
    "exp is 0": (lambda: having(exp=0), Code.TOKEN_EXPIRED),
    "exp is negative": (lambda: having(exp=-1), Code.BAD_TOKEN),
    "exp is 1e308": (lambda: having(exp=1e308), Code.BAD_TOKEN),
    "exp is infinite": (lambda: having(exp=float("inf")), Code.BAD_TOKEN),
    "exp is not a number, in JSON": (lambda: having(exp=float("nan")), Code.BAD_TOKEN),
    "exp in milliseconds": (lambda: having(exp=(NOW_S + 3600) * 1000), Code.BAD_TOKEN),
    "exp is a thousand digits": (lambda: having(exp=10**1000), Code.BAD_TOKEN),
    "exp has more digits than Python reads": (
        lambda: with_payload(json.dumps(GOOD).encode().replace(b'"exp": ', b'"exp": ' + b"9" * 5000)),
        Code.BAD_TOKEN,
    ),
    "exp is a string": (lambda: having(exp=str(NOW_S + 3600)), Code.BAD_TOKEN),
    "exp is true": (lambda: having(exp=True), Code.BAD_TOKEN),
    "exp is a list": (lambda: having(exp=[NOW_S + 3600]), Code.BAD_TOKEN),
    "iat in the future": (lambda: having(iat=NOW_S + 61), Code.BAD_TOKEN),
    "iat is a string": (lambda: having(iat="today"), Code.BAD_TOKEN),
    "iat is infinite": (lambda: having(iat=float("inf")), Code.BAD_TOKEN),
    "nbf in the future": (lambda: having(nbf=NOW_S + 61), Code.BAD_TOKEN),
    "nbf is null": (lambda: having(nbf=None), Code.BAD_TOKEN),
    "nbf is a string": (lambda: having(nbf="now"), Code.BAD_TOKEN),
    "expired, and from another issuer": (lambda: having(exp=1, iss="somebody"), Code.BAD_TOKEN),
    "expired, and with grants that never were any": (lambda: having(exp=1, docs=["x"]), Code.BAD_TOKEN),
    # --- what else
    "docs is a list": (lambda: having(docs=["bob/notes"]), Code.BAD_TOKEN),
    "docs is a string": (lambda: having(docs="bob/notes"), Code.BAD_TOKEN),
    "a grant without an owner": (lambda: having(docs={"notes": "r"}), Code.BAD_TOKEN),
    "a grant on everything of a user": (lambda: having(docs={"bob/*": "rw"}), Code.BAD_TOKEN),
    "a grant on a path": (lambda: having(docs={"bob/notes/1": "rw"}), Code.BAD_TOKEN),
    "a grant with an empty owner": (lambda: having(docs={"/notes": "rw"}), Code.BAD_TOKEN),
    "a grant of an unknown kind": (lambda: having(docs={"bob/notes": "admin"}), Code.BAD_TOKEN),
    "a grant of a number": (lambda: having(docs={"bob/notes": 7}), Code.BAD_TOKEN),
    "a grant of a list": (lambda: having(docs={"bob/notes": ["r"]}), Code.BAD_TOKEN),
    "one good grant and one bad": (lambda: having(docs={"bob/notes": "r", "carol": "r"}), Code.BAD_TOKEN),
    "cnf is null": (lambda: having(cnf=None), Code.BAD_TOKEN),
    "cnf without jkt": (lambda: having(cnf={"kid": "phone"}), Code.BAD_TOKEN),
    "cnf with more than jkt": (lambda: having(cnf={"jkt": "A" * 43, "kid": "phone"}), Code.BAD_TOKEN),
    "cnf.jkt is a list": (lambda: having(cnf={"jkt": ["A" * 43]}), Code.BAD_TOKEN),
    "cnf.jkt is too short": (lambda: having(cnf={"jkt": "A" * 42}), Code.BAD_TOKEN),
    "expired, and bound to nothing": (lambda: having(exp=1, cnf={}), Code.BAD_TOKEN),
    # --- whose signature
    "alg none": (lambda: jwt.encode(GOOD, "", algorithm="none"), Code.BAD_TOKEN),
    "alg none, signed": (lambda: headed(alg="none"), Code.BAD_TOKEN),
    "alg None": (lambda: headed(alg="None"), Code.BAD_TOKEN),
    "alg in small letters": (lambda: headed(alg="hs256"), Code.BAD_TOKEN),
    "alg missing": (lambda: raw({"typ": "JWT"}, GOOD), Code.BAD_TOKEN),
    "alg is a list": (lambda: headed(alg=["HS256"]), Code.BAD_TOKEN),
    "alg HS512 with our secret": (lambda: raw({"alg": "HS512"}, GOOD, digest="sha512"), Code.BAD_TOKEN),
    "alg RS256 over an HMAC": (lambda: headed(alg="RS256", kid="rsa-1"), Code.BAD_TOKEN),
    "HS256 signed with the public key": (lambda: raw({"alg": "HS256"}, GOOD, public_pem()), Code.BAD_TOKEN),
    "HS256 signed with the public key, by its kid": (
        lambda: raw({"alg": "HS256", "kid": "rsa-1"}, GOOD, public_pem()),
        Code.BAD_TOKEN,
    ),
    "PS256 of our RSA key": (lambda: signed(rsa(), "PS256", "rsa-1"), Code.BAD_TOKEN),
    "another secret": (lambda: raw({"alg": "HS256"}, GOOD, OTHER_SECRET), Code.BAD_TOKEN),
    "an empty secret": (lambda: raw({"alg": "HS256"}, GOOD, b""), Code.BAD_TOKEN),
    "a short secret": (lambda: raw({"alg": "HS256"}, GOOD, b"short"), Code.BAD_TOKEN),
    "another RSA key": (lambda: signed(other_rsa(), "RS256", "rsa-1"), Code.BAD_TOKEN),
    "an unknown kid": (lambda: signed(rsa(), "RS256", "rsa-2"), Code.BAD_TOKEN),
    "the kid of another key": (lambda: signed(rsa(), "RS256", "ec-1"), Code.BAD_TOKEN),
    "no kid, where the key has one": (lambda: signed(rsa(), "RS256"), Code.BAD_TOKEN),
    "kid is a number": (lambda: headed(kid=1), Code.BAD_TOKEN),
    "a key in the header": (
        lambda: raw({"alg": "HS256", "jwk": {"kty": "oct", "k": segment(OTHER_SECRET)}}, GOOD, OTHER_SECRET),
        Code.BAD_TOKEN,
    ),
    "a key set by its URL": (
        lambda: raw({"alg": "HS256", "jku": "https://evil.example/keys"}, GOOD, OTHER_SECRET),
        Code.BAD_TOKEN,
    ),
    "a certificate by its URL": (
        lambda: raw({"alg": "HS256", "x5u": "https://evil.example/cert"}, GOOD, OTHER_SECRET),
        Code.BAD_TOKEN,
    ),
    "a public key in the header, and its signature": (
        lambda: jwt.encode(GOOD, other_rsa(), "RS256", headers={"kid": "rsa-1", "jwk": _jwk_of(other_rsa())}),
        Code.BAD_TOKEN,
    ),
    "ES256 under the kid of the Ed25519 key": (lambda: signed(ec(), "ES256", "ed-1"), Code.BAD_TOKEN),
    "EdDSA under the kid of the EC key": (lambda: signed(ed25519(), "EdDSA", "ec-1"), Code.BAD_TOKEN),
    "ES256 with a signature of zeros": (lambda: _with_signature("ES256", "ec-1", bytes(64)), Code.BAD_TOKEN),
    "ES256 with an empty signature": (lambda: _with_signature("ES256", "ec-1", b""), Code.BAD_TOKEN),
    "EdDSA with a signature of zeros": (lambda: _with_signature("EdDSA", "ed-1", bytes(64)), Code.BAD_TOKEN),
    "RS256 with a signature of zeros": (lambda: _with_signature("RS256", "rsa-1", bytes(256)), Code.BAD_TOKEN),
    "HS256 signed with the public EC key": (lambda: raw({"alg": "HS256"}, GOOD, _ec_pem()), Code.BAD_TOKEN),
    "a kid that is a path": (lambda: raw({"alg": "HS256", "kid": "/dev/null"}, GOOD, b""), Code.BAD_TOKEN),
    "alg is null": (lambda: headed(alg=None), Code.BAD_TOKEN),
    "an encrypted token": (lambda: headed(alg="dir", enc="A256GCM"), Code.BAD_TOKEN),
    "crit is a string": (lambda: headed(crit="exp"), Code.BAD_TOKEN),
    "crit is empty": (lambda: headed(crit=[]), Code.BAD_TOKEN),
    "a critical extension that nobody knows": (lambda: headed(crit=["x"], x=1), Code.BAD_TOKEN),
    "a critical extension": (lambda: headed(crit=["exp"], exp=1), Code.BAD_TOKEN),
    "a detached payload": (lambda: headed(b64=False, crit=["b64"]), Code.BAD_TOKEN),
    "an unencoded payload, not said to be critical": (lambda: headed(b64=False), Code.BAD_TOKEN),
    "alg comes twice": (
        lambda: raw(b'{"alg": "none", "alg": "HS256"}', GOOD),
        Code.BAD_TOKEN,
    ),
    "a token of another type": (lambda: headed(typ="dpop+jwt"), Code.BAD_TOKEN),
    "typ is a number": (lambda: headed(typ=1), Code.BAD_TOKEN),
    # --- damaged and strange
    "nothing": (lambda: "", Code.BAD_TOKEN),
    "two dots": (lambda: "..", Code.BAD_TOKEN),
    "words": (lambda: "let me in", Code.BAD_TOKEN),
    "not ASCII": (lambda: "é.ü.ñ", Code.BAD_TOKEN),
    "a lone surrogate": (lambda: "\ud800.a.b", Code.BAD_TOKEN),
    "no signature": (lambda: ".".join([*good_parts()[:2], ""]), Code.BAD_TOKEN),
    "two parts": (lambda: ".".join(good_parts()[:2]), Code.BAD_TOKEN),
    "four parts": (lambda: having() + ".AAAA", Code.BAD_TOKEN),
    "a changed payload": (
        lambda: ".".join([good_parts()[0], having(sub="bob").split(".")[1], good_parts()[2]]),
        Code.BAD_TOKEN,
    ),
    "a signature cut short": (lambda: having()[:-3], Code.BAD_TOKEN),
    "too much padding": (lambda: having() + "==", Code.BAD_TOKEN),
    "a signature in the other base64": (_in_other_base64, Code.BAD_TOKEN),
    "a signature with spare bits set": (_with_spare_bits, Code.BAD_TOKEN),
    "spaces around": (lambda: f" {having()} ", Code.BAD_TOKEN),
    "the payload is a list": (lambda: with_payload(b"[]"), Code.BAD_TOKEN),
    "the payload is null": (lambda: with_payload(b"null"), Code.BAD_TOKEN),
    "the payload is not JSON": (lambda: with_payload(b"{"), Code.BAD_TOKEN),
    "the payload is not UTF-8": (lambda: with_payload(b'{"sub": "\xff"}'), Code.BAD_TOKEN),
    "sub comes twice": (lambda: with_payload(_twice("sub", "bob")), Code.BAD_TOKEN),
    "exp comes twice": (lambda: with_payload(_twice("exp", NOW_S + 7200)), Code.BAD_TOKEN),
    "a grant comes twice": (
        lambda: with_payload(json.dumps(GOOD).encode().replace(b'"docs": {', b'"docs": {"bob/notes": "rw", ')),
        Code.BAD_TOKEN,
    ),
    "the payload is UTF-16": (lambda: with_payload(json.dumps(GOOD).encode("utf-16")), Code.BAD_TOKEN),
    "the payload has a byte order mark": (
        lambda: with_payload(json.dumps(GOOD).encode("utf-8-sig")),
        Code.BAD_TOKEN,
    ),
    "a number that is none, in a claim that means nothing": (lambda: having(x=float("nan")), Code.BAD_TOKEN),
    "sub in letters that look alike": (lambda: having(sub="\u0430lice"), Code.BAD_TOKEN),
    "sub with a zero byte": (lambda: having(sub="alice\0"), Code.BAD_TOKEN),
    "a lone surrogate in sub": (lambda: having(sub="\ud800"), Code.BAD_TOKEN),
    "the header is a list": (lambda: raw([], GOOD), Code.BAD_TOKEN),
    "the header is not JSON": (lambda: raw(b"{", GOOD), Code.BAD_TOKEN),
    "the payload is nested deep": (lambda: with_payload(nested(5_000)), Code.BAD_TOKEN),
    "good but for its size": (lambda: having(padding="x" * TOKEN_CHARS_MAX), Code.BAD_TOKEN),
}


def test_there_are_enough_bad_tokens() -> None:
    assert len(BAD_TOKENS) >= 40


@pytest.mark.parametrize("name", BAD_TOKENS)
def test_a_bad_token_is_refused(name: str) -> None:
    make, code = BAD_TOKENS[name]
    with pytest.raises(PeerError) as refused:
        verify(make(), authority(), NOW_S)
    assert refused.value.code is code


GOOD_TOKENS: dict[str, Any] = {
    "HS256": having,
    "RS256": lambda: signed(rsa(), "RS256", "rsa-1"),
    "ES256": lambda: signed(ec(), "ES256", "ec-1"),
    "EdDSA": lambda: signed(ed25519(), "EdDSA", "ed-1"),
    "a kid that only the key without one can answer to": lambda: headed(kid="any"),
    "an access token by its type": lambda: headed(typ="at+jwt"),
    "without a type": lambda: raw({"alg": "HS256"}, GOOD),
    "padded, as some issuers do": lambda: having() + "=",
    "for several audiences": lambda: having(aud=["elsewhere", "syncline"]),
    "from a clock that is ahead": lambda: having(iat=NOW_S + 60),
    "good from now on": lambda: having(nbf=NOW_S),
    "expires in a moment": lambda: having(exp=NOW_S + 0.001),
    "with claims that mean nothing here": lambda: having(scope="openid", email=None),
}


@pytest.mark.parametrize("name", GOOD_TOKENS)
def test_a_good_token_is_accepted(name: str) -> None:
    claims = verify(GOOD_TOKENS[name](), authority(), NOW_S)
    assert (claims.user, claims.device) == ("alice", "phone")
    assert claims.access(DocumentId("alice", "anything")) is Access.WRITE
    assert claims.access(DocumentId("bob", "notes")) is Access.READ
    assert claims.access(DocumentId("bob", "plans")) is Access.WRITE
    assert claims.access(DocumentId("bob", "main")) is None


def test_a_token_without_grants_opens_its_owners_documents_alone() -> None:
    claims = verify(having(docs=MISSING), authority(), NOW_S)
    assert not claims.grants


def test_a_key_with_the_kid_counts_before_one_without() -> None:
    keys = (VerificationKey("RS256", other_rsa().public_key()), VerificationKey("RS256", rsa().public_key(), "rsa-1"))
    mixed = Authority(keys, audience="syncline", issuer="issuer")
    assert verify(signed(rsa(), "RS256", "rsa-1"), mixed, NOW_S).user == "alice"


@pytest.mark.parametrize("key", [b"short", "not bytes, and long enough to be a secret", public_pem])
def test_what_is_no_secret_makes_no_key(key: Any) -> None:
    with pytest.raises(AssertionError):
        VerificationKey("HS256", key)


def test_an_algorithm_that_is_not_spoken_makes_no_key() -> None:
    with pytest.raises(AssertionError):
        VerificationKey("none", b"")


def test_no_token_opens_anothers_document_without_a_grant() -> None:
    random = Random(20)
    users = [f"user-{number}" for number in range(12)] + ["a", "a.", "A", "a:main"]
    names = ["main", "notes", "a", "user-1"]
    opened = 0
    for number in range(PAIRS):
        user, document = random.choice(users), DocumentId(random.choice(users), random.choice(names))
        grants = _some_grants(random, users, names)
        claims = verify(_minted(user, grants, f"t{number}"), authority(), NOW_S)
        expected = Access.WRITE if document.owner == user else grants.get(document)
        assert claims.access(document) is expected
        opened += expected is not None
    assert 0 < opened < PAIRS


def _some_grants(random: Random, users: list[str], names: list[str]) -> dict[DocumentId, Access]:
    documents = [DocumentId(random.choice(users), random.choice(names)) for _ in range(random.randrange(4))]
    return {document: random.choice(list(Access)) for document in documents}


def _minted(user: str, grants: Mapping[DocumentId, Access], token_id: str) -> str:
    return mint(
        user,
        "phone",
        ttl_s=60,
        grants=grants,
        secret=SECRET,
        audience="syncline",
        issuer="issuer",
        now_s=NOW_S,
        token_id=token_id,
    )
