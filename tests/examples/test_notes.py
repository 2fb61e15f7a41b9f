"""Two notes apps side by side, on a real server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import Static

from client_sim import AsyncDevice, StoreError
from client_sim.store import SqliteStore
from examples.notes.__main__ import main
from examples.notes.app import NotesApp, Settings
from examples.notes.splice import Splice, difference, location
from tests.server_fixture import make_token, running_server
from tests.support import wait_until


def apply(text: str, splice: Splice | None) -> str:
    return text if splice is None else text[: splice.start] + splice.insert + text[splice.stop :]


@pytest.mark.parametrize("seed", range(50))
def test_a_difference_makes_the_new_text_of_the_old(seed: int) -> None:
    rng = Random(seed)
    old, new = ("".join(rng.choices("ab\n", k=rng.randrange(8))) for _ in range(2))
    assert apply(old, difference(old, new)) == new


def test_what_was_typed_moves_over_what_others_did() -> None:
    shadow = "one two three"
    typed = difference(shadow, "one two four")
    others = difference(shadow, "zero one two three")
    assert typed is not None
    assert others is not None
    assert apply(apply(shadow, others), typed.moved_over(others)) == "zero one two four"


def test_locations_are_rows_and_columns() -> None:
    assert [location("ab\nc", index) for index in range(5)] == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]


class Terminal:
    """One app, and somebody in front of it."""

    def __init__(self, app: NotesApp, pilot: Pilot[Any]) -> None:
        self.app = app
        self._pilot = pilot

    @property
    def text(self) -> str:
        return self.app.area.text

    @property
    def status(self) -> str:
        return str(self.app.status_line.render())

    @property
    def titles(self) -> list[str]:
        return [str(item.query_one(Static).render()) for item in self.app.list_view.children]

    async def press(self, *keys: str) -> None:
        await self._pilot.press(*keys)

    async def open_first(self) -> None:
        view = self.app.list_view
        view.focus()
        view.index = 0
        await self.press("enter")
        self.app.area.focus()
        await self._pilot.pause()


@asynccontextmanager
async def terminal(url: str, folder: Path, name: str) -> AsyncIterator[Terminal]:
    app = NotesApp(Settings(url, make_token("alice", name), name, folder / f"{name}.db"))
    async with app.run_test(size=(110, 20)) as pilot:
        shown = Terminal(app, pilot)
        await wait_until(lambda: app.notebook is not None)
        yield shown
        await pilot.press("f10")


async def test_two_apps_show_each_others_notes_offline_and_on(tmp_path: Path) -> None:
    async with (
        running_server(tmp_path) as server,
        terminal(server.url, tmp_path, "phone") as phone,
        terminal(server.url, tmp_path, "laptop") as laptop,
    ):
        await wait_until(lambda: "current" in phone.status and "current" in laptop.status)
        await phone.press("f2", *"Milk", "enter", *"eggs")
        await wait_until(lambda: laptop.titles == ["Milk"])
        await laptop.open_first()
        assert laptop.text == "Milk\neggs"
        await wait_until(lambda: "alice/laptop reads 'Milk'" in phone.status)

        await phone.press("f4", *"!")
        await wait_until(lambda: "offline, as you wish" in phone.status and "1 edits wait" in phone.status)
        await laptop.press("up", "home", *"My", "space")
        assert laptop.text == "My Milk\neggs"
        assert phone.text == "Milk\neggs!"

        await phone.press("f4")
        await wait_until(lambda: phone.text == laptop.text == "My Milk\neggs!")
        await phone.press("?")  # the cursor is still where it was: at the end
        await wait_until(lambda: laptop.text == "My Milk\neggs!?")


async def test_notes_are_there_without_a_server(tmp_path: Path) -> None:
    nowhere = "ws://127.0.0.1:1/v1/sync"
    async with terminal(nowhere, tmp_path, "phone") as phone:
        await phone.press("f2", *"kept")
        await wait_until(lambda: phone.titles == ["kept"])
    async with terminal(nowhere, tmp_path, "phone") as phone:
        await wait_until(lambda: phone.titles == ["kept"])
        assert "edits wait" in phone.status
        assert phone.app.list_view.index is None
        await phone.press("f2", *"two")
        await wait_until(lambda: phone.titles == ["kept", "two"] and phone.app.list_view.index == 1)


NOWHERE = "ws://127.0.0.1:1/v1/sync"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"--token": "no token at all"}, "the token is none"),
        ({"--url": "http://127.0.0.1:8787"}, "no address"),
        ({"--tokn": "x"}, "No such option"),
    ],
)
def test_what_was_given_wrongly_is_one_line_and_a_code(
    capsys: pytest.CaptureFixture[str], options: dict[str, str], said: str
) -> None:
    given = {"--url": NOWHERE, "--token": make_token("alice", "phone")} | options
    assert main([part for option in given.items() for part in option]) == 1
    complaint = capsys.readouterr().err
    assert said in complaint
    assert complaint.startswith("notes: ")
    assert complaint.count("\n") == 1


@pytest.mark.parametrize("store", ["missing/phone.db", ".", "taken.db"])
async def test_a_store_that_can_not_be_used_ends_the_app_in_words(tmp_path: Path, store: str) -> None:
    async with AsyncDevice(NOWHERE, token="t", device="phone", store=tmp_path / "taken.db"):
        app = NotesApp(Settings(NOWHERE, make_token("alice", "phone"), "phone", tmp_path / store))
        async with app.run_test() as pilot:
            await wait_until(lambda: app.return_value is not None)
            await pilot.pause()
    assert app.return_value is not None
    assert "can not be used now" in app.return_value


async def test_what_the_disk_does_not_take_is_said_and_stays_in_the_editor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with terminal(NOWHERE, tmp_path, "phone") as phone:
        await phone.press("f2", *"kept")
        await wait_until(lambda: phone.titles == ["kept"])
        full = True
        save = SqliteStore.save_outbox

        def failing(store: SqliteStore, *what: Any) -> None:
            if full:
                raise StoreError("the disk is full")
            save(store, *what)

        monkeypatch.setattr(SqliteStore, "save_outbox", failing)
        await phone.press(*" too")
        await wait_until(lambda: "NOT KEPT: the disk is full" in phone.status)
        assert phone.text == "kept too"
        full = False
        await phone.press("!")
        await wait_until(lambda: phone.titles == ["kept too!"] and "NOT KEPT" not in phone.status)


async def test_the_last_line_says_in_words_what_is_wrong(tmp_path: Path) -> None:
    async with terminal(NOWHERE, tmp_path, "phone") as phone:
        await wait_until(lambda: "The server can not be reached. Check the network." in phone.status)
