"""Devices over real sockets against the whole server: edits arrive everywhere, a reconnect costs what is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from client_sim.live import AsyncDocument, Roots
from crdt.protocol.frames import Hello, Mode, Nonce, Opened, Welcome
from tests.integration.server_peers import (
    WITHIN_S,
    Tap,
    check_gapless,
    converged,
    new_device,
    put,
    stored,
    tapped,
    write,
)
from tests.server_fixture import make_token, running_server

NAMES = ("main", "notes", "todo", "drafts")
FRAME_BYTES_MAX = 80
"""What HELLO without its token, WELCOME and OPENED may each cost in an up-to-date reconnect."""


async def test_two_devices_of_a_user_see_each_others_edits_of_every_kind(tmp_path: Path) -> None:
    async with (
        running_server(tmp_path) as server,
        new_device(server.url, "phone") as phone,
        new_device(server.url, "laptop") as laptop,
    ):
        mine, theirs = await phone.open(), await laptop.open()
        await converged(mine, theirs, to={})
        write(mine, "Grüße 👋")
        put(theirs, "nested", {"list": [1, None, "x"], "on": True})
        mine.edit(lambda roots: roots.array("items").extend(["a", "b", "c"]))
        items = ["a", "b", "c"]
        await converged(mine, theirs, to={
            "body": "Grüße 👋", "data": {"nested": {"list": [1, None, "x"], "on": True}}, "items": items,
        })  # fmt: skip
        theirs.edit(_rework)
        await converged(mine, theirs, to={"body": "Grüße", "data": {"n": 1.5}, "items": ["c", "d"]})


def _rework(roots: Roots) -> None:
    """Deletes and inserts in all kinds of roots, in one edit."""
    roots.text("body").delete(5, 7)
    del roots.map("data")["nested"]
    roots.map("data")["n"] = 1.5
    del roots.array("items")[0:2]
    roots.array("items").append("d")


async def test_documents_of_a_device_are_kept_apart(tmp_path: Path) -> None:
    async with (
        running_server(tmp_path) as server,
        new_device(server.url, "phone") as phone,
        new_device(server.url, "laptop") as laptop,
        new_device(server.url, "phone", user="bob") as stranger,
    ):
        main, notes = await phone.open("main"), await phone.open("notes")
        write(main, "in main")
        write(notes, "in notes")
        await converged(main, await laptop.open("alice/main"), to={"body": "in main"})
        await converged(notes, await laptop.open("notes"), to={"body": "in notes"})
        await converged(await stranger.open("main"), to={})


async def test_a_cold_start_to_several_documents_takes_one_round_trip(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        async with new_device(server.url, "laptop") as laptop:
            for name in NAMES:
                write(await laptop.open(name), f"text of {name}")
            for name in NAMES:
                await (await laptop.open(name)).wait_durable(WITHIN_S)
        async with tapped(server.url) as tap, new_device(tap.url, "phone") as phone:
            documents = [await phone.open(name) for name in NAMES]
            for name, document in zip(NAMES, documents, strict=True):
                await converged(document, to={"body": f"text of {name}"})
            assert [type(frame) for frame in tap.frames_up] == [Hello]
            assert [type(frame) for frame in tap.frames_down] == [Nonce, Welcome, *[Opened] * len(NAMES)]


async def test_an_up_to_date_reconnect_costs_some_tens_of_bytes(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, tapped(server.url) as tap:
        token, store = make_token("alice", "phone"), tmp_path / "phone.db"
        async with (
            new_device(tap.url, "phone", token=token, store=store) as phone,
            new_device(server.url, "laptop") as laptop,
        ):
            mine, theirs = await phone.open(), await laptop.open()
            for n in range(200):
                write(mine if n % 2 else theirs, f"line {n} of many\n")
            mine.edit(lambda roots: roots.text("body").delete(0, 1000))
            await converged(mine, theirs)
        tap.forget()
        async with new_device(tap.url, "phone", token=token, store=store) as phone:
            await (await phone.open()).wait_current(WITHIN_S)
            assert phone.counters.catch_ups == {"current": 1}
        _check_cost(tap, token)


def _check_cost(tap: Tap, token: str) -> None:
    (hello,), (nonce, welcome, opened) = tap.up, tap.down
    assert [type(frame) for frame in tap.frames_down] == [Nonce, Welcome, Opened]
    assert [frame.mode for frame in tap.of(Opened)] == [Mode.CURRENT]
    assert max(len(hello) - len(token), len(nonce), len(welcome), len(opened)) <= FRAME_BYTES_MAX


async def test_a_returning_device_is_sent_what_it_missed_and_no_more(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, tapped(server.url) as tap:
        async with new_device(tap.url, "phone", store=tmp_path / "phone.db") as phone:
            mine = await phone.open()
            write(mine, "history " * 5000)
            await mine.wait_durable(WITHIN_S)
        async with new_device(server.url, "laptop") as laptop:
            theirs = await laptop.open()
            await theirs.wait_current(WITHIN_S)
            theirs.edit(lambda roots: roots.text("body").delete(0, len("history ")))
            await theirs.wait_durable(WITHIN_S)
            tap.forget()
            async with new_device(tap.url, "phone", store=tmp_path / "phone.db") as phone:
                await converged(await phone.open(), theirs)
                assert phone.counters.catch_ups == {"tail": 1}
        assert sum(map(len, tap.down)) < 2 * FRAME_BYTES_MAX


# --- offline


@pytest.mark.parametrize("first", ["phone", "laptop"])
async def test_what_both_wrote_offline_is_merged_in_whatever_order_they_return(tmp_path: Path, first: str) -> None:
    stores = {name: tmp_path / f"{name}.db" for name in ("phone", "laptop")}
    async with running_server(tmp_path) as server:
        url, port = server.url, server.address[1]
        async with (
            new_device(url, "phone", store=stores["phone"]) as phone,
            new_device(url, "laptop", store=stores["laptop"]) as laptop,
        ):
            write(await phone.open(), "Shopping:")
            await converged(await phone.open(), await laptop.open(), to={"body": "Shopping:"})
    for name, store in stores.items():
        async with new_device(url, name, store=store) as device:
            _write_offline(name, await device.open())
    async with running_server(tmp_path, port=port):
        second = "laptop" if first == "phone" else "phone"
        async with new_device(url, first, store=stores[first]) as early:
            one = await early.open()
            await one.wait_current(WITHIN_S)
            async with new_device(url, second, store=stores[second]) as late:
                two = await late.open()
                await converged(one, two)
                values = one.values()
    assert values["data"] == {"phone": 1, "laptop": 1, "both": values["data"]["both"]}
    assert values["data"]["both"] in ("phone", "laptop")
    assert sorted(values["items"]) == ["laptop", "phone"]
    assert values["body"] in ("Shopping: phone laptop", "Shopping: laptop phone")
    ops = check_gapless(await stored(tmp_path / "syncline.db", "alice/main"))
    assert ops == {"alice/phone": 2, "alice/laptop": 1}, "what was written offline is one op"


def _write_offline(name: str, document: AsyncDocument) -> None:
    assert document.text("body") == "Shopping:"
    write(document, f" {name}")
    put(document, name, 1)
    put(document, "both", name)
    document.edit(lambda roots: roots.array("items").append(name))
    assert document.pending.count == 4
