"""Who waits in the lobby, who gives way, and what counts as one address."""

from __future__ import annotations

import pytest

from server.runtime.lobby import Lobby, Sockets, peer_address


class Waiting:
    """A connection that leaves when it is told to, as real ones do."""

    def __init__(self, lobby: Lobby) -> None:
        self._lobby = lobby
        self.is_gone = False

    def give_way(self) -> None:
        self.is_gone = True
        self._lobby.leave(self)


def entered(lobby: Lobby, *addresses: str) -> list[Waiting]:
    guests = []
    for address in addresses:
        guests.append(Waiting(lobby))
        lobby.enter(guests[-1], address)
    return guests


def test_the_oldest_of_the_newcomers_address_goes_or_else_the_oldest() -> None:
    lobby = Lobby(3, 0)
    first, second, third = entered(lobby, "a", "b", "b")
    fourth, fifth = entered(lobby, "b", "c")
    assert [guest.is_gone for guest in (first, second, third, fourth, fifth)] == [True, True, False, False, False]
    assert len(lobby) == 3


def test_without_a_limit_nobody_goes() -> None:
    lobby = Lobby(0, 0)
    guests = entered(lobby, *["a"] * 1000)
    assert not any(guest.is_gone for guest in guests)
    assert lobby.holds(guests[0], 1 << 40)


def test_what_is_unfinished_is_bounded_for_all_together_and_given_back() -> None:
    lobby = Lobby(10, 100)
    first, second = entered(lobby, "a", "b")
    assert lobby.holds(first, 60)
    assert lobby.holds(second, 40)
    assert not lobby.holds(second, 41)
    assert lobby.holds(second, 39), "who needs less than before may stay"
    lobby.leave(first)
    lobby.leave(first)
    assert lobby.holds(second, 100)
    assert lobby.holds(first, 1 << 40), "it is not in the lobby"


def test_sockets_are_counted_by_address() -> None:
    sockets = Sockets(3, 2, ())
    sockets.opened("1.1.1.1/32")
    sockets.opened("1.1.1.1/32")
    assert not sockets.has_room("1.1.1.1/32")
    assert sockets.has_room("2.2.2.2/32")
    sockets.opened("2.2.2.2/32")
    assert not sockets.has_room("3.3.3.3/32")
    sockets.closed("1.1.1.1/32")
    assert sockets.has_room("1.1.1.1/32")


@pytest.mark.parametrize(
    ("peername", "address"),
    [
        (("192.0.2.1", 5), "192.0.2.1/32"),
        (("::ffff:192.0.2.1", 5, 0, 0), "192.0.2.1/32"),
        (("2001:db8:1:2:3::4", 5, 0, 0), "2001:db8:1:2::/64"),
        (("2001:db8:1:2:ffff::4", 5, 0, 0), "2001:db8:1:2::/64"),
        (("fe80::1%eth0", 5, 0, 2), "fe80::/64"),
    ],
)
def test_an_address_is_what_one_host_has(peername: tuple[str, int], address: str) -> None:
    assert peer_address(peername) == address
