"""Who a token speaks for, and whether its bearer is that device.

Every claim is checked here, against a `now` that the caller gives.
"""

from __future__ import annotations

import base64
import hmac
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256
from typing import Any, Final

import jwt
from jwt.algorithms import get_default_algorithms

from crdt.errors import PeerError
from crdt.ids import DocumentId, is_name
from crdt.protocol.codes import Code
from crdt.protocol.frames import Access
from crdt.protocol.proof import OPTION_KEY, OPTION_PROOF, SIGNATURE_BYTES, PublicKey, signed_bytes

ALGORITHMS: Final = ("HS256", "RS256", "ES256", "EdDSA")
_BY_NAME: Final = {name: algorithm for name, algorithm in get_default_algorithms().items() if name in ALGORITHMS}
HS256_SECRET_BYTES_MIN: Final = 32
CLOCK_LEEWAY_S: Final = 60.0
"""How far in the future a token may have been issued: its maker's clock is not ours."""
TOKEN_CHARS_MAX: Final = 16 << 10
"""No longer token is looked at, wherever it came from."""
HEADERS_MAX: Final = 32
"""Of those read last, which are remembered: the tokens of one issuer and key all begin alike."""
_TYPES: Final = (None, "JWT", "at+jwt")
"""The `typ` of a token for an API; others (RFC 8725, 3.11) were signed for something else."""
_EXTENSIONS: Final = frozenset({"crit", "b64"})
"""What makes a token mean something else to those who understand it (RFC 7515, 4.1.11; RFC 7797)."""


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """One key, for one algorithm only: secret bytes for HS256, else a public key as `cryptography` has it.

    Raises jwt.InvalidKeyError for a secret that is in truth another kind of key.

    `key_id` is the `kid` it answers to; a key without one answers to any that no other key has.
    """

    algorithm: str
    key: Any
    key_id: str | None = None
    _prepared: Any = field(init=False, repr=False, compare=False)
    """As the algorithm takes it: looking whether a secret is one costs as much as all else of a token."""

    def __post_init__(self) -> None:
        assert self.algorithm in ALGORITHMS, f"{self.algorithm} is not spoken here"
        if self.algorithm == "HS256":
            assert isinstance(self.key, bytes), "a public key is no secret"
            assert len(self.key) >= HS256_SECRET_BYTES_MIN, "a secret that short can be guessed"
        prepared = _BY_NAME[self.algorithm].prepare_key(self.key)
        if self.algorithm == "HS256":
            prepared = hmac.new(prepared, digestmod=sha256)
        object.__setattr__(self, "_prepared", prepared)

    def signed(self, message: bytes, signature: bytes) -> bool:
        """True if that is the signature of its owner."""
        if self.algorithm == "HS256":
            mac = self._prepared.copy()
            mac.update(message)
            return hmac.compare_digest(mac.digest(), signature)
        return _BY_NAME[self.algorithm].verify(message, self._prepared, signature)


@dataclass(frozen=True, slots=True)
class Authority:
    """Whose tokens are accepted. Replaced as a whole when keys change."""

    keys: tuple[VerificationKey, ...]
    audience: str
    issuer: str


@dataclass(frozen=True, slots=True)
class Claims:
    """What a verified token says. `expires_s` is in seconds since 1970.

    `key_thumbprint` names the one key whose owner may use it (`proves`); None: whoever has the token may.
    """

    user: str
    device: str
    expires_s: float
    token_id: str
    grants: Mapping[DocumentId, Access] = field(default_factory=dict)
    key_thumbprint: str | None = None

    def access(self, document: DocumentId) -> Access | None:
        """What the bearer may do with a document: everything with its own, else what a grant says."""
        return Access.WRITE if document.owner == self.user else self.grants.get(document)


def is_thumbprint(text: str) -> bool:
    """True if `text` may be a key's SHA-256 in base64url."""
    return _THUMBPRINT.fullmatch(text) is not None


_THUMBPRINT: Final = re.compile(r"[A-Za-z0-9_-]{43}")


def bad_token(message: str) -> PeerError:
    return PeerError(Code.BAD_TOKEN, message)


def verify(token: str, authority: Authority, now_s: float) -> Claims:
    """The claims of a token. `now_s` is seconds since 1970.

    Raises PeerError with `bad_token`, or `token_expired` for a token that was good once.
    """
    payload = _verified_payload(token, authority)
    for claim in ("sub", "did", "jti"):
        _check_name(payload, claim)
    if payload.get("iss") != authority.issuer:
        raise bad_token("the token is from another issuer")
    if not _is_for(payload.get("aud"), authority.audience):
        raise bad_token("the token is for another audience")
    expires_s = _time(payload, "exp")
    for claim in ("iat", "nbf"):
        if (claim in payload or claim == "iat") and _time(payload, claim) > now_s + CLOCK_LEEWAY_S:
            raise bad_token(f"the token's {claim} lies in the future")
    grants = _grants(payload.get("docs", {}))
    key_thumbprint = _key_thumbprint(payload)
    if expires_s <= now_s:
        raise PeerError(Code.TOKEN_EXPIRED, "the token has expired")
    return Claims(payload["sub"], payload["did"], expires_s, payload["jti"], grants, key_thumbprint)


def proves(options: Mapping[str, Any], key_thumbprint: str, token_id: str, nonce: bytes) -> bool:
    """True if HELLO's options have the key of that thumbprint, and its signature over this connection and token."""
    proof, jwk = options.get(OPTION_PROOF), options.get(OPTION_KEY)
    if not isinstance(proof, bytes) or len(proof) != SIGNATURE_BYTES or not isinstance(jwk, str):
        return False
    try:
        given = PublicKey.read(jwk)
        if given.thumbprint != key_thumbprint:
            return False
        key = _ES256.from_jwk(given.jwk)
    except (ValueError, jwt.InvalidKeyError):
        return False
    return _ES256.verify(signed_bytes(nonce, token_id), key, proof)


_ES256: Final = _BY_NAME["ES256"]


def _verified_payload(token: str, authority: Authority) -> dict[str, Any]:
    if len(token) > TOKEN_CHARS_MAX:
        raise bad_token("the token is too long")
    try:
        message, _, signature = token.encode().rpartition(b".")
        header, _, payload = message.partition(b".")
        if not _key_for(_read_header(header), authority).signed(message, _decoded(signature)):
            raise ValueError("the signature is not that of the key")
        return _read_map(payload)
    except (ValueError, TypeError, RecursionError) as exc:
        raise bad_token("the token is not one of ours") from exc


def _decoded(segment: bytes) -> bytes:
    """Base64url in its one right spelling, though some issuers pad it. Raises ValueError."""
    bare = segment.rstrip(b"=")
    padded = bare + b"=" * (-len(bare) % 4)
    data = base64.urlsafe_b64decode(padded)
    if base64.urlsafe_b64encode(data) != padded or segment not in (bare, padded):
        raise ValueError("that is no base64url")
    return data


def _read_map(segment: bytes) -> dict[str, Any]:
    """JSON as RFC 8259 has it, in UTF-8, in which no member comes twice. Raises ValueError, RecursionError."""
    found = _JSON.decode(_decoded(segment).decode())
    if not isinstance(found, dict):
        raise ValueError("that is not a map")
    return found


@lru_cache(maxsize=HEADERS_MAX)
def _read_header(segment: bytes) -> Mapping[str, Any]:
    return _read_map(segment)


def _unique(members: list[tuple[str, Any]]) -> dict[str, Any]:
    read = dict(members)
    if len(read) != len(members):
        raise ValueError("a member comes twice")
    return read


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


_JSON: Final = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_number)


def _key_for(header: Mapping[str, Any], authority: Authority) -> VerificationKey:
    if header.get("typ") not in _TYPES:
        raise bad_token("the token is of another type")
    if not _EXTENSIONS.isdisjoint(header):
        raise bad_token("the token has an extension, and none is understood")
    algorithm, key_id = header.get("alg"), header.get("kid")
    if not isinstance(key_id, str | None):
        raise bad_token("the token's kid is not a name")
    for wanted_id in dict.fromkeys((key_id, None)):
        for key in authority.keys:
            if key.algorithm == algorithm and key.key_id == wanted_id:
                return key
    raise bad_token("no key of ours fits the token")


def _check_name(payload: Mapping[str, Any], claim: str) -> None:
    value = payload.get(claim)
    if not isinstance(value, str) or not is_name(value):
        raise bad_token(f"the token's {claim} is missing, or is no name: 1 to 128 of A-Z a-z 0-9 . _ - ~ @ : +")


def _time(payload: Mapping[str, Any], claim: str) -> float:
    value = payload.get(claim)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1 << 40:
        raise bad_token(f"the token's {claim} is missing or is not a time")
    return float(value)


def _is_for(audience: Any, ours: str) -> bool:
    return audience == ours or (isinstance(audience, list) and ours in audience)


def _key_thumbprint(payload: Mapping[str, Any]) -> str | None:
    """Whoever binds a token means it: what is not understood here is refused, where RFC 7800 would ignore it."""
    if "cnf" not in payload:
        return None
    match payload["cnf"]:
        case {"jkt": str(thumbprint), **others} if not others and is_thumbprint(thumbprint):
            return thumbprint
        case _:
            raise bad_token("the token's cnf is not a map with jkt alone, the thumbprint of a key")


def _grants(docs: Any) -> dict[DocumentId, Access]:
    if not isinstance(docs, dict):
        raise bad_token("the token's docs are not a map")
    try:
        return {DocumentId.parse(name): Access(access) for name, access in docs.items()}
    except (ValueError, TypeError) as exc:
        raise bad_token("the token's docs are not a map of owner/name to r or rw") from exc
