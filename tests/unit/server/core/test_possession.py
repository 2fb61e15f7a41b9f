"""A token that is bound to a key is worth nothing to those who do not have it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from crdt.protocol import frames
from crdt.protocol.codec import encode
from crdt.protocol.codes import Code
from crdt.protocol.frames import Error, Hello, Pong, Welcome
from crdt.protocol.proof import PublicKey, signed_bytes
from server.core.auth import proves
from server.core.events import MessagesReceived
from tests.device_key import DeviceKey
from tests.unit.server.core.lab import Lab, token

PHONE, THIEF = DeviceKey(), DeviceKey()
REPLAYED = (4401, Code.REPLAYED)
BAD_TOKEN = (4401, Code.BAD_TOKEN)
JTI = "t-1"
NONCE = bytes(range(16))


def bound(key: DeviceKey = PHONE, **claims: Any) -> str:
    return token("alice", "phone", **({"cnf": key.bound, "jti": JTI} | claims))


def greet(lab: Lab, options: Callable[[bytes], dict[str, Any]], token: str | None = None) -> int:
    """A session whose HELLO has these options, made of its nonce."""
    session = lab.connect()
    nonce = lab.nonces.get(session, bytes(16))
    lab.send(session, Hello(1, token or bound(), "phone", "test", options(nonce)))
    return session


def proven(lab: Lab, key: DeviceKey = PHONE) -> int:
    session = greet(lab, lambda nonce: key.options(nonce, JTI), bound(key))
    assert isinstance(lab.take(session, Welcome), Welcome)
    return session


def test_every_connection_begins_with_a_nonce_of_its_own() -> None:
    lab = Lab()
    nonces = [lab.nonces[lab.connect()] for _ in range(50)]
    assert len(set(nonces)) == 50
    assert {len(nonce) for nonce in nonces} == {16}


def test_who_has_the_key_comes_in() -> None:
    lab = Lab()
    session = proven(lab)
    lab.send(session, frames.Ping(1))
    assert isinstance(lab.take(session, Pong), Pong)


def test_a_proof_beside_a_token_that_needs_none_does_no_harm() -> None:
    lab = Lab()
    session = greet(lab, lambda nonce: {"proof": b"?", "key": 7}, token("alice", "phone"))
    assert isinstance(lab.take(session, Welcome), Welcome)


def _other_curve(nonce: bytes) -> dict[str, Any]:
    jwk = json.loads(PHONE.public.jwk) | {"crv": "P-384"}
    return PHONE.options(nonce, JTI) | {"key": json.dumps(jwk)}


def _off_the_curve(nonce: bytes) -> dict[str, Any]:
    return PHONE.options(nonce, JTI) | {"key": PublicKey(bytes(32), bytes(31) + b"\1").jwk}


def _changed(nonce: bytes, at: int) -> dict[str, Any]:
    options = PHONE.options(nonce, JTI)
    proof = bytearray(options["proof"])
    proof[at] ^= 1
    return options | {"proof": bytes(proof)}


BAD_PROOFS: dict[str, Callable[[bytes], dict[str, Any]]] = {
    "none": lambda nonce: {},
    "no key": lambda nonce: {"proof": PHONE.options(nonce, JTI)["proof"]},
    "no signature": lambda nonce: {"key": PHONE.public.jwk},
    "another's key": lambda nonce: THIEF.options(nonce, JTI),
    "another's signature under the right key": lambda nonce: (
        THIEF.options(nonce, JTI) | {"key": PHONE.public.jwk}
    ),
    "over another nonce": lambda nonce: PHONE.options(bytes(16), JTI),
    "over another token": lambda nonce: PHONE.options(nonce, "t-2"),
    "over the nonce alone": lambda nonce: PHONE.options(nonce, JTI) | {"proof": PHONE.sign(nonce)},
    "without its purpose": lambda nonce: PHONE.options(nonce, JTI) | {"proof": PHONE.sign(nonce + JTI.encode())},
    "one bit of r": lambda nonce: _changed(nonce, 5),
    "one bit of s": lambda nonce: _changed(nonce, 63),
    "all zero": lambda nonce: PHONE.options(nonce, JTI) | {"proof": bytes(64)},
    "all ones": lambda nonce: PHONE.options(nonce, JTI) | {"proof": b"\xff" * 64},
    "too short": lambda nonce: PHONE.options(nonce, JTI) | {"proof": PHONE.options(nonce, JTI)["proof"][:63]},
    "too long": lambda nonce: PHONE.options(nonce, JTI) | {"proof": PHONE.options(nonce, JTI)["proof"] + b"\0"},
    "a string": lambda nonce: PHONE.options(nonce, JTI) | {"proof": "x" * 64},
    "a list": lambda nonce: PHONE.options(nonce, JTI) | {"proof": [1]},
    "nil": lambda nonce: {"proof": None, "key": None},
    "a key in bytes": lambda nonce: PHONE.options(nonce, JTI) | {"key": PHONE.public.jwk.encode()},
    "a key that is a map": lambda nonce: PHONE.options(nonce, JTI) | {"key": json.loads(PHONE.public.jwk)},
    "a key that is not JSON": lambda nonce: PHONE.options(nonce, JTI) | {"key": "{"},
    "a key that is nested": lambda nonce: PHONE.options(nonce, JTI) | {"key": "[" * 500},
    "a key that is huge": lambda nonce: PHONE.options(nonce, JTI) | {"key": PHONE.public.jwk + " " * 100_000},
    "a key of another curve": _other_curve,
    "a key that is no point of the curve": _off_the_curve,
    "a key that is null": lambda nonce: PHONE.options(nonce, JTI) | {"key": "null"},
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_PROOFS)
def test_without_a_good_proof_a_bound_token_is_refused(name: str) -> None:
    lab = Lab()
    session = greet(lab, BAD_PROOFS[name])
    assert lab.closed == {session: REPLAYED}
    assert lab.take(session, Error).retry == "after_auth"


def test_a_key_that_is_no_point_of_the_curve_is_none_even_if_the_token_names_it() -> None:
    nowhere = PublicKey(bytes(32), bytes(31) + b"\1")
    assert not proves({"proof": bytes(64), "key": nowhere.jwk}, nowhere.thumbprint, JTI, NONCE)


def test_a_proof_is_good_for_its_token_alone() -> None:
    lab = Lab()
    session = greet(lab, lambda nonce: PHONE.options(nonce, JTI), bound(jti="t-2"))
    assert lab.closed == {session: REPLAYED}
    assert isinstance(
        lab.take(greet(lab, lambda nonce: PHONE.options(nonce, "t-2"), bound(jti="t-2")), Welcome), Welcome
    )


def test_what_was_said_on_one_connection_is_worth_nothing_on_another() -> None:
    lab = Lab()
    session = lab.connect()
    said = encode(Hello(1, bound(), "phone", "test", PHONE.options(lab.nonces[session], JTI)))
    lab.feed(MessagesReceived(session, [said]))
    assert isinstance(lab.take(session, Welcome), Welcome)
    for _ in range(1000):
        replay = lab.connect()
        lab.feed(MessagesReceived(replay, [said]))
        assert lab.closed[replay] == REPLAYED
    assert session not in lab.closed, "the device itself is not disturbed"


def test_a_server_that_asks_for_no_proof_takes_no_bound_token() -> None:
    lab = Lab(proof=False)
    session = greet(lab, lambda nonce: PHONE.options(nonce, JTI))
    assert lab.nonces == {}
    assert lab.closed == {session: REPLAYED}
    free = greet(lab, lambda nonce: {}, token("alice", "phone"))
    assert isinstance(lab.take(free, Welcome), Welcome)


@pytest.mark.parametrize(
    "cnf",
    [
        None, {}, [], "x", 7, True, {"jkt": None}, {"jkt": 7}, {"jkt": ""}, {"jkt": "A" * 42}, {"jkt": "A" * 44},
        {"jkt": "A" * 42 + "="}, {"jkt": "A" * 42 + "\n"}, {"jkt": ["A" * 43]}, {"jkt": "Ä" * 43},
        {"jkt": PHONE.public.thumbprint, "x5t#S256": "A" * 43}, {"jwk": {"kty": "EC"}}, {"kid": "phone"},
        {"JKT": PHONE.public.thumbprint},
    ],
)  # fmt: skip
def test_a_binding_that_is_not_understood_is_no_token(cnf: Any) -> None:
    lab = Lab()
    session = greet(lab, lambda nonce: PHONE.options(nonce, JTI), bound(cnf=cnf))
    assert lab.closed == {session: BAD_TOKEN}


def test_a_fresh_token_for_the_key_that_was_proven_is_accepted() -> None:
    lab = Lab()
    session = proven(lab)
    lab.send(session, frames.Auth(bound(jti="t-2", ttl_s=7200)))
    lab.advance(3601)
    assert session not in lab.closed


@pytest.mark.parametrize("key", [THIEF, None])
def test_a_fresh_token_for_a_key_that_was_not_proven_is_not(key: DeviceKey | None) -> None:
    lab = Lab()
    session = proven(lab) if key else lab.hello()
    lab.send(session, frames.Auth(bound(key or PHONE, jti="t-2")))
    assert lab.closed == {session: REPLAYED}


def test_a_token_without_a_key_can_be_used_until_it_expires() -> None:
    lab = Lab()
    free = token("alice", "phone", ttl_s=100)
    for _ in range(3):
        session = greet(lab, lambda nonce: {}, free)
        assert isinstance(lab.take(session, Welcome), Welcome)
    lab.advance(101)
    assert lab.closed[greet(lab, lambda nonce: {}, free)] == (4401, Code.TOKEN_EXPIRED)


def test_the_signed_bytes_are_what_the_protocol_says() -> None:
    assert signed_bytes(NONCE, JTI) == b"syncline.proof.v1\0" + NONCE + b"t-1"
    assert proves(PHONE.options(NONCE, JTI), PHONE.public.thumbprint, JTI, NONCE)
