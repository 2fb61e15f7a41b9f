"""Who is there: each protocol's people as the other's."""

from __future__ import annotations

import pytest

from crdt.errors import PeerError
from server.yjs.messages import NOBODY_NEW, Awareness, ClientState, read_message
from server.yjs.people import People, payload_of, shown_by


def states(message: bytes | None) -> tuple[ClientState, ...]:
    assert message is not None
    read = read_message(message)
    assert isinstance(read, Awareness)
    return read.states


def test_what_a_yjs_client_shows_comes_through_devices_unchanged() -> None:
    state = ClientState(17, 3, '{"user":{"name":"é😀"},"cursor":null}')
    (told,) = states(People().told("bob/web!1", payload_of(state)))
    assert told.client == 17
    assert told.clock == 3
    assert payload_of(told) == payload_of(state)


@pytest.mark.parametrize("state", ['"ж語😀"', '"a\\ud83d"'], ids=["beyond ASCII", "half an emoji"])
def test_a_state_beyond_ascii_takes_the_bytes_that_it_has(state: str) -> None:
    payload = payload_of(ClientState(17, 3, state))
    assert payload == b'{"clientID":17,"clock":3,"state":%s}' % state.encode()
    (told,) = states(People().told("bob/web!1", payload))
    assert told.state == state


def test_a_native_device_has_a_client_id_of_its_own_and_a_clock_that_goes_on() -> None:
    people = People()
    people.clock = 1_000
    (first,) = states(people.told("bob/phone", b'{"at": 1}'))
    (second,) = states(people.told("bob/phone", b'{"at": 2}'))
    (other,) = states(people.told("eve/phone", b'{"at": 2}'))
    assert (first.client, first.clock < second.clock) == (second.client, True)
    assert first.clock > 1_000
    assert other.client != first.client


def test_native_devices_are_renewed_and_yjs_clients_renew_themselves() -> None:
    people = People()
    assert people.renewed() == NOBODY_NEW
    people.told("bob/web!1", payload_of(ClientState(17, 3, "{}")))
    assert people.renewed() == NOBODY_NEW
    (first,) = states(people.told("bob/phone", b"{}"))
    (again,) = states(people.renewed())
    assert (again.client, again.clock) == (first.client, first.clock + 1)
    assert len(states(people.all())) == 2


def test_who_leaves_is_gone_but_not_as_long_as_another_shows_the_same_client() -> None:
    people = People()
    for device in ("bob/web!old", "bob/web!new"):
        people.told(device, payload_of(ClientState(17, 3, "{}")))
    assert people.told("bob/web!old", None) is None
    assert states(people.told("bob/web!new", None)) == (ClientState(17, 3, "null"),)
    assert people.told("bob/web!new", None) is None


@pytest.mark.parametrize("payload", [b"", b"\xff", b"{", b"NaN", b"1e999", b'{"a":1} x', b"[" * 5000])
def test_what_is_no_json_is_not_shown(payload: bytes) -> None:
    assert shown_by("bob/phone", payload) is None
    with pytest.raises(PeerError):
        payload_of(ClientState(1, 1, payload.decode("latin-1")))


@pytest.mark.parametrize(
    "payload",
    [b'{"clientID":-1,"clock":1,"state":{}}', b'{"clientID":1,"clock":1}', b'{"clientID":1,"clock":"1","state":{}}'],
)
def test_what_only_looks_like_a_yjs_client_is_a_state_like_others(payload: bytes) -> None:
    shown = shown_by("bob/phone", payload)
    assert shown is not None
    assert shown.clock is None
