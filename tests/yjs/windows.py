"""Windows of a real browser, as a test sees them, and the example that they show."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import pytest

from tests.yjs.apps import Apps, eventually
from tests.yjs.packages import SCRIPTS, node_folder

EXAMPLE: Final = Path(__file__).parents[2] / "examples" / "editor"
PLAYWRIGHT: Final = {"playwright-core": "1.65.1"}
END_S: Final = 15.0


def chromium() -> str:
    """The browser's program. Where there is none: skips the test, or fails it under SYNCLINE_CI."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None and os.environ.get("SYNCLINE_CI"):
        pytest.fail("chromium is not there")
    if found is None:
        pytest.skip("chromium is not there")
    return found


class Window:
    """A window of its own profile that shows the editor."""

    def __init__(self, browser: Apps, name: str) -> None:
        self._browser = browser
        self._name = name

    async def do(self, doing: str, **args: Any) -> Any:
        return await self._browser.do(doing, window=self._name, **args)

    async def type(self, text: str, *keys: str) -> None:
        """Press keys in the editor, then type."""
        await self.do("focus", selector=".cm-content")
        for key in keys:
            await self.do("press", keys=key)
        await self.do("type", text=text)

    async def lines(self) -> list[str]:
        """What is in the editor, without the names of others beside their cursors."""
        lines: list[str] = await self.do("texts", selector=".cm-line", without=".cm-ySelectionCaret")
        return lines

    async def shows(self, *lines: str) -> None:
        await eventually(self.lines, lambda found: found == list(lines))

    async def people(self, *names: str) -> None:
        """Just these are shown to be here."""
        await eventually(lambda: self.do("texts", selector="#people li"), lambda found: sorted(found) == sorted(names))

    async def status(self, condition: Callable[[str], object]) -> None:
        async def read() -> str:
            (text,) = await self.do("texts", selector="#status")
            return str(text)

        await eventually(read, condition)

    async def is_well(self) -> None:
        """Nothing was thrown in the page."""
        assert await self.do("errors") == []


class Browser:
    """A browser, and the address of the editor's page."""

    def __init__(self, windows: Apps, page: str) -> None:
        self._windows = windows
        self.page = page

    async def window(self, of: str, **asked: str) -> Window:
        """Open the page in a profile of its own; `asked` is what the page reads from its address."""
        window = Window(self._windows, of)
        await window.do("open", url=f"{self.page}#{urlencode(asked)}" if asked else self.page)
        return window


@asynccontextmanager
async def browser(folder: Path) -> AsyncIterator[Browser]:
    """A browser, and the example as its README serves it, built in `folder`."""
    program, playwright = chromium(), node_folder("playwright", PLAYWRIGHT)
    async with _served(folder) as page, _process("node", str(SCRIPTS / "browser.mjs"), program, cwd=playwright) as node:
        yield Browser(Apps(node), page)


@asynccontextmanager
async def _served(folder: Path) -> AsyncIterator[str]:
    manifest = json.loads((EXAMPLE / "package.json").read_text())
    packages = node_folder("editor", manifest["dependencies"] | manifest["devDependencies"])
    for file in EXAMPLE.iterdir():
        if file.is_file():
            shutil.copy(file, folder)
    (folder / "node_modules").symlink_to(packages / "node_modules")
    command = ("npm", "start", "--silent", "--", "--serve=127.0.0.1:0")
    async with _process(*command, cwd=folder, stderr=asyncio.subprocess.STDOUT) as process:
        assert process.stdout is not None
        async with asyncio.timeout(END_S):
            while not (found := re.search(rb"http://127\.0\.0\.1:\d+", await process.stdout.readline())):
                assert not process.stdout.at_eof(), "the example was not built"
        yield found[0].decode()


@asynccontextmanager
async def _process(*command: str, cwd: Path, stderr: int | None = None) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process that ends when its standard input does."""
    process = await asyncio.create_subprocess_exec(
        *command, cwd=cwd, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=stderr
    )
    try:
        yield process
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            async with asyncio.timeout(END_S):
                await process.communicate()
        except TimeoutError:
            process.kill()
            await process.wait()
            raise
