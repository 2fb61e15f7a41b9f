"""Where a device has its tokens from."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from inspect import isawaitable
from typing import TypeAlias

from client_sim.core.events import TokenFailed, TokenFetched

TOKEN_S = 30.0

TokenSource: TypeAlias = Callable[[str], Awaitable[str]]
"""Called with the name that the token has to be made out to: the device's, which is a new one once it was cloned.

LoginRefused blocks the device. Any other Exception is a Problem, `token_failed`, and it is asked again after a while.
"""
BlockingTokenSource: TypeAlias = Callable[[str], str]
"""As TokenSource, but a plain function, which is called in a thread of its own: it may wait."""


class LoginRefused(Exception):
    """A token source raises this where the user has to log in again: the device is then blocked."""


def always(token: str, owner: str) -> TokenSource:
    """The source of a token that is all there is."""

    async def source(device: str) -> str:
        if device != owner:
            raise LoginRefused(f"the token is for {owner}, and this device is {device} since it was cloned")
        return token

    return source


def in_a_thread(source: BlockingTokenSource) -> TokenSource:
    """The source that asks this one in a thread that nobody waits for: it may take longer than the device lives."""

    async def fetch(device: str) -> str:
        asked: Future[str] = Future()
        threading.Thread(target=_ask, args=(source, device, asked), name="syncline-token", daemon=True).start()
        return await asyncio.wrap_future(asked)

    return fetch


def _ask(source: BlockingTokenSource, device: str, asked: Future[str]) -> None:
    if not asked.set_running_or_notify_cancel():
        return
    try:
        asked.set_result(source(device))
    except Exception as exc:  # noqa: BLE001 - it is raised where the token is awaited
        asked.set_exception(exc)


async def answer(source: TokenSource, device: str) -> TokenFetched | TokenFailed:
    """What comes of asking a source: it may fail as it likes, and has TOKEN_S seconds."""
    try:
        async with asyncio.timeout(TOKEN_S):
            return TokenFetched(device, await _fetched(source, device))
    except LoginRefused as exc:
        return TokenFailed(device, str(exc), refused=True)
    except asyncio.CancelledError:
        if _is_cancelled():
            raise
        return TokenFailed(device, "what token awaits was cancelled", refused=False)
    except Exception as exc:  # noqa: BLE001 - of the app's function: a login page that is no JSON is not its end
        return TokenFailed(device, f"{type(exc).__name__}: {exc}", refused=False)


def _is_cancelled() -> bool:
    """True if this task is: a source may just as well await one of the app's that was."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def _fetched(source: TokenSource, device: str) -> str:
    """What a source gives. Raises what it raises, and TypeError and ValueError where it gives no token."""
    coming: object = source(device)
    came = await coming if isawaitable(coming) else coming
    if not isinstance(came, str) or came is coming:
        raise TypeError(f"token has to be an async function that returns a str; what came is {type(came).__name__}")
    came.encode()  # a lone surrogate can not be sent: UnicodeEncodeError
    return came
