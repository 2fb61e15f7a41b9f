"""What tests of every layer use."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

_POLL_S = 0.002


async def wait_until(condition: Callable[[], object], within_s: float = 5.0) -> None:
    """Return once the condition holds. Fails the test if it does not within `within_s`, which no passing test waits."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within_s
    while not condition():
        assert loop.time() < deadline, f"not within {within_s} s: {condition}"
        await asyncio.sleep(_POLL_S)
