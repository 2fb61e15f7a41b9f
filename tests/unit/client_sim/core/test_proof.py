"""Proof of possession, the device's side: which HELLO waits for a nonce, and what it then says."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from itertools import count

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from client_sim.core import events
from client_sim.core.keepalive import OPTION_QUIET, QUIET_S
from client_sim.core.status import Link, State, Status
from client_sim.live.keys import DeviceKey
from crdt.protocol.frames import Auth, Error, GoAway, Hello, Nonce, Welcome
from crdt.protocol.proof import PublicKey, signed_bytes
from tests.unit.client_sim.fake_server import FakeServer
from tests.unit.client_sim.rig import Rig

KEY = DeviceKey.generate()
NONCES = [bytes([number]) * 16 for number in range(3)]


def token(**claims: object) -> str:
    payload = urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    return f"e30.{payload}.c2ln"


BOUND = token(jti="token-1", cnf={"jkt": KEY.thumbprint})


def rig_with(key: DeviceKey | None, bearer: str = BOUND) -> Rig:
    """A device whose socket is up, and to which the server has said nothing."""
    rig = Rig(FakeServer(), key=key)
    rig.token = bearer
    return rig.begin()


def say(rig: Rig, frame: Nonce | Welcome | Error | GoAway) -> Rig:
    assert rig.session is not None
    rig.session.send(frame)
    rig.deliver_down()
    return rig


def last_hello(rig: Rig) -> Hello:
    hello = rig.frames(Hello)[-1]
    assert isinstance(hello, Hello)
    return hello


def verify(hello: Hello, nonce: bytes, jti: str) -> PublicKey:
    """As a server does it. Raises InvalidSignature."""
    key = PublicKey.read(hello.options["key"])
    numbers = ec.EllipticCurvePublicNumbers(int.from_bytes(key.x, "big"), int.from_bytes(key.y, "big"), ec.SECP256R1())
    r, s = (int.from_bytes(part, "big") for part in (hello.options["proof"][:32], hello.options["proof"][32:]))
    assert len(hello.options["proof"]) == 64
    numbers.public_key().verify(encode_dss_signature(r, s), signed_bytes(nonce, jti), ec.ECDSA(hashes.SHA256()))
    return key


def test_a_bound_token_waits_for_the_nonce_and_is_proved() -> None:
    rig = rig_with(KEY)
    assert not rig.sent
    assert rig.device.status.state is State.CONNECTING
    say(rig, Nonce(NONCES[0]))
    key = verify(last_hello(rig), NONCES[0], "token-1")
    assert key.thumbprint == KEY.thumbprint
    assert last_hello(rig).options["deflate"] is True
    assert rig.settle().device.status.state is State.CURRENT


def test_a_proof_is_for_one_nonce_and_one_token() -> None:
    rig = rig_with(KEY)
    hello = last_hello(say(rig, Nonce(NONCES[0])))
    for nonce, jti in ((NONCES[1], "token-1"), (NONCES[0], "token-2")):
        with pytest.raises(InvalidSignature):
            verify(hello, nonce, jti)


def test_each_connection_has_its_own_proof() -> None:
    rig = rig_with(KEY)
    for nonce in NONCES:
        hello = last_hello(say(rig, Nonce(nonce)))
        verify(hello, nonce, "token-1")
        rig.settle().lose().wait()


@pytest.mark.parametrize(
    ("key", "bearer"),
    [
        (None, BOUND),
        (KEY, token(jti="token-1")),
        (KEY, token(jti="token-1", cnf={"kid": "1"})),
        (KEY, token(jti="token-1", cnf="jkt")),
        (KEY, token(cnf={"jkt": KEY.thumbprint})),
        (KEY, "token"),
        (KEY, "a.b.c"),
        (KEY, "e30.\u00e9.c2ln"),
        (KEY, "e30." + urlsafe_b64encode(b"[" * 5000).decode() + ".c2ln"),
        (KEY, "e30." + urlsafe_b64encode(b"[]").decode() + ".c2ln"),
    ],
    ids=count(),
)
def test_without_a_key_or_a_bound_token_hello_goes_at_once(key: DeviceKey | None, bearer: str) -> None:
    rig = rig_with(key, bearer)
    assert last_hello(rig).options == {"deflate": True, OPTION_QUIET: QUIET_S}
    say(rig, Nonce(NONCES[0]))
    assert len(rig.frames(Hello)) == 1
    assert rig.settle().device.status.state is State.CURRENT


def test_without_a_nonce_hello_goes_without_a_proof_soon() -> None:
    rig = rig_with(KEY).wait()
    assert 1 <= rig.now <= 2
    assert last_hello(rig).options == {"deflate": True, OPTION_QUIET: QUIET_S}
    say(rig, Nonce(NONCES[0]))  # too late
    assert len(rig.frames(Hello)) == 1
    assert rig.settle().device.status.state is State.CURRENT


@pytest.mark.parametrize("earlier", [0, 1])
def test_a_nonce_that_came_too_late_is_not_held_against_the_token(earlier: int) -> None:
    rig = rig_with(KEY)
    for _ in range(earlier):  # connections on which all went well
        say(rig, Nonce(NONCES[0])).settle().lose().wait()
    rig.wait().lose(4401, "replayed").wait()
    assert rig.device.link is Link.UPGRADED
    verify(last_hello(say(rig, Nonce(NONCES[1]))), NONCES[1], "token-1")
    assert rig.settle().device.status.state is State.CURRENT


def test_a_bound_token_in_the_middle_of_a_connection_without_proof_is_proved_on_the_next() -> None:
    """The server can not take it here, and there is nothing wrong with it."""
    rig = rig_with(KEY, token(jti="unbound")).settle()
    rig.feed(events.TokenFetched("phone", BOUND))
    assert rig.sent[-1] == Auth(BOUND)
    rig.token = BOUND
    rig.lose(4401, "replayed").wait()
    verify(last_hello(say(rig, Nonce(NONCES[0]))), NONCES[0], "token-1")
    assert rig.settle().device.status.state is State.CURRENT


def test_a_token_whose_proof_was_refused_once_a_nonce_came_is_refused() -> None:
    rig = rig_with(KEY).wait().lose(4401, "replayed").wait()
    say(rig, Nonce(NONCES[1])).lose(4401, "replayed").wait()
    assert rig.device.status.state is State.BLOCKED


@pytest.mark.parametrize("key", [None, KEY])
def test_a_replayed_token_is_fetched_anew(key: DeviceKey | None) -> None:
    rig = rig_with(key)
    if key:
        say(rig, Nonce(NONCES[0]))
    rig.lose(4401, "replayed")
    assert rig.device.link is Link.WAITING
    rig.token = fresh = token(jti="token-2", cnf={"jkt": KEY.thumbprint})
    rig.wait()
    if key:
        verify(last_hello(say(rig, Nonce(NONCES[1]))), NONCES[1], "token-2")
    assert last_hello(rig).token == fresh
    assert rig.settle().device.status.state is State.CURRENT


@pytest.mark.parametrize("key", [None, KEY])
def test_a_replayed_token_that_is_all_there_is_blocks(key: DeviceKey | None) -> None:
    rig = say(rig_with(key), Nonce(NONCES[0])).lose(4401, "replayed").wait()
    assert rig.device.status == Status(State.BLOCKED, "expired_login")


def test_what_the_server_says_instead_of_a_nonce_counts() -> None:
    rig = rig_with(KEY)
    say(rig, Error(None, None, "overloaded", "", "later", 5000))
    rig.lose(1013, "overloaded").wait()
    assert rig.now >= 5


def test_a_welcome_before_hello_is_not_the_protocol() -> None:
    rig = say(rig_with(KEY), Welcome(1, "s", "alice", 0, {}, 0, 0))
    assert rig.device.link is Link.WAITING


def test_a_device_can_be_stopped_while_it_waits_for_the_nonce() -> None:
    rig = rig_with(KEY)
    rig.feed(events.Stopped())
    assert (rig.device.link, rig.session) == (Link.IDLE, None)
