"""Tokens for development are good tokens, and nothing that is not a name gets into one."""

from __future__ import annotations

from typing import Any

import pytest

from crdt.errors import PeerError
from crdt.ids import DocumentId
from crdt.protocol.codes import Code
from crdt.protocol.frames import Access
from server.core.auth import Authority, VerificationKey, verify
from server.tokens import mint

NOW_S = 1_800_000_000.0
SECRET = b"a secret of at least thirty-two bytes"
AUTHORITY = Authority((VerificationKey("HS256", SECRET),), audience="syncline", issuer="here")
PLANS = DocumentId("bob", "plans")


def minted(**changes: Any) -> str:
    wanted: dict[str, Any] = {
        "user": "alice",
        "device": "phone",
        "ttl_s": 60,
        "grants": {PLANS: Access.READ},
        "secret": SECRET,
        "audience": "syncline",
        "issuer": "here",
        "now_s": NOW_S,
        "token_id": "t1",
    }
    return mint(**(wanted | changes))


def test_it_says_who_and_what_and_until_when() -> None:
    claims = verify(minted(), AUTHORITY, NOW_S)
    assert (claims.user, claims.device, claims.token_id) == ("alice", "phone", "t1")
    assert claims.expires_s == NOW_S + 60
    assert claims.grants == {PLANS: Access.READ}


def test_it_expires() -> None:
    with pytest.raises(PeerError) as refused:
        verify(minted(), AUTHORITY, NOW_S + 60)
    assert refused.value.code is Code.TOKEN_EXPIRED


@pytest.mark.parametrize("what", ["user", "device", "token_id"])
@pytest.mark.parametrize("name", ["", "a/b", "a b", "a" * 129, "é"])
def test_what_is_no_name_is_refused(what: str, name: str) -> None:
    with pytest.raises(ValueError, match="write 1 to 128"):
        minted(**{what: name})
