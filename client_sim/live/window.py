"""The background sync that is under way, and who waits for what it did."""

from __future__ import annotations

import asyncio

from client_sim.core.errand import Done


class Window:
    """One at a time."""

    def __init__(self) -> None:
        self._waiter: asyncio.Future[Done] | None = None

    def open(self) -> asyncio.Future[Done]:
        """What will have been done. Raises RuntimeError while another one is under way."""
        if self._waiter is not None:
            raise RuntimeError("a background sync is under way: there is one at a time")
        self._waiter = asyncio.get_running_loop().create_future()
        return self._waiter

    def close(self, outcome: Done | Exception) -> None:
        """It is over, if there is one; whoever waits gets the outcome, or has been cancelled."""
        waiter, self._waiter = self._waiter, None
        if waiter is None or waiter.done():
            return
        if isinstance(outcome, Exception):
            waiter.set_exception(outcome)
        else:
            waiter.set_result(outcome)
