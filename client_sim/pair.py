"""Two devices of one user type into the same document, in plain words: a first look at a server that runs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import jwt
from rich.console import Console

from client_sim.errors import NotPossible
from client_sim.live import AsyncDevice, AsyncDocument, Blocked, Problem
from crdt.protocol.frames import PATH

DOCUMENT = "main"
ROOT = "text"
CONNECT_S = 5.0
SEEN_S = 5.0
LETTER_S = 0.06
SHOWN_CHARS = 60

SAME, DIFFERENT = 0, 1


def run(console: Console, url: str, tokens: Sequence[str]) -> int:
    """Show it; 0 if both end with the same text. Raises NotPossible."""
    return asyncio.run(show(console, url, tokens))


async def show(console: Console, url: str, tokens: Sequence[str]) -> int:
    """As `run`, on a loop that is there."""
    names = read_claims(tokens)
    url = read_url(url)
    try:
        async with (
            _connected(console, url, tokens[0], names[0]) as one,
            _connected(console, url, tokens[1], names[1]) as two,
        ):
            await _perform(one, two)
            return _compare(one, two)
    except Blocked as exc:
        raise NotPossible(f"the server refuses: {exc}") from exc


def read_url(url: str) -> str:
    """The address of the server's WebSocket; the path may be left out. Raises NotPossible."""
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in ("ws", "wss") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port or an IPv6 address that is none
        is_address = False
    if not is_address:
        raise NotPossible(f"{url} is no address of a server: write ws://host:port, or wss://host")
    return parts._replace(path=PATH).geturl() if parts.path in ("", "/") else url


def _compare(one: _Hand, two: _Hand) -> int:
    if one.text == two.text:
        one.say(f"both have, at the end: {one.text[-SHOWN_CHARS:]!r}")
        one.say("both devices have the same text")
        return SAME
    for hand in (one, two):
        hand.say(f"{hand.name} has, at the end: {hand.text[-SHOWN_CHARS:]!r}")
    one.say("THE DEVICES HAVE DIFFERENT TEXTS")
    return DIFFERENT


def read_claims(tokens: Sequence[str]) -> list[str]:
    """The devices that two tokens of one user are for; the server is who verifies them. Raises NotPossible."""
    if len(tokens) != 2:
        raise NotPossible("two tokens are needed: --token T1 --token T2")
    users, devices = [], []
    for which, token in zip(("first", "second"), tokens, strict=True):
        try:
            claims = jwt.decode(token, options={"verify_signature": False})
            users.append(str(claims["sub"]))
            devices.append(str(claims["did"]))
        except (jwt.InvalidTokenError, KeyError) as exc:
            raise NotPossible(f"the {which} token is none, or does not say whose it is") from exc
    if users[0] != users[1]:
        raise NotPossible(f"the tokens are for two users, {users[0]} and {users[1]}, who share no document")
    if devices[0] == devices[1]:
        raise NotPossible(f"both tokens are for the device {devices[0]}: make one for another device")
    return devices


class _Hand:
    """A device with somebody at it, whose every step is told."""

    def __init__(self, console: Console, name: str, device: AsyncDevice, document: AsyncDocument) -> None:
        self.name = name
        self._console = console
        self._device = device
        self._document = document

    @property
    def text(self) -> str:
        return self._document.text(ROOT)

    def say(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    async def type(self, text: str) -> None:
        """Letter by letter, at the end."""
        for letter in text:
            self.insert(len(self.text), letter)
            await asyncio.sleep(LETTER_S)

    def insert(self, at: int, text: str) -> None:
        self._document.edit(lambda roots: roots.text(ROOT).insert(at, text))

    async def sees(self, other: _Hand) -> None:
        """Returns when this device has what the other one has, or that takes too long."""
        began = time.monotonic()
        try:
            await self._device.wait(lambda: self.text == other.text, SEEN_S)
        except TimeoutError:
            self.say(f"{self.name} DOES NOT SEE IT within {SEEN_S:g} s")
        else:
            self.say(f"{self.name} sees it, {1000 * (time.monotonic() - began):.0f} ms after the last letter")

    async def saved(self) -> None:
        """Raises NotPossible, and Blocked."""
        try:
            await self._document.wait_durable(SEEN_S)
        except TimeoutError as exc:
            raise NotPossible(f"{self.name}: the server acknowledged nothing for {SEEN_S:g} s") from exc

    def go_offline(self) -> None:
        self._device.disconnect()

    def go_online(self) -> None:
        self._device.connect()


async def _perform(one: _Hand, two: _Hand) -> None:
    line = f"Hello from {one.name}. "
    one.say(f"{one.name} types {line!r}, letter by letter")
    await one.type(line)
    await two.sees(one)
    one.say("both write at once, in the same place")
    at = len(one.text)
    one.insert(at, f"[{one.name}] ")
    two.insert(at, f"[{two.name}] ")
    await two.sees(one)
    await one.sees(two)
    one.say(f"{one.name} goes offline, and types on")
    one.go_offline()
    await one.type("Typed in a tunnel. ")
    two.say(f"{two.name} has {len(one.text) - len(two.text)} letters less")
    one.say(f"{one.name} is online again")
    one.go_online()
    await two.sees(one)
    for hand in (one, two):
        await hand.saved()
    one.say("everything is acknowledged: it is on the server's disk")


@asynccontextmanager
async def _connected(console: Console, url: str, token: str, name: str) -> AsyncIterator[_Hand]:
    """A device that has the document. Raises NotPossible."""
    problems: list[Problem] = []
    async with AsyncDevice(url, token=token, device=name, on_error=problems.append) as device:
        document = await device.open(DOCUMENT)
        hand = _Hand(console, name, device, document)
        try:
            await document.wait_current(CONNECT_S)
        except (TimeoutError, Blocked) as exc:
            raise NotPossible(_refusal(url, device, problems)) from exc
        hand.say(f"{name} is connected as {device.user}; its document has {len(hand.text)} characters")
        yield hand


def _refusal(url: str, device: AsyncDevice, problems: Sequence[Problem]) -> str:
    if problems:
        return f"the server at {url} refuses: {problems[-1].message or problems[-1].code}"
    if not device.counters.connections:
        return f"the server at {url} can not be reached ({device.status})"
    return f"the server at {url} does not answer ({device.status})"
