"""What PyJWT accepts unless it is told otherwise: each claim must be required and checked by us."""

from __future__ import annotations

from typing import Any

import jwt
import pytest

KEY = bytes(range(32))


def decoded(claims: dict[str, Any], **headers: Any) -> dict[str, Any]:
    """`claims` after a round trip with the defaults and one algorithm."""
    return jwt.decode(jwt.encode(claims, KEY, "HS256", headers=headers or None), KEY, algorithms=["HS256"])


def test_a_token_without_end_is_accepted() -> None:
    assert decoded({"sub": "alice"}) == {"sub": "alice"}


def test_any_issuer_is_accepted() -> None:
    assert decoded({"iss": "https://somewhere.example"})["iss"] == "https://somewhere.example"


def test_a_wrong_type_is_accepted() -> None:
    assert decoded({"sub": "alice"}, typ="dpop+jwt") == {"sub": "alice"}


def test_an_absurd_end_is_accepted() -> None:
    assert decoded({"exp": 1e308})["exp"] == 1e308


def test_a_replayed_token_is_accepted() -> None:
    token = jwt.encode({"jti": "1"}, KEY, "HS256")
    assert [jwt.decode(token, KEY, algorithms=["HS256"]) for _ in range(2)] == [{"jti": "1"}] * 2


def test_required_claims_are_required_where_asked_for() -> None:
    token = jwt.encode({"sub": "alice"}, KEY, "HS256")
    with pytest.raises(jwt.MissingRequiredClaimError):
        jwt.decode(token, KEY, algorithms=["HS256"], options={"require": ["exp"]})


def test_an_algorithm_that_is_not_listed_is_refused() -> None:
    token = jwt.encode({"sub": "alice"}, "", "none")
    with pytest.raises(jwt.InvalidTokenError):
        jwt.decode(token, KEY, algorithms=["HS256"])
