"""The app's own token service: it knows every user's grants, and signs what devices show to the server."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import jwt

from server.core.auth import Authority, VerificationKey

_SECRET = b"nobody outside of the world knows this"
AUTHORITY = Authority((VerificationKey("HS256", _SECRET),), audience="syncline", issuer="the-world")


def claims_of(token: str) -> Any:
    """What a token says, true or not. Raises ValueError and IndexError for what is none."""
    payload = token.split(".")[1]
    return json.loads(urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))


@dataclass(slots=True)
class Issuer:
    """`grants`: by user, what of others' documents is `r` or `rw`. `ever` has all that any token ever said."""

    epoch_s: float
    grants: dict[str, dict[str, str]] = field(default_factory=dict)
    ever: dict[str, dict[str, str]] = field(default_factory=dict)
    _numbers: count[int] = field(default_factory=count)

    def token(self, user: str, device: str, now: float, life_s: float, key_thumbprint: str | None = None) -> str:
        """`now` and `life_s` are of true time. With `key_thumbprint`, it is good for the owner of that key alone."""
        issued_s = self.epoch_s + now
        docs = self.grants.get(user, {})
        known = self.ever.setdefault(user, {})
        for name, access in docs.items():
            known[name] = "rw" if "rw" in (access, known.get(name)) else access
        claims = {
            "sub": user, "did": device, "iat": round(issued_s, 3), "exp": round(issued_s + life_s, 3),
            "aud": AUTHORITY.audience, "iss": AUTHORITY.issuer, "jti": f"t{next(self._numbers)}", "docs": docs,
        }  # fmt: skip
        if key_thumbprint is not None:
            claims["cnf"] = {"jkt": key_thumbprint}
        return jwt.encode(claims, _SECRET, algorithm="HS256")
