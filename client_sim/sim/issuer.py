"""The app's own token service: it knows every user's grants, and signs what devices show to the server."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count

import jwt

from server.core.auth import Authority, VerificationKey

_SECRET = b"nobody outside of the world knows this"
AUTHORITY = Authority((VerificationKey("HS256", _SECRET),), audience="syncline", issuer="the-world")


@dataclass(slots=True)
class Issuer:
    """`grants`: by user, what of others' documents is `r` or `rw`. `ever` has all that any token ever said."""

    epoch_s: float
    grants: dict[str, dict[str, str]] = field(default_factory=dict)
    ever: dict[str, dict[str, str]] = field(default_factory=dict)
    _numbers: count[int] = field(default_factory=count)

    def token(self, user: str, device: str, now: float, life_s: float) -> str:
        """`now` and `life_s` are of true time."""
        issued_s = self.epoch_s + now
        docs = self.grants.get(user, {})
        known = self.ever.setdefault(user, {})
        for name, access in docs.items():
            known[name] = "rw" if "rw" in (access, known.get(name)) else access
        claims = {
            "sub": user, "did": device, "iat": round(issued_s, 3), "exp": round(issued_s + life_s, 3),
            "aud": AUTHORITY.audience, "iss": AUTHORITY.issuer, "jti": f"t{next(self._numbers)}", "docs": docs,
        }  # fmt: skip
        return jwt.encode(claims, _SECRET, algorithm="HS256")
