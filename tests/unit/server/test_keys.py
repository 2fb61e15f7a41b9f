"""Keys: every source is read, what is not a good key is refused in one line, and key sets are kept up with."""

from __future__ import annotations

import asyncio
import json
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from server.config import KeySettings, ServeSettings, read_settings, variable
from server.core.auth import Authority, VerificationKey
from server.keys import JWKS_BYTES_MAX, BadKeys, JwksRefresher, load_authority, read_jwks, signing_secret
from tests.support import wait_until

SECRET = "a secret of at least thirty-two bytes"


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ServeSettings.model_fields:
        monkeypatch.delenv(variable(name), raising=False)


def settings_in(folder: Path, **given: Any) -> KeySettings:
    return read_settings(KeySettings, {"database_url": f"sqlite:///{folder}/syncline.db"} | given)


@cache
def private_keys() -> dict[str, Any]:
    return {
        "RS256": rsa.generate_private_key(public_exponent=65537, key_size=2048),
        "ES256": ec.generate_private_key(ec.SECP256R1()),
        "EdDSA": Ed25519PrivateKey.generate(),
    }


@cache
def useless_keys() -> dict[str, Any]:
    return {
        "a short RSA key": rsa.generate_private_key(public_exponent=65537, key_size=1024),
        "P-384": ec.generate_private_key(ec.SECP384R1()),
        "secp256k1": ec.generate_private_key(ec.SECP256K1()),
        "Ed448": Ed448PrivateKey.generate(),
    }


def public_pem(private: Any) -> str:
    return private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()  # type: ignore[no-any-return]


def jwk(algorithm: str, **members: Any) -> dict[str, Any]:
    kinds: dict[str, Any] = {"RS256": RSAAlgorithm, "ES256": ECAlgorithm, "EdDSA": OKPAlgorithm}
    kind = kinds[algorithm]
    made: dict[str, Any] = kind.to_jwk(private_keys()[algorithm].public_key(), as_dict=True)
    made.pop("key_ops", None)
    return made | members


def key_set(*keys: object) -> bytes:
    return json.dumps({"keys": keys}).encode()


# --- single keys


def test_a_secret_verifies_hs256(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNCLINE_JWT_SECRET", SECRET)
    monkeypatch.setenv("SYNCLINE_JWT_ISSUER", "login.example")
    authority = load_authority(settings_in(tmp_path))
    assert authority == Authority((VerificationKey("HS256", SECRET.encode()),), "syncline", "login.example")


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
@pytest.mark.parametrize("given_as", ["text", "file"])
def test_a_public_key_is_for_the_algorithm_of_its_type(tmp_path: Path, algorithm: str, given_as: str) -> None:
    pem = public_pem(private_keys()[algorithm])
    file = tmp_path / "key.pem"
    file.write_text(pem)
    (key,) = load_authority(settings_in(tmp_path, jwt_public_key=pem if given_as == "text" else str(file))).keys
    assert key.algorithm == algorithm
    token = jwt.encode({}, private_keys()[algorithm], algorithm=algorithm)
    assert jwt.decode(token, key.key, algorithms=[key.algorithm]) == {}


@pytest.mark.parametrize("name", ["a short RSA key", "P-384", "secp256k1", "Ed448"])
def test_other_public_keys_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadKeys):
        load_authority(settings_in(tmp_path, jwt_public_key=public_pem(useless_keys()[name])))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"jwt_secret": "short"}, "has 5 bytes and needs 32"),
        ({"jwt_secret": "é" * 15}, "has 30 bytes and needs 32"),
        ({"jwt_secret": '{"kty": "oct", "k": "c2VjcmV0c2VjcmV0"}'}, "another kind of key"),
        ({"jwt_public_key": "no/such/file.pem"}, "no/such/file.pem cannot be read: No such file"),
        ({"jwt_public_key": "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----"}, "neither a public key"),
        ({"jwks": "no/such/file.json"}, "no/such/file.json cannot be read"),
        ({"jwks": "http://login.example/keys"}, "it has to be https"),
        ({"jwks": "ftp://login.example/keys"}, "it has to be https"),
        ({"jwks": "file:///etc/passwd"}, "it has to be https"),
        ({}, "no key to verify tokens with: set SYNCLINE_JWT_SECRET"),
    ],
)
def test_a_bad_key_is_refused_in_one_line(tmp_path: Path, given: dict[str, str], says: str) -> None:
    with pytest.raises(BadKeys) as refused:
        load_authority(settings_in(tmp_path, **given))
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


def test_keys_in_the_wrong_variable_are_refused(tmp_path: Path) -> None:
    private = private_keys()["ES256"]
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    with pytest.raises(BadKeys, match="is a private key"):
        load_authority(settings_in(tmp_path, jwt_public_key=pem))
    with pytest.raises(BadKeys, match="is no secret"):
        load_authority(settings_in(tmp_path, jwt_secret=public_pem(private)))


# --- the secret of --insecure-dev


def test_insecure_dev_makes_a_secret_once_for_its_owner_alone(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, insecure_dev=True)
    first, second = load_authority(settings), load_authority(settings)
    assert first == second
    (file,) = tmp_path.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert signing_secret(settings_in(tmp_path)) == first.keys[0].key


def test_two_stores_have_two_secrets(tmp_path: Path) -> None:
    made = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        made.append(load_authority(settings_in(tmp_path / name, insecure_dev=True)).keys)
    assert made[0] != made[1]


def test_insecure_dev_makes_nothing_where_a_key_is_configured(tmp_path: Path) -> None:
    load_authority(settings_in(tmp_path, insecure_dev=True, jwt_secret=SECRET))
    assert not list(tmp_path.iterdir())


def test_a_damaged_secret_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "syncline.db.dev-key").write_text("")
    with pytest.raises(BadKeys, match="damaged"):
        load_authority(settings_in(tmp_path, insecure_dev=True))


def test_without_a_secret_nothing_is_signed(tmp_path: Path) -> None:
    with pytest.raises(BadKeys, match="no secret to sign"):
        signing_secret(settings_in(tmp_path, insecure_dev=True))


# --- key sets


def test_a_key_set_gives_the_keys_that_can_be_used_in_order(tmp_path: Path) -> None:
    file = tmp_path / "jwks.json"
    file.write_bytes(
        key_set(
            jwk("RS256", kid="1", use="sig", alg="RS256"),
            jwk("RS256", kid="encrypts", use="enc"),
            jwk("RS256", kid="other", alg="PS256"),
            {"kty": "oct", "k": "c2VjcmV0", "kid": "secret"},
            {"kty": "RSA", "n": "AQAB", "e": "AQAB"},
            jwk("EdDSA", kid=7),
            jwk("ES256", kid="2"),
            "not a key",
            jwk("EdDSA"),
        )
    )
    keys = load_authority(settings_in(tmp_path, jwks=str(file))).keys
    assert [(key.algorithm, key.key_id) for key in keys] == [("RS256", "1"), ("ES256", "2"), ("EdDSA", None)]


def test_a_published_private_key_is_not_trusted(tmp_path: Path) -> None:
    file = tmp_path / "jwks.json"
    private: dict[str, Any] = OKPAlgorithm.to_jwk(private_keys()["EdDSA"], as_dict=True)
    file.write_bytes(key_set(private))
    with pytest.raises(BadKeys, match="no key that can be used"):
        read_jwks(str(file))


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"keys": {}}', b'{"keys": []}', b"\xff", b"[" * 100_000])
def test_what_is_no_key_set_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "jwks.json"
    file.write_bytes(content)
    with pytest.raises(BadKeys):
        read_jwks(str(file))


@contextmanager
def published(respond: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[str]:
    """The URL of a server on the loopback that answers so."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            respond(self)

        def log_message(self, *args: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.005,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/jwks.json"
        finally:
            server.shutdown()
            thread.join()


def answering(body: bytes, status: int = 200, **headers: str) -> Callable[[BaseHTTPRequestHandler], None]:
    def respond(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body)

    return respond


def test_a_key_set_is_fetched() -> None:
    with published(answering(key_set(jwk("ES256", kid="1")))) as url:
        assert [key.key_id for key in read_jwks(url)] == ["1"]


@pytest.mark.parametrize(
    "respond",
    [
        answering(b"no", status=404),
        answering(key_set(), status=500),
        answering(b" " * (JWKS_BYTES_MAX + 1)),
        lambda handler: handler.wfile.write(b"what\r\n\r\n"),
    ],
    ids=["missing", "failing", "huge", "not HTTP"],
)
def test_a_key_set_that_cannot_be_fetched_is_said_so(respond: Callable[[BaseHTTPRequestHandler], None]) -> None:
    with published(respond) as url, pytest.raises(BadKeys, match="cannot be read"):
        read_jwks(url)


def test_a_redirect_is_not_followed() -> None:
    with (
        published(answering(key_set(jwk("ES256", kid="1")))) as elsewhere,
        published(answering(b"", status=302, Location=elsewhere)) as url,
        pytest.raises(BadKeys, match="302"),
    ):
        read_jwks(url)


# --- keeping up


class Source:
    """A key set that changes; counts its readings."""

    def __init__(self) -> None:
        self.keys: list[VerificationKey] | None = []
        self.readings = 0

    def read(self, _source: str) -> list[VerificationKey]:
        self.readings += 1
        if self.keys is None:
            raise BadKeys("gone")
        return self.keys

    def publish(self, key_id: str) -> None:
        self.keys = [VerificationKey("ES256", private_keys()["ES256"].public_key(), key_id)]


async def test_a_woken_refresher_brings_the_new_keys_beside_the_configured(tmp_path: Path) -> None:
    source, trusted = Source(), list[Authority]()
    settings = settings_in(tmp_path, jwks="keys.json", jwt_secret=SECRET, jwks_cooldown_s=0.001)
    async with asyncio.TaskGroup() as tasks:
        refresher = JwksRefresher(settings, trusted.append, source.read)
        task = tasks.create_task(refresher.run())
        source.publish("new")
        refresher.wake()
        await wait_until(lambda: trusted)
        assert [key.algorithm for key in trusted[-1].keys] == ["HS256", "ES256"]
        source.publish("newer")
        refresher.wake()
        await wait_until(lambda: trusted[-1].keys[-1].key_id == "newer")
        task.cancel()


async def test_a_failed_refresh_keeps_the_keys_and_the_next_one_counts(tmp_path: Path) -> None:
    source, trusted = Source(), list[Authority]()
    source.keys = None
    settings = settings_in(tmp_path, jwks="keys.json", jwks_cooldown_s=0.001)
    async with asyncio.TaskGroup() as tasks:
        refresher = JwksRefresher(settings, trusted.append, source.read)
        task = tasks.create_task(refresher.run())
        refresher.wake()
        await wait_until(lambda: source.readings)
        assert not trusted
        source.publish("back")
        refresher.wake()
        await wait_until(lambda: trusted)
        task.cancel()


def _turn_over() -> Callable[[], bool]:
    """Holds once the event loop has turned."""
    event = asyncio.Event()
    asyncio.get_running_loop().call_soon(event.set)
    return event.is_set


async def test_many_refused_tokens_are_one_reading_in_a_cooldown(tmp_path: Path) -> None:
    source, trusted = Source(), list[Authority]()
    source.publish("1")
    async with asyncio.TaskGroup() as tasks:
        refresher = JwksRefresher(settings_in(tmp_path, jwks="keys.json"), trusted.append, source.read)
        task = tasks.create_task(refresher.run())
        refresher.wake()
        await wait_until(lambda: trusted)
        for _ in range(10):
            refresher.wake()
            await wait_until(_turn_over())
        assert source.readings == 1
        task.cancel()


async def test_the_set_is_read_again_without_being_asked_for(tmp_path: Path) -> None:
    source, trusted = Source(), list[Authority]()
    source.publish("1")
    settings = settings_in(tmp_path, jwks="keys.json", jwks_refresh_s=0.001, jwks_cooldown_s=0.001)
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(JwksRefresher(settings, trusted.append, source.read).run())
        await wait_until(lambda: len(trusted) > 2)
        task.cancel()
