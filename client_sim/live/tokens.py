"""Where a device has its tokens from."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from inspect import isawaitable
from typing import TypeAlias

from client_sim.core.events import TokenFailed, TokenFetched

TOKEN_S = 30.0

TokenSource: TypeAlias = Callable[[str], Awaitable[str]]
"""Called with the name that the token has to be made out to: the device's, which is a new one once it was cloned.

LoginRefused blocks the device. Any other Exception is a Problem, `token_failed`, and it is asked again after a while.
"""


class LoginRefused(Exception):
    """A token source raises this where the user has to log in again: the device is then blocked."""


def always(token: str, owner: str) -> TokenSource:
    """The source of a token that is all there is."""

    async def source(device: str) -> str:
        if device != owner:
            raise LoginRefused(f"the token is for {owner}, and this device is {device} since it was cloned")
        return token

    return source


async def answer(source: TokenSource, device: str) -> TokenFetched | TokenFailed:
    """What comes of asking a source: it may fail as it likes, and has TOKEN_S seconds."""
    try:
        async with asyncio.timeout(TOKEN_S):
            return TokenFetched(device, await _fetched(source, device))
    except LoginRefused as exc:
        return TokenFailed(device, str(exc), refused=True)
    except Exception as exc:  # noqa: BLE001 - of the app's function: a login page that is no JSON is not its end
        return TokenFailed(device, f"{type(exc).__name__}: {exc}", refused=False)


async def _fetched(source: TokenSource, device: str) -> str:
    """What a source gives. Raises what it raises, and TypeError where it gives no token."""
    coming: object = source(device)
    came = await coming if isawaitable(coming) else None
    if not isinstance(came, str):
        what = type(coming if came is None else came).__name__
        raise TypeError(f"token has to be an async function that returns a str; what came is {what}")
    return came
