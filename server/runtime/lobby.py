"""Where connections wait that have proved nothing yet: how many, with how many bytes, and who gives way to whom.

Whoever is not a WebSocket with a verified token is in the lobby: a TCP connection that says nothing, half a request, a
probe, a WebSocket before its HELLO was accepted. When the lobby is full the oldest goes, not the newcomer: else those
who came first and say nothing would hold the door. An address that has others waiting gives up one of its own first, so
one host alone can crowd out nobody else.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Protocol, TypeAlias

Network: TypeAlias = IPv4Network | IPv6Network


class Guest(Protocol):
    """A connection in the lobby."""

    def give_way(self) -> None:
        """End now: others wait. It leaves the lobby by itself."""
        ...


@dataclass(slots=True)
class _Stay:
    address: str
    held_bytes: int = 0


class Lobby:
    """The connections that have proved nothing yet, oldest first. 0 is no limit."""

    def __init__(self, connections_max: int, bytes_max: int) -> None:
        self._connections_max = connections_max
        self._bytes_max = bytes_max
        self._guests: dict[Guest, _Stay] = {}
        self._by_address: dict[str, dict[Guest, None]] = {}
        self._held_bytes = 0

    def __len__(self) -> int:
        return len(self._guests)

    def enter(self, guest: Guest, address: str) -> None:
        """Let a connection wait; one that waits may have to go for it."""
        if self._connections_max and len(self._guests) >= self._connections_max:
            oldest = next(iter(self._by_address.get(address) or self._guests))
            self.leave(oldest)
            oldest.give_way()
        self._guests[guest] = _Stay(address)
        self._by_address.setdefault(address, {})[guest] = None

    def leave(self, guest: Guest) -> None:
        """It has proved who it is, or is gone. Leaving twice is leaving once."""
        stay = self._guests.pop(guest, None)
        if stay is None:
            return
        self._held_bytes -= stay.held_bytes
        neighbours = self._by_address[stay.address]
        del neighbours[guest]
        if not neighbours:
            del self._by_address[stay.address]

    def holds(self, guest: Guest, unfinished_bytes: int) -> bool:
        """Whether there is room for what a connection has sent and not finished; else it has to go."""
        stay = self._guests.get(guest)
        if stay is None:
            return True
        grown_bytes = unfinished_bytes - stay.held_bytes
        stay.held_bytes = unfinished_bytes
        self._held_bytes += grown_bytes
        return grown_bytes <= 0 or not self._bytes_max or self._held_bytes <= self._bytes_max


class Sockets:
    """How many WebSockets are up, in all and from each address. 0 is no limit.

    A proxy's connections are not counted by address, for all devices come from there.
    """

    def __init__(self, sockets_max: int, per_address_max: int, proxies: tuple[Network, ...]) -> None:
        self._sockets_max = sockets_max
        self._per_address_max = per_address_max
        self._proxies = proxies
        self._count = 0
        self._by_address: dict[str, int] = {}

    def has_room(self, address: str) -> bool:
        if self._sockets_max and self._count >= self._sockets_max:
            return False
        here = self._by_address.get(address, 0)
        return not self._per_address_max or here < self._per_address_max or self._is_proxy(address)

    def opened(self, address: str) -> None:
        self._count += 1
        self._by_address[address] = self._by_address.get(address, 0) + 1

    def closed(self, address: str) -> None:
        self._count -= 1
        self._by_address[address] -= 1
        if not self._by_address[address]:
            del self._by_address[address]

    def _is_proxy(self, address: str) -> bool:
        peer = ip_address(address.partition("/")[0])
        return any(peer.version == network.version and peer in network for network in self._proxies)


def peer_address(peername: tuple[str, int] | tuple[str, int, int, int]) -> str:
    """What counts as one address: an IPv4 address, or the /64 of an IPv6 address, which one host has all of."""
    host = peername[0].partition("%")[0]
    if ":" not in host:
        return f"{host}/32"
    peer = IPv6Address(host)
    if peer.ipv4_mapped is not None:
        return f"{peer.ipv4_mapped}/32"
    return str(IPv6Network((peer, 64), strict=False))
