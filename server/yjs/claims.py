"""Whose a client id is among those who are shown: the user's who showed it first.

Clients keep the highest clock that they have seen of an id. So whoever shows another's, once, hides the other for good.
"""

from __future__ import annotations

from server.yjs.people import shown_by

CLAIMS_MAX = 10_000
"""In one document. Beyond it the oldest are forgotten."""


class Claims:
    """Of one document, for as long as it is open on a Yjs socket. Who leaves keeps the id."""

    def __init__(self) -> None:
        self._users: dict[int, str] = {}

    def admits(self, device: str, payload: bytes | None) -> bool:
        """False if what a device shows is under the client id of another user."""
        shown = shown_by(device, payload) if payload is not None else None
        if shown is None:
            return True
        user = device.partition("/")[0]
        admitted = self._users.setdefault(shown.client, user) == user
        if len(self._users) > CLAIMS_MAX:
            del self._users[next(iter(self._users))]
        return admitted
