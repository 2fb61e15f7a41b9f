"""Stolen, forged and replayed tokens over real sockets: each refused with its code, and none of them in a log."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random
from types import SimpleNamespace

import msgpack
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from crdt.protocol import codec
from crdt.protocol.frames import PATH, PROTOCOL_VERSION, SUBPROTOCOL, Ack, Auth, Error, Hello, Nonce, Open, Opened, Push
from server.runtime import driver
from tests.device_key import DeviceKey
from tests.integration.server_peers import RawDevice, raw_device, raw_socket, text_updates
from tests.log_watch import remember_token
from tests.server_fixture import RunningServer, make_token, running_server
from tests.unit.server.core.test_auth import BAD_TOKENS, NOW_S, authority, having

REPLAYS = 1_000
AT_ONCE = 50
PAIRS = 1_000 if os.environ.get("SYNCLINE_SOAK") else 100
TOKEN_BYTES = 8192


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[RunningServer]:
    async with running_server(tmp_path) as running:
        yield running


@pytest.fixture
async def elsewhen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[RunningServer]:
    """A server that trusts the keys of the table of bad tokens, at the time for which they were made."""
    monkeypatch.setattr(driver, "time", SimpleNamespace(time=lambda: NOW_S))
    async with running_server(tmp_path, authority=authority()) as running:
        yield running


# --- bad tokens


async def test_every_bad_token_is_refused_with_its_code_and_not_logged(
    elsewhen: RunningServer,
) -> None:
    """The logs of all these servers are watched for what `remember_token` is told."""
    tokens = {name: remember_token(make()) for name, (make, _) in BAD_TOKENS.items()}
    for name, token in tokens.items():
        code = "too_big" if len(token) > TOKEN_BYTES else BAD_TOKENS[name][1]
        if token.isascii():
            assert await _answer_to(elsewhen, token) == (code, 4413 if code == "too_big" else 4401), name
    assert await _answer_to(elsewhen, remember_token(having())) is None
    assert elsewhen.metric("syncline_refused_total", {"code": "bad_token"}) > 100


async def _answer_to(server: RunningServer, token: str) -> tuple[str, int | None] | None:
    """The code and close code that HELLO with this token gets; None if it is let in."""
    async with raw_socket(server.url) as raw:
        await raw.say(msgpack.packb([Hello.TYPE, PROTOCOL_VERSION, token, "phone", "test", {}, []]))
        frame = await raw.receive()
        if not isinstance(frame, Error):
            return None
        with pytest.raises(ConnectionClosed):
            await raw.receive()
        return frame.code, raw.close[0]


async def test_a_bad_token_in_the_header_is_refused_as_well(elsewhen: RunningServer) -> None:
    for name in ("alg none", "another secret", "expired long ago", "another audience", "sub is not ASCII"):
        make, code = BAD_TOKENS[name]
        async with connect(
            elsewhen.url, subprotocols=[Subprotocol(SUBPROTOCOL)], compression=None, proxy=None,
            additional_headers={"Authorization": f"Bearer {make()}"},
        ) as socket:  # fmt: skip
            raw = RawDevice(socket)
            await raw.send(Hello(PROTOCOL_VERSION, "", "phone", "test"))
            assert (await raw.expect(Error)).code == code


# --- whose documents


async def test_no_pair_of_token_and_document_crosses_users(server: RunningServer) -> None:
    random = Random(22)
    users = ["alice", "bob", "alice.", "a"]
    for number in range(PAIRS):
        user, owner = random.choice(users), random.choice(users)
        granted = {f"{random.choice(users)}/main": random.choice(["r", "rw"]) for _ in range(random.randrange(3))}
        expected = "rw" if owner == user else granted.get(f"{owner}/main")
        name = f"d{number}"
        token = make_token(user, name, docs=granted)
        opens = Open(1, f"{owner}/main", None, b"\0")
        async with raw_device(server.url, opens, user=user, name=name, token=token) as raw:
            answer = await raw.receive()
            if expected is None:
                assert isinstance(answer, Error)
                assert answer.code == "forbidden"
                continue
            assert isinstance(answer, Opened)
            assert answer.access == expected
            await raw.send(Push(answer.handle, answer.acked_op + 1, tuple(text_updates(1000 + number, ["x"]))))
            assert isinstance(await raw.receive(), Ack if expected == "rw" else Error)


# --- proof of possession


async def test_the_nonce_comes_with_the_answer_to_the_upgrade(server: RunningServer) -> None:
    reader, writer = await asyncio.open_connection(*server.address)
    writer.write(
        f"GET {PATH} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
    )
    head, _, frames = (await reader.read(65536)).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 ")
    assert frames[:2] == bytes((0x82, len(frames) - 2))
    assert isinstance(codec.decode_server_frame(frames[2:]), Nonce)
    assert len(frames) == 22
    writer.close()


async def test_handshakes_that_were_overheard_are_worth_nothing(server: RunningServer) -> None:
    key = DeviceKey()
    token = make_token("alice", "phone", cnf=key.bound, jti="t-1")
    async with raw_socket(server.url) as phone:
        options = key.options(await phone.nonce(), "t-1")
        said = codec.encode(Hello(PROTOCOL_VERSION, token, "phone", "test", options, (Open(1, "main", None, b"\0"),)))
        await phone.say(said)
        await phone.receive()
        opened = await phone.expect(Opened)
        answers = []
        for _ in range(REPLAYS // AT_ONCE):
            answers += await asyncio.gather(*(_replay(server, said) for _ in range(AT_ONCE)))
        assert answers == [(["replayed"], 4401)] * REPLAYS
        await phone.send(Push(opened.handle, 1, tuple(text_updates(7, ["still here"]))))
        assert (await phone.expect(Ack)).op == 1


async def _replay(server: RunningServer, said: bytes) -> tuple[list[str], int | None]:
    async with raw_socket(server.url) as thief:
        await thief.say(said)
        frames = await thief.rest()
        return [frame.code for frame in frames if isinstance(frame, Error)], thief.close[0]


async def test_a_bound_token_is_renewed_on_the_connection_that_proved_the_key(server: RunningServer) -> None:
    key = DeviceKey()
    async with raw_socket(server.url) as phone:
        options = key.options(await phone.nonce(), "t-1")
        await phone.send(
            Hello(PROTOCOL_VERSION, make_token("alice", "phone", cnf=key.bound, jti="t-1"), "phone", "test", options)
        )
        await phone.receive()
        await phone.send(Auth(make_token("alice", "phone", cnf=key.bound, jti="t-2")))
        await phone.send(Auth(make_token("alice", "phone", cnf=DeviceKey().bound, jti="t-3")))
        assert (await phone.expect(Error)).code == "replayed"
        assert await phone.closed_with() == (4401, "replayed")
