"""The example of an editor in a real browser, in windows of two people."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.integration.server_peers import converged, new_device, write
from tests.integration.server_process import ServerProcess, server_process
from tests.server_fixture import make_token
from tests.yjs.windows import Browser, Window, browser


def artefacts() -> Path:
    """Where what tests leave for people to look at goes."""
    folder = Path(os.environ.get("SYNCLINE_ARTEFACTS") or Path(__file__).parents[2] / "out")
    folder.mkdir(parents=True, exist_ok=True)
    return folder.absolute()


@asynccontextmanager
async def editors(folder: Path) -> AsyncIterator[tuple[ServerProcess, Browser]]:
    """A server that lets the editor's page in, and a browser."""
    (folder / "page").mkdir()
    async with (
        browser(folder / "page") as chrome,
        server_process(folder, arguments=("--origins", chrome.page)) as server,
    ):
        yield server, chrome


def asked(server: ServerProcess, user: str, ttl_s: float = 3600) -> dict[str, str]:
    """What the page asks `user` for, who goes to alice's main document."""
    token = make_token(user, "web", docs={"alice/main": "rw"} if user != "alice" else None, ttl_s=ttl_s)
    return {
        "server": f"ws://127.0.0.1:{server.port}/yjs", "document": "alice/main", "token": token, "name": user.title(),
    }  # fmt: skip


async def filled_in(chrome: Browser, values: dict[str, str]) -> Window:
    """A window in which somebody filled the form in."""
    window = await chrome.window(values["name"])
    for name, value in values.items():
        await window.do("fill", selector=f"input[name={name}]", text=value)
    await window.do("click", selector="#join button")
    return window


async def test_two_windows_write_one_text_with_a_device_offline_and_over_a_crash(tmp_path: Path) -> None:
    async with editors(tmp_path) as (server, chrome), new_device(server.url) as phone:
        document = await phone.open("main")
        alice = await chrome.window("Alice", **asked(server, "alice"))
        bob = await filled_in(chrome, asked(server, "bob"))
        for window in (alice, bob):
            await window.status(lambda status: status == "connected")
            await window.people("Alice", "Bob")
        await alice.type("Milk and bread", "Control+Home")
        await bob.shows("Milk and bread")
        await bob.type("\n\U0001f600 from Bob", "Control+End")
        await alice.shows("Milk and bread", "\U0001f600 from Bob")
        await converged(document, to={"body": "Milk and bread\n\U0001f600 from Bob"})

        await alice.do("click", selector="#offline")
        await alice.status(lambda status: status == "offline")
        await bob.people("Bob")
        await alice.type("Eggs, ", "Control+Home")
        await bob.type("!", "Control+End")
        await alice.shows("Eggs, Milk and bread", "\U0001f600 from Bob")
        await bob.shows("Milk and bread", "\U0001f600 from Bob!")
        await alice.do("click", selector="#offline")
        merged = ("Eggs, Milk and bread", "\U0001f600 from Bob!")
        for window in (alice, bob):
            await window.shows(*merged)
        await bob.do("press", keys="Control+Home")  # others see at once who moves, else with the next sign of life
        for window in (alice, bob):
            await window.people("Alice", "Bob")

        await server.kill()
        await bob.type(" and butter", "Control+Home", "End")
        write(document, "\nAnd from a phone")
        await server.start()
        last = ("Eggs, Milk and bread and butter", "\U0001f600 from Bob!", "And from a phone")
        for window in (alice, bob):
            await window.shows(*last)
        await converged(document, to={"body": "\n".join(last)})
        await alice.type("Written after the crash: ", "Control+Home")
        await bob.shows("Written after the crash: " + last[0], *last[1:])
        await converged(document, to={"body": "Written after the crash: " + "\n".join(last)})
        await alice.people("Alice", "Bob")
        await alice.do("screenshot", path=str(artefacts() / "editor.png"))
        for window in (alice, bob):
            await window.is_well()


async def test_the_page_says_that_a_token_has_ended(tmp_path: Path) -> None:
    async with editors(tmp_path) as (server, chrome):
        late = await chrome.window("Late", **asked(server, "alice", ttl_s=-3600))
        await late.status(lambda status: status == "a fresh token is needed")
        await late.is_well()
