"""Tokens of our own making, for development and tests. In production an app's own login service signs them."""

from __future__ import annotations

from collections.abc import Mapping

import jwt

from crdt.ids import DocumentId, is_name
from crdt.protocol.frames import Access


def mint(
    user: str,
    device: str,
    *,
    ttl_s: float,
    secret: bytes,
    audience: str,
    issuer: str,
    now_s: float,
    token_id: str,
    grants: Mapping[DocumentId, Access] | None = None,
) -> str:
    """An HS256 token that is good for `ttl_s` seconds from `now_s` (since 1970).

    `token_id` is its `jti`, which no other token has. Raises ValueError for what is not a name.
    """
    for what, name in (("user", user), ("device", device), ("token id", token_id)):
        if not is_name(name):
            raise ValueError(f"{name!r} is no {what}: write 1 to 128 of A-Z a-z 0-9 . _ - ~ @ : +")
    claims = {
        "iss": issuer,
        "aud": audience,
        "sub": user,
        "did": device,
        "iat": now_s,
        "exp": now_s + ttl_s,
        "jti": token_id,
        "docs": {str(document): access.value for document, access in (grants or {}).items()},
    }
    return jwt.encode(claims, secret, algorithm="HS256")
