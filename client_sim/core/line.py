"""The state of a device's one connection, why it is not up, and when it is tried again."""

from __future__ import annotations

from typing import assert_never

from client_sim.core.backoff import Backoff
from client_sim.core.context import Context
from client_sim.core.effects import CloseConnection
from client_sim.core.events import ConnectionLost
from client_sim.core.status import CONNECTED, LINKS, Link, State, Status, move


class Line:
    """Moves as its table says. `reason` and `detail` are of what ended the last connection, until the next is up."""

    def __init__(self, context: Context) -> None:
        self.link = Link.IDLE
        self.reason: str | None = None
        self.retry_at: float | None = None
        self._detail: str | None = None
        self._not_before = 0.0
        self._tried_at: float | None = None
        self._backoff = Backoff(context.rng)
        self._context = context

    @property
    def is_connected(self) -> bool:
        """True if a socket is up."""
        return self.link in CONNECTED

    def status(self, *, syncing: bool) -> Status:
        match self.link:
            case Link.IDLE | Link.WAITING:
                return Status(State.OFFLINE, self.reason, self._detail)
            case Link.FETCHING | Link.CONNECTING | Link.UPGRADED | Link.GREETING:
                return Status(State.CONNECTING, self.reason, self._detail)
            case Link.STOPPED:
                return Status(State.BLOCKED, self.reason, self._detail)
            case Link.OPEN:
                return Status(State.SYNCING if syncing else State.CURRENT)
            case _:
                assert_never(self.link)

    def move(self, link: Link) -> None:
        self.link = move(LINKS, self.link, link)

    def opened(self) -> None:
        self.move(Link.OPEN)
        self.reason = self._detail = None

    def down(self, link: Link, reason: str | None, detail: str | None = None) -> None:
        self.reason, self._detail = reason, detail
        self.move(link)

    def hang_up(self, code: int, reason: str) -> None:
        """`reason` is a code: a close has room for no more."""
        if self.link is Link.CONNECTING or self.is_connected:
            self._context.emit(CloseConnection(code, reason))

    def how_lost(self, lost: ConnectionLost) -> str:
        """In words, with what is known of it."""
        if lost.code is not None:
            how = f"closed with {lost.code}"
        else:
            how = "no connection" if self.link is Link.CONNECTING else "connection lost"
        return f"{how}: {lost.reason}" if lost.reason else how

    # --- when to try again

    def stay_away(self, seconds: float, now: float) -> None:
        """Whatever happens, do not connect again sooner than that, unless the app wants it."""
        self._not_before = max(self._not_before, now + seconds)

    def may_connect(self, now: float) -> bool:
        """False if the server said not to come back yet."""
        return now >= self._not_before

    def wait(self, reason: str, detail: str, now: float) -> None:
        """Try again after the backoff, or what the server asked for and some."""
        self.down(Link.WAITING, reason, detail)
        self.retry_at = now + self._backoff.next_wait_s(max(0.0, self._not_before - now))

    def rest(self, reason: str, until: float) -> None:
        """Nothing is wrong: come back then."""
        self.down(Link.WAITING, reason)
        self.retry_at = max(until, self._not_before)

    def rise(self) -> None:
        """Come back as soon as the server lets one."""
        self.retry_at = self._not_before

    @property
    def deadline(self) -> float | None:
        """When to try again; None if it does not wait for that."""
        return self.retry_at if self.link is Link.WAITING else None

    def is_retry_due(self, now: float) -> bool:
        return self.link is Link.WAITING and self.retry_at is not None and now >= self.retry_at

    def trying(self, now: float) -> None:
        """An attempt to connect begins."""
        self.retry_at = None
        self._tried_at = now

    def try_soon(self) -> None:
        """What kept it from connecting may be over."""
        self._backoff.reset()

    def went_well(self, now: float) -> None:
        """All is current."""
        self._backoff.reset()
        if self._tried_at is not None:
            self._context.counters.to_current_s = now - self._tried_at
            self._tried_at = None
