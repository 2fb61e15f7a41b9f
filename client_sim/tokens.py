"""Tokens of our own making, as an app's login service would give them to its devices."""

from __future__ import annotations

import secrets
import time

import jwt

AUDIENCE, ISSUER = "syncline", "syncline-dev"
"""What a server takes unless its operator said otherwise."""


def mint(secret: str, user: str, device: str, ttl_s: float) -> str:
    """A token that is good for `ttl_s` seconds from now on, where `secret` is the server's."""
    now_s = time.time()
    claims = {
        "iss": ISSUER, "aud": AUDIENCE, "sub": user, "did": device,
        "iat": now_s, "exp": now_s + ttl_s, "jti": secrets.token_hex(16), "docs": {},
    }  # fmt: skip
    return jwt.encode(claims, secret, algorithm="HS256")
