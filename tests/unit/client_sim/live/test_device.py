"""Devices over real sockets."""

from __future__ import annotations

import asyncio
import shutil
import ssl
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

from client_sim.core.ports import StoreError
from client_sim.live import (
    AsyncDevice,
    AsyncDocument,
    Blocked,
    DeviceEnded,
    LoginRefused,
    NotOpen,
    Problem,
    State,
    Status,
)
from crdt.protocol.frames import DeviceFrame, Hello, Push
from tests.support import wait_until
from tests.unit.client_sim.fake_server import FakeServer, Session
from tests.unit.client_sim.live.socket_server import serving
from tests.unit.client_sim.rig import Rig

NOWHERE = "ws://127.0.0.1:1/v1/sync"


async def test_the_example_of_the_readme(tmp_path: Path) -> None:
    async with (
        serving(FakeServer()) as server,
        AsyncDevice(server.url, token="token", device="phone", store=tmp_path / "phone.db") as phone,
    ):
        notes = await phone.open("main")
        notes.edit(lambda roots: roots.text("body").append("Hello"))
        await notes.wait_durable()
        assert notes.values() == {"body": "Hello"}
        assert phone.user == "alice"
        assert phone.status == Status(State.CURRENT)


async def test_two_devices_see_each_other() -> None:
    async with (
        serving(FakeServer()) as server,
        AsyncDevice(server.url, token="t", device="phone") as phone,
        AsyncDevice(server.url, token="t", device="laptop") as laptop,
    ):
        one, two = await phone.open(), await laptop.open()
        await one.wait_current(within_s=5)
        await two.wait_current(within_s=5)
        one.edit(lambda roots: roots.text("body").append("a"))
        await laptop.wait(lambda: two.text("body") == "a", within_s=5)
        two.edit(lambda roots: roots.text("body").insert(1, "b"))
        await phone.wait(lambda: one.text("body") == "ab", within_s=5)
        one.set_presence(b"here")
        await laptop.wait(lambda: two.peers == {"alice/phone": b"here"}, within_s=5)


async def test_offline_edits_survive_the_process_and_arrive_later(tmp_path: Path) -> None:
    core = FakeServer()
    async with AsyncDevice(NOWHERE, token="t", device="phone", store=tmp_path / "phone.db") as phone:
        notes = await phone.open()
        notes.edit(lambda roots: roots.text("body").append("offline"))
        assert notes.pending.count == 1
        with pytest.raises(TimeoutError):
            await notes.wait_durable(within_s=0.01)
    async with (
        serving(core) as server,
        AsyncDevice(server.url, token="t", device="phone", store=tmp_path / "phone.db") as phone,
    ):
        notes = await phone.open()
        assert notes.text("body") == "offline"
        await notes.wait_current(within_s=5)
    assert core.room("main").replica.values() == {"body": "offline"}


async def test_what_was_typed_before_a_document_was_closed_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "phone.db"
    async with AsyncDevice(NOWHERE, token="token", device="phone", store=path) as phone:
        note = await phone.open("note")
        note.edit(lambda roots: roots.text("body").append("typed"))
        note.close()
        assert phone.pending.count == 1
        with pytest.raises(TimeoutError):
            await phone.wait_durable(within_s=0.05)
    fake = FakeServer()
    async with serving(fake) as server, AsyncDevice(server.url, token="t", device="phone", store=path) as phone:
        assert phone.pending.count == 1
        await phone.wait_durable(within_s=5)
        assert not phone.pending
        assert fake.room("note").replica.values() == {"body": "typed"}


async def test_an_object_of_a_document_that_is_closed_says_so_and_works_when_it_is_open_again() -> None:
    async with AsyncDevice(NOWHERE, token="token", device="phone") as phone:
        former = await phone.open("note")
        former.edit(lambda roots: roots.text("body").append("a"))
        waiting = asyncio.create_task(former.wait_durable())
        await asyncio.sleep(0)
        former.close()
        with pytest.raises(NotOpen, match="note is not open"):
            await waiting
        for use in (former.values, former.close, former.unblock, lambda: former.status, lambda: former.pending):
            with pytest.raises(NotOpen):
                use()
        present = await phone.open("note")
        former.edit(lambda roots: roots.text("body").append("b"))
        assert present.text("body") == former.text("body") == "ab"
        for document in (former, present):
            with pytest.raises(TimeoutError):
                await document.wait_durable(within_s=0.05)


async def test_either_name_opens_and_closes_a_document_of_the_users_own() -> None:
    async with serving(FakeServer()) as server, AsyncDevice(server.url, token="t", device="phone") as phone:
        heard: list[AsyncDocument] = []
        early = await phone.open("alice/main")
        early.edit(lambda roots: roots.text("body").append("a"))
        await phone.wait_durable(within_s=5)
        assert early.name == "main"
        assert await phone.open("main") is await phone.open("alice/main") is early
        phone.on_change = heard.append
        early.edit(lambda roots: roots.text("body").append("b"))
        assert heard == [early]
        phone.close("alice/main")
        with pytest.raises(NotOpen):
            phone.close("main")


async def test_a_closed_connection_comes_back() -> None:
    async with serving(FakeServer()) as server, AsyncDevice(server.url, token="t", device="phone") as phone:
        notes = await phone.open()
        await notes.wait_current(within_s=5)
        await server.close_all(1012, "shutting_down")
        await phone.wait(lambda: phone.status.state is State.OFFLINE, within_s=5)
        notes.edit(lambda roots: roots.text("body").append("x"))
        phone.reconnect()
        await notes.wait_durable(within_s=5)
        assert phone.counters.connections == 2


async def test_an_expired_token_is_fetched_anew_and_a_refused_login_blocks() -> None:
    tokens = ["first", "second"]

    async def fetch(device: str) -> str:
        assert device == "phone"
        if not tokens:
            raise LoginRefused("log in again")
        return tokens.pop(0)

    seen: list[str] = []

    def script(session: Session, frame: DeviceFrame) -> bool:
        if isinstance(frame, Hello):
            seen.append(frame.token)
        return False

    core = FakeServer()
    core.script = script
    async with serving(core) as server, AsyncDevice(server.url, token=fetch, device="phone") as phone:
        notes = await phone.open()
        await notes.wait_current(within_s=5)
        await server.close_all(4401, "token_expired")
        await phone.wait(lambda: phone.counters.connections == 2, within_s=5)
        await notes.wait_current(within_s=5)
        assert seen == ["first", "second"]
        await server.close_all(4401, "token_expired")
        await phone.wait(lambda: phone.status.state is State.BLOCKED, within_s=5)
        with pytest.raises(Blocked, match="expired_login"):
            await notes.wait_current(within_s=5)


async def cancelled_work() -> str:
    """What a source gets that awaits a task of the app, which somebody has cancelled."""
    work = asyncio.create_task(asyncio.Event().wait())
    work.cancel()
    await work
    raise AssertionError("it was cancelled")


async def lone_surrogate() -> str:
    return "\ud800"


@pytest.mark.parametrize("first", [cancelled_work, lone_surrogate])
async def test_a_token_that_is_none_is_asked_for_again(first: Callable[[], Awaitable[str]]) -> None:
    problems: list[Problem] = []
    answers = [first]

    async def fetch(device: str) -> str:
        return await answers.pop()() if answers else "t"

    async with (
        serving(FakeServer()) as server,
        AsyncDevice(server.url, token=fetch, device="phone", on_error=problems.append) as phone,
    ):
        await (await phone.open()).wait_current(within_s=5)
    assert [problem.code for problem in problems] == ["token_failed"]


@pytest.mark.parametrize("failure", [OSError("no network"), ValueError("a login page is no JSON")])
async def test_a_token_source_that_fails_is_asked_again(failure: Exception) -> None:
    problems: list[Problem] = []
    calls = []

    async def fetch(device: str) -> str:
        calls.append(device)
        if len(calls) == 1:
            raise failure
        return "t"

    async with (
        serving(FakeServer()) as server,
        AsyncDevice(server.url, token=fetch, device="phone", on_error=problems.append) as phone,
    ):
        await (await phone.open()).wait_current(within_s=5)
    assert calls == ["phone", "phone"]
    assert [(problem.code, problem.message) for problem in problems] == [
        ("token_failed", f"{type(failure).__name__}: {failure}")
    ]


async def test_the_app_is_told() -> None:
    changes: list[str] = []
    statuses: list[tuple[str | None, State]] = []
    problems: list[Problem] = []

    def script(session: Session, frame: DeviceFrame) -> bool:
        if isinstance(frame, Push):
            session.refuse(frame, "bad_update", "never")
        return isinstance(frame, Push)

    def on_status(document: AsyncDocument | None, status: Status) -> None:
        statuses.append((document.name if document else None, status.state))

    core = FakeServer()
    core.script = script
    async with (
        serving(core) as server,
        AsyncDevice(
            server.url,
            token="t",
            device="phone",
            on_change=lambda document: changes.append(document.name),
            on_status=on_status,
            on_error=problems.append,
        ) as phone,
    ):
        notes = await phone.open()
        await notes.wait_current(within_s=5)
        notes.edit(lambda roots: roots.text("body").append("x"))
        with pytest.raises(Blocked, match="bad_update"):
            await notes.wait_durable(within_s=5)
        await phone.wait(lambda: len(notes.aside) == 1, within_s=5)
        assert changes[0] == "main"
        assert [problem.code for problem in problems] == ["bad_update"]
        assert ("main", State.CURRENT) in statuses
        assert (None, State.CURRENT) in statuses
        core.script = None
        notes.unblock()
        await notes.wait_current(within_s=5)
        notes.close()


async def test_an_edit_inside_a_callback_goes_out_after_what_caused_it() -> None:
    def echo(document: AsyncDocument) -> None:
        if len(document.text("body")) < 5:
            document.edit(lambda roots: roots.text("body").append("x"))

    core = FakeServer()
    async with (
        serving(core) as server,
        AsyncDevice(server.url, token="t", device="phone", on_change=echo) as phone,
    ):
        notes = await phone.open()
        await notes.wait_current(within_s=5)
        notes.edit(lambda roots: roots.text("body").append("x"))
        await notes.wait_durable(within_s=5)
    assert core.room("main").replica.values() == {"body": "xxxxx"}
    assert len(core.room("main").log) == 5


async def test_what_a_callback_raises_ends_the_block() -> None:
    def broken(document: AsyncDocument) -> None:
        raise KeyError("the app's mistake")

    core = FakeServer()
    async with serving(core) as server, AsyncDevice(server.url, token="t", device="writer") as writer:
        draft = await writer.open()

        async def use_phone() -> None:
            async with AsyncDevice(server.url, token="t", device="phone", on_change=broken) as phone:
                await (await phone.open()).wait_current(within_s=5)
                draft.edit(lambda roots: roots.text("body").append("x"))
                await asyncio.Event().wait()

        with pytest.raises(KeyError, match="the app's mistake"):
            await use_phone()


async def test_what_a_callback_raises_does_not_come_out_of_the_edit_that_was_made_and_goes() -> None:
    told = []

    def broken(document: AsyncDocument) -> None:
        told.append(document.text("body"))
        raise KeyError("the app's mistake")

    core = FakeServer()
    async with serving(core) as server:

        async def use_phone() -> None:
            async with AsyncDevice(server.url, token="t", device="phone") as phone:
                notes = await phone.open()
                await notes.wait_current(within_s=5)
                phone.on_change = broken
                notes.edit(lambda roots: roots.text("body").append("x"))
                told.append("made")
                await asyncio.Event().wait()

        with pytest.raises(KeyError, match="the app's mistake"):
            await use_phone()
        assert told == ["x", "made"]
        await wait_until(lambda: core.room("main").replica.values() == {"body": "x"})


async def test_a_callback_that_raises_at_the_start_leaves_the_store_unlocked(tmp_path: Path) -> None:
    def broken(document: AsyncDocument | None, status: Status) -> None:
        raise KeyError("the app's mistake")

    async def use_phone() -> None:
        async with AsyncDevice(NOWHERE, token="t", device="phone", store=tmp_path / "phone.db", on_status=broken):
            await asyncio.Event().wait()

    with pytest.raises(KeyError, match="the app's mistake"):
        await use_phone()
    async with AsyncDevice(NOWHERE, token="t", device="phone", store=tmp_path / "phone.db"):
        pass


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("latency_s", -1.0),
        ("latency_s", float("nan")),
        ("policy", "fast"),
        ("cache_bytes_max", -5),
        ("cache_bytes_max", float("nan")),
    ],
)
def test_an_option_that_is_none_is_named_before_anything_is_opened(tmp_path: Path, option: str, value: Any) -> None:
    with pytest.raises(ValueError, match=option):
        AsyncDevice(NOWHERE, token="t", device="phone", store=tmp_path / "phone.db", **{option: value})
    assert not [*tmp_path.iterdir()]


async def test_a_store_has_one_device_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "phone.db"
    async with AsyncDevice(NOWHERE, token="t", device="phone", store=path):
        with pytest.raises(StoreError):
            async with AsyncDevice(NOWHERE, token="t", device="phone", store=path):
                pass
    async with AsyncDevice(NOWHERE, token="t", device="phone", store=path):
        pass


async def test_nothing_runs_on_after_the_block() -> None:
    async with serving(FakeServer()) as server:
        before = asyncio.all_tasks()
        async with AsyncDevice(server.url, token="t", device="phone") as phone:
            await (await phone.open()).wait_current(within_s=5)
        await wait_until(lambda: not server.sockets)
        await wait_until(lambda: asyncio.all_tasks() == before)


async def test_who_still_waits_when_the_block_is_left_is_told() -> None:
    async with AsyncDevice(NOWHERE, token="t", device="phone") as phone:
        notes = await phone.open()
        notes.edit(lambda roots: roots.text("body").append("x"))
        waiting = [asyncio.create_task(wait()) for wait in (notes.wait_durable, phone.wait_current)]
        await asyncio.sleep(0)
    for waiter in waiting:
        with pytest.raises(DeviceEnded):
            await asyncio.wait_for(waiter, 5)


async def test_what_the_body_raises_comes_out_as_it_is() -> None:
    mistake = ValueError("the app's")
    mistake.__cause__ = KeyError("its cause")

    async def use_phone() -> None:
        async with AsyncDevice(NOWHERE, token="t", device="phone"):
            raise mistake

    with pytest.raises(ValueError, match="the app's") as raised:
        await use_phone()
    assert raised.value is mistake
    assert isinstance(mistake.__cause__, KeyError)


async def test_two_failures_at_once_are_a_group() -> None:
    def broken(document: AsyncDocument | None, status: Status) -> None:
        if status.state is State.OFFLINE and document is None and status.reason:
            raise KeyError("the callback's")

    async def use_phone() -> None:
        async with AsyncDevice(NOWHERE, token="t", device="phone", on_status=broken):
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                raise ValueError("the body's") from None

    with pytest.raises(ExceptionGroup) as raised:
        await use_phone()
    assert raised.group_contains(KeyError)
    assert raised.group_contains(ValueError)


async def test_what_a_callback_raises_is_not_taken_for_a_lost_connection() -> None:
    def broken(document: AsyncDocument | None, status: Status) -> None:
        if document is not None and status.state is State.SYNCING:
            raise OSError("the app's disk")

    async def use_phone(url: str) -> None:
        async with AsyncDevice(url, token="t", device="phone", on_status=broken) as phone:
            await phone.open()
            await asyncio.Event().wait()

    async with serving(FakeServer()) as server:
        with pytest.raises(OSError, match="the app's disk"):
            await use_phone(server.url)


# --- why it is offline


async def reason_of(url: str) -> str:
    """What a device that can not reach `url` says."""
    reasons: list[str] = []

    def on_status(document: AsyncDocument | None, status: Status) -> None:
        if document is None and status.state is State.OFFLINE and status.detail:
            reasons.append(status.detail)

    async with AsyncDevice(url, token="t", device="phone", on_status=on_status) as phone:
        await phone.wait(lambda: bool(reasons), within_s=5)
        assert phone.counters.connections == 0
    return reasons[0]


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        (NOWHERE, "ConnectionRefusedError"),
        ("http://127.0.0.1:1/v1/sync", "scheme isn't ws or wss"),
        ("ws://127.0.0.1:99999/", "Port out of range"),
        ("ws://[::1", "Invalid IPv6 URL"),
        ("", "valid URI"),
        (f"ws://{'x' * 70}.invalid/", "label"),
    ],
)
async def test_an_address_where_nobody_is_says_so(url: str, reason: str) -> None:
    assert reason in await reason_of(url)


async def test_a_server_that_speaks_something_else_says_so() -> None:
    async def not_found(connection: ServerConnection, request: Request) -> Response:
        return connection.respond(HTTPStatus.NOT_FOUND, "no such place")

    async def handle(connection: ServerConnection) -> None:
        await connection.wait_closed()

    async with serve(handle, "127.0.0.1", 0, process_request=not_found) as server:
        port = server.sockets[0].getsockname()[1]
        assert "HTTP 404" in await reason_of(f"ws://127.0.0.1:{port}/wrong")


async def test_a_certificate_of_nobody_known_says_so(tmp_path: Path) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(self_signed(tmp_path / "server.pem"))

    async def handle(connection: ServerConnection) -> None:
        await connection.wait_closed()

    async with serve(handle, "127.0.0.1", 0, ssl=tls) as server:
        port = server.sockets[0].getsockname()[1]
        assert "CERTIFICATE_VERIFY_FAILED" in await reason_of(f"wss://127.0.0.1:{port}/v1/sync")


def self_signed(path: Path) -> Path:
    """A certificate and its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    validity = (datetime(2020, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC))
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), *validity)
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(pem + builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    return path


async def test_a_close_is_a_reason_until_the_next_connection() -> None:
    async with serving(FakeServer()) as server, AsyncDevice(server.url, token="t", device="phone") as phone:
        await (await phone.open()).wait_current(within_s=5)
        assert phone.status == Status(State.CURRENT)
        await server.close_all(1013, "overloaded")
        await phone.wait(
            lambda: phone.status == Status(State.OFFLINE, "come_back_later", "closed with 1013: overloaded"), within_s=5
        )
        await phone.wait(lambda: phone.status == Status(State.CURRENT), within_s=5)


async def test_an_app_can_go_offline_and_come_back() -> None:
    core = FakeServer()
    async with serving(core) as server, AsyncDevice(server.url, token="t", device="phone") as phone:
        notes = await phone.open()
        await notes.wait_current(within_s=5)
        phone.disconnect()
        assert phone.status == Status(State.OFFLINE)
        await wait_until(lambda: not server.sockets)
        notes.edit(lambda roots: roots.text("body").append("x"))
        assert notes.pending.count == 1
        phone.disconnect()
        phone.connect()
        phone.connect()
        await notes.wait_durable(within_s=5)
        assert phone.counters.connections == 2
    assert core.room("main").replica.values() == {"body": "x"}


async def test_a_token_that_was_asked_for_before_is_waited_for_no_longer() -> None:
    asked: list[asyncio.Event] = []

    async def fetch(device: str) -> str:
        asked.append(asyncio.Event())
        if len(asked) == 1:
            await asked[0].wait()
        return "t"

    async with (
        asyncio.timeout(5),
        serving(FakeServer()) as server,
        AsyncDevice(server.url, token=fetch, device="phone") as phone,
    ):
        notes = await phone.open()
        await phone.wait(lambda: phone.status.state is State.CONNECTING)
        await wait_until(lambda: len(asked) == 1)
        phone.disconnect()
        phone.connect()
        await notes.wait_current()


# --- clones


async def test_a_copied_store_takes_a_name_and_a_token_of_its_own(tmp_path: Path) -> None:
    asked: list[str] = []

    async def fetch(device: str) -> str:
        asked.append(device)
        return f"token of {device}"

    original, copy = tmp_path / "phone.db", tmp_path / "restored.db"
    core = FakeServer()
    async with serving(core) as server:
        async with AsyncDevice(server.url, token=fetch, device="phone", store=original) as phone:
            notes = await phone.open()
            notes.edit(lambda roots: roots.text("body").append("<both>"))
            await notes.wait_durable(within_s=5)
        shutil.copy(original, copy)
        async with AsyncDevice(server.url, token=fetch, device="phone", store=original) as phone:
            notes = await phone.open()
            notes.edit(lambda roots: roots.text("body").append("<old>"))
            await notes.wait_durable(within_s=5)
            assert phone.name == "phone"
        async with AsyncDevice(server.url, token=fetch, device="phone", store=copy) as phone:
            notes = await phone.open()
            notes.edit(lambda roots: roots.text("body").append("<new>"))
            await notes.wait_durable(within_s=5)
            assert phone.name.startswith("phone-")
            assert asked[-1] == phone.name
            assert all(word in notes.text("body") for word in ("<both>", "<old>", "<new>"))
            name = phone.name
        async with AsyncDevice(server.url, token=fetch, device="phone", store=copy) as phone:
            assert phone.name == name


async def test_a_clone_with_a_token_for_the_old_name_alone_is_blocked_and_keeps_its_edits() -> None:
    core = FakeServer()
    problems: list[Problem] = []
    async with (
        serving(core) as server,
        AsyncDevice(server.url, token="t", device="phone", on_error=problems.append) as phone,
    ):
        notes = await phone.open()
        await notes.wait_current(within_s=5)
        phone.disconnect()
        Rig(core, seed=9).start().type("theirs").settle()  # another store of the same device
        notes.edit(lambda roots: roots.text("body").append("mine"))
        phone.connect()
        with pytest.raises(Blocked, match=r"the device is blocked \(device_forked: the token is for phone"):
            await notes.wait_durable(within_s=5)
        assert (notes.text("body"), notes.pending.count) == ("mine", 1)
        assert f"this device is {phone.name} since" in problems[-1].message


async def test_a_documents_first_status_is_its_own() -> None:
    told: list[tuple[str | None, str]] = []

    def on_status(document: AsyncDocument | None, status: Status) -> None:
        told.append((document.name if document else None, str(status.state)))

    async with AsyncDevice(NOWHERE, token="t", device="phone", on_status=on_status) as phone:
        phone.disconnect()
        del told[:]
        await phone.open("one")
        assert told == [("one", "offline")]
        with pytest.raises(ValueError, match="no name"):
            await phone.open("no name")
        with pytest.raises(NotOpen):
            phone.close("no name")
        assert told == [("one", "offline")]
