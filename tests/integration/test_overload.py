"""Devices that ask for too much, and too many devices at once: others do not notice, and nothing is kept of it."""

from __future__ import annotations

import asyncio
import os
from math import inf
from pathlib import Path
from random import Random

import pytest

from crdt.protocol.codes import Code
from crdt.protocol.frames import Error, Hello, Open, Opened, Ping, Pong, Push
from tests.integration.honest_process import ATTEMPTS, P99_S_MAX, honest_pair, measured
from tests.integration.server_peers import WITHIN_S, new_device, raw_member, raw_socket, stored, write
from tests.integration.server_process import server_process
from tests.integration.storm_process import storm
from tests.server_fixture import make_token

SOAK = bool(os.environ.get("SYNCLINE_SOAK"))
FLOOD = 8_000
STORM = 5_000 if SOAK else 500
MIB = 1 << 20


def unfounded(count: int) -> list[bytes]:
    """Tiny updates, each on top of a client that nobody has."""
    return [
        bytes.fromhex("0101") + _client(number) + bytes.fromhex("0084c0843d000161") + b"\0" for number in range(count)
    ]


def _client(number: int) -> bytes:
    """A varint of three bytes."""
    number += 1 << 14
    return bytes((number & 127 | 128, number >> 7 & 127 | 128, number >> 14))


# --- a flood


@pytest.mark.parametrize("document", ["honest/main", "mallory/main"])
@pytest.mark.parametrize("how", ["one by one", "the same number again", "at once"])
async def test_a_flood_of_updates_that_nobody_can_place(tmp_path: Path, document: str, how: str) -> None:
    flood = unfounded(FLOOD)
    assert sum(map(len, flood)) < 172_000
    token = make_token("mallory", "raw", docs={"honest/main": "rw"})
    async with server_process(tmp_path) as server:
        async with honest_pair(server.url) as honest:
            refused: list[int] = []

            async def attack() -> None:
                async with raw_member(server.url, document, user="mallory", token=token) as (mallory, opened):
                    sending = asyncio.create_task(mallory.send(*_pushes(how, opened.handle, flood), Ping(7)))
                    errors, answered = 0, False
                    while not (errors and answered):
                        frame = await mallory.receive()
                        answered = answered or isinstance(frame, Pong)
                        if isinstance(frame, Error):
                            assert frame.code == Code.MISSING_DEPS
                            errors += 1
                    await sending
                    refused.append(errors)

            cost = await measured(server, honest, attack)
            cost.check(f"flood {how}, {document}", grown_bytes_max=32 * MIB)
            assert refused[0] == (FLOOD if how == "the same number again" else 1)
            async with new_device(server.url, "late", user="honest") as late:
                await (await late.open()).wait_current(WITHIN_S)
        await server.kill()
        found = await stored(server.database, document)
        assert all(entry.device.user == "honest" for entry in found.entries)


def _pushes(how: str, handle: int, flood: list[bytes]) -> list[Push]:
    match how:
        case "one by one":
            return [Push(handle, op, (update,)) for op, update in enumerate(flood, 1)]
        case "the same number again":
            return [Push(handle, 1, (update,)) for update in flood]
        case _:
            return [Push(handle, 1, tuple(flood))]


# --- too many questions


async def test_many_questions_about_a_large_document_delay_their_sender(tmp_path: Path) -> None:
    rng = Random(1)
    text = "".join(rng.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(900_000))
    async with server_process(tmp_path) as server, honest_pair(server.url) as honest:
        async with new_device(server.url, "phone") as phone:
            document = await phone.open()
            write(document, text)
            await document.wait_durable(WITHIN_S)

        async def attack() -> None:
            async with raw_socket(server.url) as raw:
                await raw.send(Hello(1, make_token("alice", "raw"), "raw", "raw/1", {"deflate": True}))
                sending = asyncio.create_task(raw.send(*(Open(n, "main", None, b"\0") for n in range(1, 501))))
                opened = 0
                while opened < 20:
                    opened += isinstance(await raw.receive(), Opened)
                sending.cancel()

        cost = await measured(server, honest, attack)
        cost.check("500 OPENs of a large document", grown_bytes_max=128 * MIB)


# --- too many at once


async def test_a_storm_of_hellos_is_let_in_by_turns_and_who_is_in_does_not_notice(tmp_path: Path) -> None:
    arguments = ("--hello-timeout-s", "120", "--unverified-max", "6000", "--overload-spread-s", "4")
    async with server_process(tmp_path, arguments=arguments) as server, honest_pair(server.url) as honest:
        p99_s = inf
        for attempt in range(ATTEMPTS):
            async with storm(server.address, STORM, Open(1, "main", None, b"\0"), first=attempt * STORM) as devices:
                await honest.delays()
                greeted = await devices.hello()
                p99_s = min(p99_s, (await honest.delays()).p99_s)
                print(greeted, f"p99 {p99_s * 1000:.0f} ms")  # noqa: T201
                assert greeted.let_in + greeted.sent_away == STORM
                if p99_s < P99_S_MAX:
                    assert greeted.let_in > 0
                    assert await devices.return_all() == greeted.sent_away, "all are in in the end"
                    break
        assert p99_s < P99_S_MAX
