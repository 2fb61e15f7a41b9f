"""The device's token, and how it shows that the token is its own."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode
from typing import Any

from client_sim.core.ports import Signer
from crdt.protocol import proof
from crdt.protocol.codes import Code
from crdt.protocol.frames import Error

REFUSALS_MAX = 3
"""Fresh tokens that are refused in a row: the next one would be, too."""


class Login:
    """One token at a time. Nothing of it is verified here: that is the server's part."""

    def __init__(self, key: Signer | None) -> None:
        self.token: str | None = None
        self._key = key
        self._since = 0.0
        self._refused: str | None = None
        self._is_fresh = False
        self._refusals = 0
        self._last_refusal: str | None = None
        self._complaint: Error | None = None
        self._has_proved = False

    def take(self, token: str, now: float) -> None:
        self.token = token
        self._is_fresh = True
        self._since = now

    def refuse(self, reason: str) -> None:
        """The server takes the token no more: another one is needed.

        The same will do where it was not judged: HELLO was late, or this connection had no proof that it could have
        had (the nonce was late, or an earlier token asked for none).
        """
        could_prove = reason == Code.REPLAYED and self.needs_nonce and not self._has_proved
        was_judged = reason != Code.AUTH_TIMEOUT and not could_prove
        self._refusals += was_judged and self._is_fresh
        self._last_refusal = reason
        self._refused, self.token = self.token if was_judged else None, None

    def heard(self, error: Error) -> None:
        """The server says something of the token."""
        self._complaint = error

    @property
    def complaint(self) -> str | None:
        """What the server said of the last token that it refused, in words; None if it said nothing."""
        return f"{self._complaint.code}: {self._complaint.message}" if self._complaint else None

    @property
    def is_misfit(self) -> bool:
        """The server said that the token is not for this device, or none of its own: it was never good."""
        return Code.BAD_TOKEN in (self._last_refusal, self._complaint and self._complaint.code)

    @property
    def is_in_doubt(self) -> bool:
        """A fresh token was refused: that it had expired does not say it."""
        return self._refusals > 0

    @property
    def is_hopeless(self) -> bool:
        """So many fresh ones were refused that another one is not worth asking for, until the app wants it."""
        return self._refusals >= REFUSALS_MAX

    def is_refused(self, token: str) -> bool:
        """True for the last one that was refused: whoever fetches it again has nothing better."""
        return token == self._refused

    def accepted(self) -> None:
        """The server took the token."""
        self._is_fresh = False
        self.forgive()

    def forgive(self) -> None:
        """A token was accepted, or the app asks to try again."""
        self._refused = self._complaint = self._last_refusal = None
        self._refusals = 0

    def forget(self) -> None:
        """Another name or another user needs another token."""
        self.token = self._refused = None

    def age_s(self, now: float) -> float:
        return now - self._since

    # --- proof of possession

    @property
    def needs_nonce(self) -> bool:
        """True if HELLO waits for the server's nonce: the token is bound to a key, and there is one."""
        return self._key is not None and self._bound_jti is not None

    def proof(self, nonce: bytes | None) -> dict[str, Any]:
        """HELLO's options that prove the possession of the key, as far as that is asked for and can be done."""
        jti = self._bound_jti
        self._has_proved = False
        if self._key is None or nonce is None or jti is None:
            return {}
        self._has_proved = True
        signature = self._key.sign(proof.signed_bytes(nonce, jti))
        return {proof.OPTION_PROOF: signature, proof.OPTION_KEY: self._key.public.jwk}

    @property
    def _bound_jti(self) -> str | None:
        """The `jti` of a token that only the holder of a key may use (`cnf.jkt`, RFC 9449); None for any other."""
        claims = _claims(self.token or "")
        confirmation, jti = claims.get("cnf"), claims.get("jti")
        is_bound = isinstance(confirmation, dict) and "jkt" in confirmation and isinstance(jti, str)
        return jti if is_bound else None


def _claims(token: str) -> dict[str, Any]:
    """The payload of a JWT; nothing for what is none."""
    try:
        payload = token.split(".")[1].encode()
        claims = json.loads(urlsafe_b64decode(payload + b"=" * (-len(payload) % 4)))
    except (IndexError, ValueError, RecursionError):
        return {}
    return claims if isinstance(claims, dict) else {}
