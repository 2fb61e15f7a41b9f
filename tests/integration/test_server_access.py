"""Who may do what, for how long: grants and the token's end, over real sockets."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from client_sim.live import Blocked
from crdt.ids import DocumentId
from crdt.protocol.frames import Ack, Audit, Auth, Delta, Error, Expiring, Open, Ping, Pong, Push, Resync
from tests.integration.server_peers import (
    WITHIN_S,
    RawDevice,
    check_gapless,
    converged,
    new_device,
    raw_device,
    raw_member,
    text_updates,
    write,
)
from tests.server_fixture import RunningServer, make_token, running_server

TTL_S = 2.0
CLOSED_WITHIN_S = 1.0
SHARED = "alice/shared"
READ = {SHARED: "r"}
WRITE = {SHARED: "rw"}


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[RunningServer]:
    async with running_server(tmp_path) as running:
        yield running


# --- the token's end


async def test_a_connection_ends_with_its_token_unless_a_fresh_one_came(server: RunningServer) -> None:
    expires_s = time.time() + TTL_S
    short = [make_token("alice", name, exp=expires_s) for name in ("careless", "careful")]
    async with (
        raw_device(server.url, name="careless", token=short[0]) as careless,
        raw_device(server.url, name="careful", token=short[1]) as careful,
    ):
        for raw in (careless, careful):
            assert (await raw.expect(Expiring)).seconds <= TTL_S
        await careful.send(Auth(make_token("alice", "careful")))
        error = await careless.expect(Error)
        assert (error.code, error.retry) == ("token_expired", "after_auth")
        assert await careless.closed_with() == (4401, "token_expired")
        assert expires_s <= time.time() <= expires_s + CLOSED_WITHIN_S
        await _is_in_touch(careful)


async def _is_in_touch(raw: RawDevice) -> None:
    await raw.send(Ping(7))
    assert (await raw.expect(Pong)).n == 7


async def test_a_device_gets_fresh_tokens_in_time_and_never_drops(server: RunningServer) -> None:
    fetched: list[float] = []

    async def fetch(device: str) -> str:
        fetched.append(time.time())
        return make_token("alice", device, ttl_s=1.0)

    async with new_device(server.url, token=fetch) as phone:
        document = await phone.open()
        await phone.wait(lambda: len(fetched) == 3, WITHIN_S)
        assert fetched[2] > fetched[0] + 1.0, "the first token is over"
        write(document, "still here")
        await document.wait_durable(WITHIN_S)
        assert phone.counters.connections == 1


async def test_a_token_that_is_over_or_not_ours_opens_nothing(server: RunningServer) -> None:
    bad = {
        "over": make_token("alice", "phone", ttl_s=-1),
        "another device's": make_token("alice", "laptop"),
        "another issuer's": make_token("alice", "phone", iss="someone"),
        "unsigned": make_token("alice", "phone")[:-5],
    }
    for what, token in bad.items():
        with pytest.raises(AssertionError, match="token_expired" if what == "over" else "bad_token"):
            async with raw_device(server.url, name="phone", token=token):
                pytest.fail(what)


# --- grants


@asynccontextmanager
async def _shared_document(server: RunningServer) -> AsyncIterator[None]:
    async with new_device(server.url) as phone:
        document = await phone.open("shared")
        write(document, "alice's")
        await document.wait_durable(WITHIN_S)
        yield


async def test_a_reader_sees_edits_and_makes_none(server: RunningServer) -> None:
    async with (
        new_device(server.url, "phone") as phone,
        new_device(server.url, "tablet", user="bob", docs=READ) as tablet,
    ):
        mine, theirs = await phone.open("shared"), await tablet.open(SHARED)
        write(mine, "for all to read")
        await converged(mine, theirs, to={"body": "for all to read"})
        write(theirs, ", not to write")
        with pytest.raises(Blocked, match="forbidden"):
            await theirs.wait_durable(WITHIN_S)
        write(mine, "!")
        await tablet.wait(lambda: "!" in theirs.text("body"), WITHIN_S)
        assert theirs.pending.count == 1
        async with new_device(server.url, "laptop") as laptop:
            await converged(mine, await laptop.open("shared"), to={"body": "for all to read!"})


async def test_a_readers_push_is_refused_whatever_its_software_says(server: RunningServer) -> None:
    token = make_token("bob", "raw", docs=READ)
    async with _shared_document(server), raw_member(server.url, SHARED, user="bob", token=token) as (raw, opened):
        await raw.send(Push(opened.handle, 1, tuple(text_updates(99, ["mine now", "!"]))))
        error = await raw.expect(Error)
        assert (error.code, error.handle, error.detail) == ("forbidden", opened.handle, {"op": 1})
        await _is_in_touch(raw)
    assert check_gapless(await server.storage.load(DocumentId.parse(SHARED))) == {"alice/phone": 1}


async def test_a_writer_by_grant_writes(server: RunningServer) -> None:
    async with (
        new_device(server.url, "phone") as phone,
        new_device(server.url, "tablet", user="bob", docs=WRITE) as tablet,
    ):
        mine, theirs = await phone.open("shared"), await tablet.open(SHARED)
        write(theirs, "bob's")
        await converged(mine, theirs, to={"body": "bob's"})


async def test_other_users_documents_are_forbidden_whether_they_exist_or_not(server: RunningServer) -> None:
    names = (SHARED, "alice/main", "alice/nothing", "alice/../bob", "", "/", "a/b/c", "alice/shared/", "ALICE/shared")
    async with _shared_document(server):
        opens = [Open(ref, name, None, b"\0") for ref, name in enumerate(names, 1)]
        async with raw_device(server.url, *opens, user="eve") as raw:
            errors = [await raw.expect(Error) for _ in names]
            assert [(error.ref, error.code, error.handle) for error in errors] == [
                (ref, "forbidden", None) for ref in range(1, len(names) + 1)
            ]
            assert errors[0].message == errors[1].message == errors[2].message, "nothing tells which ones exist"
            await _is_in_touch(raw)


async def test_a_handle_that_was_not_given_here_is_of_no_use(server: RunningServer) -> None:
    async with raw_member(server.url, "shared") as (_, opened), raw_device(server.url, user="eve") as eve:
        handle, updates = opened.handle, tuple(text_updates(99, ["eve was here"]))
        for frame in (Push(handle, 1, updates), Resync(handle, None, b"\0"), Audit(handle, 0, bytes(16))):
            await eve.send(frame)
            assert (await eve.expect(Error)).code == "forbidden"
        await _is_in_touch(eve)


async def test_a_grant_ends_with_the_token_that_took_it_away(server: RunningServer) -> None:
    token, poorer = make_token("bob", "raw", docs=WRITE), make_token("bob", "raw")
    async with (
        new_device(server.url, "phone") as phone,
        raw_member(server.url, SHARED, user="bob", token=token) as (raw, opened),
    ):
        mine = await phone.open("shared")
        write(mine, "before")
        assert isinstance(await raw.receive(), Delta)
        await raw.send(Auth(poorer))
        error = await raw.expect(Error)
        assert (error.code, error.handle) == ("forbidden", opened.handle)
        write(mine, " after")
        await mine.wait_durable(WITHIN_S)
        await _is_in_touch(raw)
        await raw.send(Push(opened.handle, 1, tuple(text_updates(99, ["late"]))))
        assert (await raw.expect(Error)).code == "forbidden"
        await raw.send(Open(2, SHARED, None, b"\0"))
        assert (await raw.expect(Error)).ref == 2
        await converged(mine, to={"body": "before after"})


async def test_from_writing_to_reading_by_a_token(server: RunningServer) -> None:
    token = make_token("bob", "raw", docs=WRITE)
    updates = text_updates(99, ["yes", " no"])
    async with (
        new_device(server.url, "phone") as phone,
        raw_member(server.url, SHARED, user="bob", token=token) as (raw, opened),
    ):
        mine = await phone.open("shared")
        await mine.wait_current(WITHIN_S)
        await raw.send(Push(opened.handle, 1, (updates[0],)))
        assert (await raw.expect(Ack)).op == 1
        await raw.send(Auth(make_token("bob", "raw", docs=READ)), Push(opened.handle, 2, (updates[1],)))
        assert (await raw.expect(Error)).detail == {"op": 2}
        write(mine, "!")
        assert isinstance(await raw.receive(), Delta)
        await converged(mine)
        assert sorted(mine.text("body")) == sorted("yes!")


async def test_another_users_token_on_a_live_socket_closes_it(server: RunningServer) -> None:
    async with raw_member(server.url) as (raw, _):
        await raw.send(Auth(make_token("bob", "raw")))
        assert (await raw.expect(Error)).code == "bad_token"
        assert await raw.closed_with() == (4401, "bad_token")


async def test_a_newer_connection_of_a_device_takes_over(server: RunningServer) -> None:
    async with raw_member(server.url) as (older, _), raw_member(server.url) as (newer, _):
        assert (await older.expect(Error)).code == "superseded"
        assert await older.closed_with() == (4409, "superseded")
        await _is_in_touch(newer)
    async with new_device(server.url, "raw") as first:
        await (await first.open()).wait_current(WITHIN_S)
        async with new_device(server.url, "raw") as second:
            await (await second.open()).wait_current(WITHIN_S)
            await first.wait(lambda: first.status.state == "blocked", WITHIN_S)
            assert first.status.reason == "superseded"
            first.reconnect()
            await second.wait(lambda: second.status.state == "blocked", WITHIN_S)
