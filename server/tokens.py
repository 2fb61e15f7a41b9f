"""Tokens of our own making, for development and tests. In production an app's own login service signs them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jwt

from crdt.ids import DocumentId, is_name
from crdt.protocol.frames import Access
from server.core.auth import is_thumbprint


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
    key_thumbprint: str | None = None,
) -> str:
    """An HS256 token that is good for `ttl_s` seconds from `now_s` (since 1970).

    `token_id` is its `jti`, which no other token has. With `key_thumbprint` only the device that has that key
    can use it. Raises ValueError for what is not a name, or not a thumbprint.
    """
    for what, name in (("user", user), ("device", device), ("token id", token_id)):
        if not is_name(name):
            raise ValueError(f"{name!r} is no {what}: write 1 to 128 of A-Z a-z 0-9 . _ - ~ @ : +")
    if key_thumbprint is not None and not is_thumbprint(key_thumbprint):
        raise ValueError(f"{key_thumbprint!r} is no thumbprint: it has 43 of A-Z a-z 0-9 - _")
    claims: dict[str, Any] = {
        "iss": issuer,
        "aud": audience,
        "sub": user,
        "did": device,
        "iat": now_s,
        "exp": now_s + ttl_s,
        "jti": token_id,
        "docs": {str(document): access.value for document, access in (grants or {}).items()},
    }
    if key_thumbprint is not None:
        claims["cnf"] = {"jkt": key_thumbprint}
    return jwt.encode(claims, secret, algorithm="HS256")
