"""Whose device this is: as the token says that a user gives these apps."""

from __future__ import annotations

import jwt

from client_sim.errors import NotPossible
from crdt.ids import is_name


def read_device(token: str) -> str:
    """The device that a token is for; the server is who verifies it. Raises NotPossible."""
    try:
        claims = jwt.decode(token, options={"verify_signature": False})
    except jwt.InvalidTokenError as exc:
        raise NotPossible("the token is none: copy all of it") from exc
    device = claims.get("did")
    if not isinstance(device, str) or not is_name(device):
        raise NotPossible("the token does not say which device it is for")
    return device
