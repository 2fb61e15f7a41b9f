"""The keys that tokens are verified with: from the environment, from a key set that others publish, or a throw-away."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, build_opener

import jwt
import structlog
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from crdt.protocol.proof import COORDINATE_BYTES
from crdt.protocol.proof import PublicKey as DeviceKey
from server.config import KeySettings
from server.core.auth import HS256_SECRET_BYTES_MIN, Authority, VerificationKey
from server.storage import database_file

RSA_BITS_MIN: Final = 2048
JWKS_BYTES_MAX: Final = 256 << 10
JWKS_TIMEOUT_S: Final = 10.0
"""For each step of a fetch: connecting, and each read."""
_LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")

_log = structlog.get_logger("syncline")


class BadKeys(Exception):
    """There is no key to verify tokens with, or one is not what it should be. The text fits on a line."""


def load_authority(settings: KeySettings) -> Authority:
    """Whose tokens to accept. Blocks while it reads files, and the key set where that is a URL. Raises BadKeys.

    `insecure_dev` makes a secret only where no key is configured.
    """
    keys = _configured_keys(settings)
    if settings.jwks is not None:
        keys += read_jwks(settings.jwks)
    if not keys and settings.insecure_dev:
        keys = [_throw_away_key(_dev_key_file(settings))]
    if not keys:
        raise BadKeys(
            "no key to verify tokens with: set SYNCLINE_JWT_SECRET, SYNCLINE_JWT_PUBLIC_KEY or SYNCLINE_JWKS"
            " (or --insecure-dev, to try things out)"
        )
    return _authority(settings, keys)


def signing_secret(settings: KeySettings) -> bytes:
    """The secret for tokens of our own making: the configured one, else that of `--insecure-dev`. Raises BadKeys."""
    if settings.jwt_secret is not None:
        return _secret_key(settings.jwt_secret.get_secret_value().encode()).key  # type: ignore[no-any-return]
    file = _dev_key_file(settings)
    if not file.exists():
        raise BadKeys(f"no secret to sign tokens with: set SYNCLINE_JWT_SECRET ({file} is not there either)")
    return _read_dev_key(file)


class JwksRefresher:
    """Keeps up with a key set that changes. The caller runs `run()` in a task of its own, and cancels it."""

    def __init__(
        self,
        settings: KeySettings,
        trust: Callable[[Authority], None],
        read: Callable[[str], list[VerificationKey]] | None = None,
    ) -> None:
        """`trust` is told the new authority from the event loop. `read` is `read_jwks`, which runs in a thread."""
        assert settings.jwks is not None, "there is no key set to keep up with"
        self._source = settings.jwks
        self._settings = settings
        self._trust = trust
        self._read = read or read_jwks
        self._configured = _configured_keys(settings)
        self._wanted = asyncio.Event()

    def wake(self) -> None:
        """A token was refused, perhaps for a key that is new: read the set now, or when the cooldown is over."""
        self._wanted.set()

    async def run(self) -> None:
        """Read the set periodically and when woken, never more often than the cooldown allows."""
        while True:
            await self._due()
            self._wanted.clear()
            await self._refresh()
            await asyncio.sleep(self._settings.jwks_cooldown_s)

    async def _due(self) -> None:
        try:
            async with asyncio.timeout(self._settings.jwks_refresh_s):
                await self._wanted.wait()
        except TimeoutError:
            return

    async def _refresh(self) -> None:
        try:
            keys = await asyncio.to_thread(self._read, self._source)
        except BadKeys as exc:
            _log.error("jwks_failed", source=self._source, reason=str(exc), kept="the keys that were there before")
            return
        self._trust(_authority(self._settings, self._configured + keys))
        _log.info("jwks_read", source=self._source, keys=len(keys))


def read_jwks(source: str) -> list[VerificationKey]:
    """The usable keys of a set (RFC 7517) in a file or at a URL. Raises BadKeys if there is none."""
    try:
        document = json.loads(_fetch(source) if "://" in source else Path(source).read_bytes())
    except (OSError, HTTPException, ValueError, RecursionError) as exc:
        raise BadKeys(f"the key set {source} cannot be read: {exc}") from exc
    found = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(found, list):
        raise BadKeys(f"{source} is not a key set: it has no list of keys")
    keys = []
    for jwk in found:
        try:
            keys.append(_key_of_jwk(jwk))
        except BadKeys as exc:
            _log.warning("jwks_key_passed_over", source=source, reason=str(exc))
    if not keys:
        raise BadKeys(f"the key set {source} has no key that can be used here")
    return keys


def public_key(key: Any, key_id: str | None = None) -> VerificationKey:
    """A public key of `cryptography` with the one algorithm that its type stands for. Raises BadKeys."""
    match key:
        case RSAPublicKey():
            if key.key_size < RSA_BITS_MIN:
                raise BadKeys(f"an RSA key has {RSA_BITS_MIN} bits or more, not {key.key_size}")
            return VerificationKey("RS256", key, key_id)
        case EllipticCurvePublicKey(curve=SECP256R1()):
            return VerificationKey("ES256", key, key_id)
        case Ed25519PublicKey():
            return VerificationKey("EdDSA", key, key_id)
        case _:
            raise BadKeys("a public key is one of RSA, P-256 or Ed25519")


def key_thumbprint(text: str) -> str:
    """What binds a token to a device's public key (P-256), which is a JWK in JSON or in PEM. Raises BadKeys."""
    try:
        if text.lstrip().startswith("{"):
            return DeviceKey.read(text.strip()).thumbprint
        key = load_pem_public_key(text.encode())
    except (ValueError, UnsupportedAlgorithm) as exc:
        raise BadKeys("a device's key is a JWK with crv, kty, x and y alone, or a public key in PEM") from exc
    if not (isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1)):
        raise BadKeys("a device's key is of P-256")
    point = key.public_numbers()
    return DeviceKey(point.x.to_bytes(COORDINATE_BYTES), point.y.to_bytes(COORDINATE_BYTES)).thumbprint


# --- each kind of key


def _configured_keys(settings: KeySettings) -> list[VerificationKey]:
    keys = []
    if settings.jwt_secret is not None:
        keys.append(_secret_key(settings.jwt_secret.get_secret_value().encode()))
    if settings.jwt_public_key is not None:
        keys.append(_read_public_key(settings.jwt_public_key))
    return keys


def _secret_key(secret: bytes) -> VerificationKey:
    if b"-----BEGIN" in secret:
        raise BadKeys("SYNCLINE_JWT_SECRET is a PEM key, which is no secret: SYNCLINE_JWT_PUBLIC_KEY takes those")
    if len(secret) < HS256_SECRET_BYTES_MIN:
        raise BadKeys(f"SYNCLINE_JWT_SECRET has {len(secret)} bytes and needs {HS256_SECRET_BYTES_MIN} or more")
    try:
        return VerificationKey("HS256", secret)
    except jwt.InvalidKeyError as exc:
        raise BadKeys("SYNCLINE_JWT_SECRET is another kind of key, and no secret") from exc


def _read_public_key(text_or_path: str) -> VerificationKey:
    try:
        is_text = "-----BEGIN" in text_or_path
        pem = text_or_path.encode() if is_text else Path(text_or_path).read_bytes()
        if b"PRIVATE KEY-----" in pem:
            raise BadKeys("SYNCLINE_JWT_PUBLIC_KEY is a private key: the server needs the public one alone")
        return public_key(load_pem_public_key(pem))
    except OSError as exc:
        raise BadKeys(f"SYNCLINE_JWT_PUBLIC_KEY: {text_or_path} cannot be read: {exc.strerror}") from exc
    except (ValueError, UnsupportedAlgorithm) as exc:
        raise BadKeys("SYNCLINE_JWT_PUBLIC_KEY is neither a public key in PEM nor the path of one") from exc


def _key_of_jwk(jwk: Any) -> VerificationKey:
    if not isinstance(jwk, dict) or jwk.get("kty") not in ("RSA", "EC", "OKP"):
        raise BadKeys("it is not a public key")
    if jwk.get("use", "sig") != "sig":
        raise BadKeys("it is not for signatures")
    key_id = jwk.get("kid")
    if not isinstance(key_id, str | None):
        raise BadKeys("its kid is not a string")
    try:
        key = public_key(jwt.PyJWK(jwk).key, key_id)
    except (jwt.PyJWTError, ValueError, TypeError) as exc:
        raise BadKeys("it cannot be read") from exc
    if jwk.get("alg", key.algorithm) != key.algorithm:
        raise BadKeys(f"it is for another algorithm than {key.algorithm}")
    return key


# --- a key set at a URL


class _NoRedirects(HTTPRedirectHandler):
    """Where keys come from is what the operator wrote, and nowhere else."""

    def redirect_request(self, *_args: object) -> None:
        return None


def _fetch(url: str) -> bytes:
    """Raises OSError, HTTPException, ValueError."""
    parts = urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
        raise ValueError("it has to be https")
    with build_opener(_NoRedirects).open(url, timeout=JWKS_TIMEOUT_S) as response:
        body: bytes = response.read(JWKS_BYTES_MAX + 1)
    if len(body) > JWKS_BYTES_MAX:
        raise ValueError(f"it has more than {JWKS_BYTES_MAX} bytes")
    return body


# --- the secret of --insecure-dev


def _dev_key_file(settings: KeySettings) -> Path:
    return Path(f"{database_file(settings.database_url)}.dev-key")


def _throw_away_key(file: Path) -> VerificationKey:
    """The secret in `file`, made if it is not there; only its owner can read it."""
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        made = False
    except OSError as exc:
        raise BadKeys(f"{file} cannot be made: {exc.strerror}") from exc
    else:
        made = True
        with os.fdopen(descriptor, "w") as opened:
            opened.write(secrets.token_hex(HS256_SECRET_BYTES_MIN))
    _log.warning("insecure_dev_key", file=str(file), made=made, note="who reads it can be anyone: never in production")
    return VerificationKey("HS256", _read_dev_key(file))


def _read_dev_key(file: Path) -> bytes:
    try:
        secret = file.read_bytes().strip()
    except OSError as exc:
        raise BadKeys(f"{file} cannot be read: {exc.strerror}") from exc
    if len(secret) < HS256_SECRET_BYTES_MIN:
        raise BadKeys(f"{file} is damaged: remove it, and a new one is made")
    return secret


def _authority(settings: KeySettings, keys: list[VerificationKey]) -> Authority:
    return Authority(tuple(keys), settings.jwt_audience, settings.jwt_issuer)
