"""The device for plain threads."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from inspect import signature
from pathlib import Path
from typing import Any

import pytest

from client_sim import (
    AsyncDevice,
    AsyncDocument,
    Blocked,
    Device,
    DeviceEnded,
    Document,
    LoginRefused,
    Outcome,
    State,
    Status,
)
from client_sim.live.blocking import Options
from tests.unit.client_sim.fake_server import FakeServer
from tests.unit.client_sim.live.socket_server import serving

NOWHERE = "ws://127.0.0.1:1/v1/sync"


class Place:
    """A fake server in a thread of its own."""

    def __init__(self) -> None:
        self.core = FakeServer()
        self.url = ""
        self._up = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))

    async def _serve(self) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        async with serving(self.core) as server:
            self.url = server.url
            self._up.set()
            await self._over.wait()

    def start(self) -> Place:
        self._thread.start()
        assert self._up.wait(10)
        return self

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(10)


@pytest.fixture
def place() -> Iterator[Place]:
    place = Place().start()
    yield place
    place.stop()


def test_two_devices_in_threads_have_the_same(place: Place, tmp_path: Path) -> None:
    changed = threading.Event()
    with (
        Device(place.url, token="t", device="phone", store=tmp_path / "phone.db") as phone,
        Device(place.url, token=lambda device: "t", device="laptop", on_change=lambda _: changed.set()) as laptop,
    ):
        one, two = phone.open(), laptop.open()
        two.wait_current(within_s=10)
        one.edit(lambda roots: roots.text("body").append("from a thread"))
        one.edit(lambda roots: roots.list("list").append(1))
        one.wait_durable(within_s=10)
        assert not one.pending
        assert changed.wait(10)
        two.wait_current(within_s=10)
        assert (phone.status, phone.user, phone.pending.count) == (Status(State.CURRENT), "alice", 0)
        assert (one.text("body"), one.list("list"), one.map("map")) == ("from a thread", [1], {})
    assert place.core.room("main").replica.values() == {"body": "from a thread", "list": [1]}


def test_presence_and_background_sync(place: Place) -> None:
    seen: list[tuple[str, bytes | None]] = []
    told = threading.Event()

    def on_presence(document: Document, device: str, payload: bytes | None) -> None:
        seen.append((device, payload))
        told.set()

    with (
        Device(place.url, token="t", device="phone") as phone,
        Device(place.url, token="t", device="laptop", on_presence=on_presence) as laptop,
    ):
        one, two = phone.open(), laptop.open()
        two.wait_current(10)
        one.wait_current(10)
        one.set_presence(b"here")
        assert told.wait(10)
        assert seen == [("alice/phone", b"here")]
        phone.suspend()
        one.edit(lambda roots: roots.text("body").append("x"))
        assert phone.background_sync(within_s=10.0, bytes_max=100_000).outcome is Outcome.DONE
        assert phone.status.reason == "suspended"
        phone.resume()
        phone.wait_current(10)


def test_errors_come_out_where_they_are_waited_for() -> None:
    def refuse(device: str) -> str:
        raise LoginRefused("log in")

    with Device(NOWHERE, token=refuse, device="phone") as phone:
        document = phone.open()
        with pytest.raises(Blocked, match="expired_login"):
            document.wait_current(10)
        with pytest.raises(ZeroDivisionError):
            document.edit(lambda roots: 1 / 0)
        with pytest.raises(ValueError, match="not a document"):
            phone.open("no name")
    with pytest.raises(DeviceEnded):
        phone.open()


def test_what_a_callback_raises_comes_out_of_the_block() -> None:
    ended = threading.Event()

    def broken(document: Document) -> None:
        ended.set()
        raise KeyError("the app's")

    def use() -> None:
        with Device(NOWHERE, token="t", device="phone", on_change=broken) as phone:
            phone.open().edit(lambda roots: roots.text("body").append("x"))
            assert ended.wait(10)

    with pytest.raises(KeyError):
        use()


def test_a_callback_can_not_wait_for_itself() -> None:
    waited: list[type[BaseException]] = []

    def impatient(document: Document) -> None:
        try:
            document.wait_durable()
        except RuntimeError as exc:
            waited.append(type(exc))
        assert document.text("body") == "x"

    with Device(NOWHERE, token="t", device="phone", on_change=impatient) as phone:
        phone.open().edit(lambda roots: roots.text("body").append("x"))
    assert waited == [RuntimeError]


def test_a_store_that_is_in_use_is_an_error_at_the_start(tmp_path: Path) -> None:
    with Device(NOWHERE, token="t", device="phone", store=tmp_path / "phone.db"):
        second = Device(NOWHERE, token="t", device="phone", store=tmp_path / "phone.db")
        with pytest.raises(Exception, match=r"phone\.db"):
            second.__enter__()


DRIVER = {"feed", "core_of", "key_of"}
"""What documents and the driver need of an AsyncDevice; not for apps."""


def _public(kind: type) -> set[str]:
    return {name for name in dir(kind) if not name.startswith("_")}


@pytest.mark.parametrize(("asynchronous", "blocking"), [(AsyncDevice, Device), (AsyncDocument, Document)])
def test_threads_have_all_that_an_event_loop_has(asynchronous: type, blocking: type) -> None:
    assert _public(asynchronous) - DRIVER <= _public(blocking)


def test_the_options_are_those_of_the_other_one() -> None:
    named = set(signature(Device.__init__).parameters) - {"options"}
    assert named | set(Options.__annotations__) == set(signature(AsyncDevice.__init__).parameters)


def test_a_method_says_what_its_twin_says() -> None:
    assert Device.prefetch.__doc__ == AsyncDevice.prefetch.__doc__
    assert signature(Device.background_sync) == signature(AsyncDevice.background_sync)


def test_what_is_kept_and_how_fresh_it_is(place: Place) -> None:
    with Device(place.url, token="t", device="writer") as writer:
        writer.open("later").edit(lambda roots: roots.text("body").append("x"))
        writer.wait_durable(within_s=10)
    with Device(place.url, token="t", device="phone") as phone:
        document = phone.open(max_stale_s=60, wait=True, within_s=10)
        assert (document.stale, document.aside, document.max_stale_s) == (False, [], 60)
        document.wait_fresh(within_s=10)
        phone.prefetch(["later"])
        phone.wait(lambda: phone.cache.as_of("later") is not None, within_s=10)
        phone.pin("later")
        assert phone.cache.is_pinned("later")
        phone.unpin("later")
        assert not phone.cache.is_pinned("later")
        assert phone.status_of("main") == document.status
        assert document.as_of is not None
        assert document.version() == {}
        document.audit()
        phone.disconnect()
        phone.reconnect()
        phone.wait_current(within_s=10)


@pytest.mark.parametrize(
    ("argument", "options"),
    [
        ("url", {"url": None}),
        ("token", {"token": None}),
        ("token", {"token": asyncio.sleep}),
        ("device", {"device": 7}),
        ("on_change", {"on_change": "print"}),
        ("on_error", {"on_error": asyncio.sleep}),
        ("store", {"store": 7}),
    ],
)
def test_a_wrong_argument_is_named_before_the_block(argument: str, options: dict[str, Any]) -> None:
    given: dict[str, Any] = {"url": NOWHERE, "token": "t", "device": "phone"} | options
    with pytest.raises(TypeError, match=f"^{argument} "):
        Device(given.pop("url"), **given)


def test_it_is_told_of_all_that_happens_from_the_first_status_on() -> None:
    told: list[tuple[str | None, State]] = []
    with Device(
        NOWHERE,
        token="t",
        device="phone",
        on_status=lambda document, status: told.append((document.name if document else None, status.state)),
    ) as phone:
        phone.open("one")
    assert told[:2] == [(None, State.OFFLINE), (None, State.CONNECTING)]
    assert ("one", State.OFFLINE) in told


def test_a_device_that_is_up_is_not_entered_again() -> None:
    with Device(NOWHERE, token="t", device="phone") as phone:
        with pytest.raises(RuntimeError, match="entered already"):
            phone.__enter__()
        assert phone.open("one").edit(lambda roots: roots.text("body").append("still up")) is None


async def test_an_asynchronous_one_is_not_either() -> None:
    async with AsyncDevice(NOWHERE, token="t", device="phone") as phone:
        with pytest.raises(RuntimeError, match="entered already"):
            await phone.__aenter__()
        (await phone.open("one")).edit(lambda roots: roots.text("body").append("still up"))
