"""What an app hands in wrongly is named where it does, and leaves the device as it was."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from inspect import isawaitable
from typing import Any

import pytest

from client_sim import AsyncDevice, AsyncDocument, DeviceEnded, DeviceKey, State
from tests.support import wait_until

NOWHERE = "ws://127.0.0.1:1/v1/sync"


@pytest.mark.parametrize(
    ("argument", "value", "error"),
    [
        ("url", None, TypeError),
        ("token", None, TypeError),
        ("device", None, TypeError),
        ("device", "", ValueError),
        ("device", "alice/phone", ValueError),
        ("store", 7, TypeError),
        ("store", ["phone.db"], TypeError),
        ("store", "", ValueError),
        ("store_key", "a password", TypeError),
        ("store_key", bytes(32), ValueError),  # nothing is kept that it could encrypt
        ("cache_bytes_max", "1 MB", TypeError),
        ("cache_bytes_max", True, TypeError),
        ("key", "a key", TypeError),
        ("policy", 7, TypeError),
        ("policy", "fast", ValueError),
        ("latency_s", "30", TypeError),
        ("latency_s", float("nan"), ValueError),
        ("on_change", "print", TypeError),
        ("on_status", asyncio.sleep, TypeError),  # nobody would await it
        ("platform", 7, TypeError),
        ("version", None, TypeError),
        ("dial", None, TypeError),
    ],
)
def test_of_a_device(argument: str, value: Any, error: type[Exception]) -> None:
    options: dict[str, Any] = {"url": NOWHERE, "token": "t", "device": "phone"} | {argument: value}
    with pytest.raises(error, match=rf"^{argument} "):
        AsyncDevice(options.pop("url"), **options)


Call = Callable[[Any], Any]


@pytest.mark.parametrize(
    ("argument", "call"),
    [
        ("name", lambda phone: phone.open(None)),
        ("max_stale_s", lambda phone: phone.open("main", max_stale_s="60")),
        ("within_s", lambda phone: phone.open("main", wait=True, within_s="60")),
        ("names", lambda phone: phone.prefetch("main")),
        ("names", lambda phone: phone.prefetch(None)),
        ("each of names", lambda phone: phone.prefetch(["main", None])),
        ("name", lambda phone: phone.pin(None)),
        ("name", lambda phone: phone.unpin(7)),
        ("name", lambda phone: phone.close(None)),
        ("name", lambda phone: phone.status_of(None)),
        ("name", lambda phone: phone.current_at(None)),
        ("name", lambda phone: phone.network(7)),
        ("policy", lambda phone: phone.set_policy(7)),
        ("within_s", lambda phone: phone.background_sync("25", 200_000)),
        ("bytes_max", lambda phone: phone.background_sync(25, None)),
        ("within_s", lambda phone: phone.wait_durable("10")),
        ("within_s", lambda phone: phone.wait_current("10")),
    ],
)
async def test_of_a_devices_methods(argument: str, call: Call) -> None:
    async with AsyncDevice(NOWHERE, token="t", device="phone") as phone:
        await _raises_type_error(argument, call, phone)
        notes = await phone.open()
        notes.edit(lambda roots: roots.text("body").append("it works on"))
        assert notes.text("body") == "it works on"


@pytest.mark.parametrize(
    ("argument", "call"),
    [
        ("change", lambda notes: notes.edit(None)),
        ("change", lambda notes: notes.edit(asyncio.sleep)),
        ("root", lambda notes: notes.text(None)),
        ("root", lambda notes: notes.map(7)),
        ("root", lambda notes: notes.list(None)),
        ("payload", lambda notes: notes.set_presence("here")),
        ("within_s", lambda notes: notes.wait_fresh("10")),
    ],
)
async def test_of_a_document(argument: str, call: Call) -> None:
    async with AsyncDevice(NOWHERE, token="t", device="phone") as phone:
        notes: AsyncDocument = await phone.open()
        await _raises_type_error(argument, call, notes)
        assert not notes.pending


async def _raises_type_error(argument: str, call: Call, on: object) -> None:
    with pytest.raises(TypeError, match=rf"^{argument} "):
        await _result(call(on))


async def _result(given: object) -> None:
    if isawaitable(given):
        await given


async def no_token(device: str) -> None:
    """As a login page that has forgotten its `return`."""


@pytest.mark.parametrize(
    ("source", "came"), [(lambda device: "a token", "str"), (lambda device: None, "NoneType"), (no_token, "NoneType")]
)
async def test_a_token_function_that_gives_none_says_what_it_gave(source: Any, came: str) -> None:
    async with AsyncDevice(NOWHERE, token=source, device="phone") as phone:
        await wait_until(lambda: phone.status.reason == "no_token", within_s=5)
        assert phone.status.state is State.OFFLINE
        assert f"token has to be an async function that returns a str; what came is {came}" in str(phone.status)


def test_of_a_key() -> None:
    with pytest.raises(TypeError, match=r"^private "):
        DeviceKey("a key")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "use",
    [
        lambda phone: phone.status,
        lambda phone: phone.pending,
        lambda phone: phone.cache,
        lambda phone: phone.name,
        lambda phone: phone.status_of("main"),
        lambda phone: phone.flush(),
        lambda phone: phone.prefetch(["main"]),
    ],
)
def test_a_device_that_is_not_in_its_block_says_so(use: Call) -> None:
    with pytest.raises(DeviceEnded, match="not inside its block"):
        use(AsyncDevice(NOWHERE, token="t", device="phone"))


@pytest.mark.parametrize(
    ("argument", "change"),
    [
        ("name", lambda roots: roots.text(None)),
        ("name", lambda roots: roots.map(7)),
        ("name", lambda roots: roots.list(None)),
        ("value", lambda roots: roots.text("body").append(7)),
        ("value", lambda roots: roots.text("body").insert(0, None)),
        ("an index", lambda roots: roots.text("body").insert("0", "x")),
        ("an index", lambda roots: roots.text("body").delete(0, None)),
        ("an index", lambda roots: roots.list("list").delete("0")),
        ("update", lambda roots: roots.apply("update")),
    ],
)
async def test_of_what_an_edit_does(argument: str, change: Call) -> None:
    async with AsyncDevice(NOWHERE, token="t", device="phone") as phone:
        notes = await phone.open()
        await _raises_type_error(argument, lambda document: document.edit(change), notes)
        assert not notes.pending
