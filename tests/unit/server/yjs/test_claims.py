"""Nobody is shown under the client id of another user."""

from __future__ import annotations

import pytest

from server.yjs import claims
from server.yjs.claims import Claims
from server.yjs.messages import ClientState
from server.yjs.people import payload_of

SHOWN = payload_of(ClientState(17, 3, "{}"))


def test_a_client_id_is_the_users_who_showed_it_first_on_whatever_device() -> None:
    claims = Claims()
    assert claims.admits("alice/web!1", SHOWN)
    assert claims.admits("alice/web!1", None)
    assert not claims.admits("guest/web!2", SHOWN)
    assert claims.admits("alice/laptop!3", SHOWN)
    assert claims.admits("guest/web!2", payload_of(ClientState(18, 3, "{}")))


def test_a_native_devices_id_is_its_users_too() -> None:
    claims = Claims()
    assert claims.admits("alice/phone", b"{}")
    assert claims.admits("guest/phone", b"{}")
    assert claims.admits("guest/phone", b"no JSON")


def test_so_many_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "CLAIMS_MAX", 2)
    kept = Claims()
    for client in (17, 18, 19):
        assert kept.admits("alice/web!1", payload_of(ClientState(client, 1, "{}")))
    assert not kept.admits("guest/web!2", payload_of(ClientState(18, 1, "{}")))
    assert kept.admits("guest/web!2", SHOWN)
