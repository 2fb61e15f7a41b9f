"""The clocks of one connection: the greeting, and the token's end."""

from __future__ import annotations

from client_sim.core.backoff import Brake
from crdt.protocol.frames import Welcome

GREETING_S = 15.0
"""WELCOME comes within this after HELLO."""
NONCE_S = 1.5
"""NONCE comes with the upgrade's answer, if at all: HELLO, which the server awaits for 10 s, waits no longer for it."""
REFRESH_MARGIN_S = 60.0
"""A token is replaced this long before its end, or after four fifths of its life if that is later."""
REFRESH_RETRY_S = 10.0


class Session:
    """Deadlines, all None between connections. Times are of the driver's clock."""

    def __init__(self, brake: Brake) -> None:
        """`brake` is of tokens, over all connections: a server may say after each one that it takes it no more."""
        self._brake = brake
        self._silent_at: float | None = None
        self._token_at: float | None = None
        self._fetching = False

    @classmethod
    def greeting(cls, brake: Brake, silent_at: float) -> Session:
        """A connection on which the server has something to say by `silent_at`: NONCE, and after HELLO WELCOME."""
        session = cls(brake)
        session._silent_at = silent_at
        return session

    def welcomed(self, welcome: Welcome, token_age_s: float, now: float) -> None:
        self._silent_at = None
        if welcome.token_expires_ms > welcome.server_time_ms:
            self.expires_in((welcome.token_expires_ms - welcome.server_time_ms) / 1000, token_age_s, now)

    def deadline(self) -> float | None:
        token_at = None if self._fetching else self._token_at
        return min((due for due in (self._silent_at, token_at) if due is not None), default=None)

    def is_silent(self, now: float) -> bool:
        """True if what was to be said was not."""
        return self._silent_at is not None and now >= self._silent_at

    # --- the token

    def expires_in(self, left_s: float, age_s: float, now: float) -> None:
        """The token, which was fetched `age_s` ago, ends in `left_s`: fetch another one in good time.

        Not at once where it is short-lived: so would be the other one, and the one after that.
        """
        life_s = age_s + left_s
        self._token_at = self._brake.not_before(now - age_s + max(life_s - REFRESH_MARGIN_S, life_s * 0.8))

    @property
    def is_fetching(self) -> bool:
        """True while a token was asked for and is not there."""
        return self._fetching

    def token_due(self, now: float) -> bool:
        """True, once, if a token should be fetched now."""
        if self._fetching or self._token_at is None or now < self._token_at:
            return False
        self._fetching = True
        return True

    def token_fetched(self, now: float) -> None:
        """It was sent, too: the server will say when it ends."""
        self._brake.done(now)
        self._fetching = False
        self._token_at = None

    def token_refused(self, now: float) -> None:
        """The server takes it no more: another one is due now."""
        self._token_at = self._brake.not_before(now)

    def token_failed(self, now: float) -> None:
        if self._fetching:
            self._fetching = False
            self._token_at = now + REFRESH_RETRY_S
