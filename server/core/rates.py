"""How much of the server each device may use: an account a device, kept in seconds of its share.

Whatever a device has the server do costs a part of a second: all that is allowed in one second costs one second,
whether it is updates, bytes or answers. A device that was quiet has saved up `burst_s`; one that owes more is not read
from until it has paid, which time does. Nothing here reads a clock.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from crdt.errors import PeerError
from crdt.ids import DeviceId
from crdt.protocol.codec import bytes_of
from crdt.protocol.codes import Code
from crdt.protocol.frames import Audit, Auth, DeviceFrame, Hello, Open, Push, Resync

if TYPE_CHECKING:
    from server.core.session import Session

DEBT_S_MAX = 20.0
"""No device waits longer than this for what it used: its PINGs wait as well, and it would take the link for dead."""

LAP_S = 0.25
"""A device that has used so much lets others go first, once."""

STRUCTS_PER_UPDATE = 16
"""An update with so many structs and delete ranges counts as two, and so on: checking each takes some microseconds."""

REHEARSAL_S = 0.25
"""What a rehearsal costs of a device's share, beside its bytes: it takes a worker from all others."""

EPHEMERALS_PER_SESSION = 4
"""A user may have so many times as many ephemeral devices as others: each document of each tab is one."""

LOOKUP_UPDATES = 10
"""What is looked up or verified counts as so many updates."""
_LOOKUPS = frozenset({Hello, Auth, Open, Resync, Audit})


@dataclass(frozen=True, slots=True)
class Rates:
    """What a device may have the server do in each second. Any one of them alone uses up its share."""

    updates_per_s: int = 1_000
    """Messages. A PUSH counts as many as it has updates; see also LOOKUP_UPDATES."""
    bytes_per_s: int = 1 << 20
    """Bytes received; of updates after they were inflated."""
    answer_bytes_per_s: int = 4 << 20
    """Bytes of documents read for it, and of errors told to it."""
    presences_per_s: int = 10
    """PRESENCE frames passed on; of those in between only the last one is. Kept apart from the share."""
    burst_s: float = 10.0
    """What a device that was quiet may use at once, in seconds of its share."""


class Tariff:
    """What things cost, in seconds of a device's share."""

    def __init__(self, rates: Rates) -> None:
        self._update_s = 1 / rates.updates_per_s
        self._byte_s = 1 / rates.bytes_per_s
        self._answer_byte_s = 1 / rates.answer_bytes_per_s
        self.presence_s = 1 / rates.presences_per_s

    def message_s(self, frame: DeviceFrame, size: int) -> float:
        """A message of `size` bytes."""
        if type(frame) is Push:
            inflated = bytes_of(frame.updates)
            taken = inflated if inflated > size else size  # noqa: FURB136 - each message pays
            return (len(frame.updates) or 1) * self._update_s + taken * self._byte_s
        return (LOOKUP_UPDATES if type(frame) in _LOOKUPS else 1) * self._update_s + size * self._byte_s

    def answer_s(self, size: int) -> float:
        return size * self._answer_byte_s

    def structs_s(self, structs: int) -> float:
        return structs // STRUCTS_PER_UPDATE * self._update_s if structs else 0.0


@dataclass(slots=True)
class Bucket:
    """What somebody owes, in seconds: nothing from `paid_at` on, on the caller's clock."""

    paid_at: float = float("-inf")

    def charge(self, cost_s: float, now: float) -> float:
        """Take `cost_s`, however much is owed already; returns what is owed now."""
        paid_at = self.paid_at
        self.paid_at = paid_at = (paid_at if paid_at > now else now) + cost_s  # noqa: FURB136 - each message pays
        return paid_at - now

    def owed_s(self, now: float) -> float:
        return max(0.0, self.paid_at - now)

    def forgive(self, owed_s: float, now: float) -> None:
        """No more than `owed_s` is owed."""
        self.paid_at = min(self.paid_at, now + owed_s)


@dataclass(slots=True)
class Account:
    """What one device has used and has waiting, over all its connections; `session` is the live one."""

    device: DeviceId
    session: Session | None = None
    used: Bucket = field(default_factory=Bucket)
    shown: Bucket = field(default_factory=Bucket)
    """Its presence."""
    lap_s: float = 0.0
    """Used since it last let others go first."""
    queued_bytes: int = 0


class Accounts:
    """Accounts by device: of those connected, and of others as long as they owe something, `kept_max` at most."""

    def __init__(self, kept_max: int, sessions_per_user: int) -> None:
        self._kept_max = kept_max
        self._sessions_per_user = sessions_per_user
        self._live: dict[DeviceId, Account] = {}
        self._left: OrderedDict[DeviceId, Account] = OrderedDict()
        """Without a connection, who left first in front."""
        self._sessions: Counter[tuple[str, bool]] = Counter()
        """Connected devices by user, ephemeral ones apart."""

    def __iter__(self) -> Iterator[Account]:
        return iter([*self._live.values(), *self._left.values()])

    def enter(self, session: Session) -> Account:
        """The device of a session is here. Raises PeerError if its user has too many others."""
        device = self._place(session.device) if session.device.is_ephemeral else session.device
        account = self._live.get(device)
        if account is None:
            if self._sessions[_kind_of(device)] >= self._most_of(device):
                raise PeerError(Code.RATE_LIMITED, "too many devices of this user are connected")
            account = self._left.pop(device) if device in self._left else Account(device)
            self._live[device] = account
            self._sessions[_kind_of(device)] += 1
        account.session = session
        return account

    def _place(self, device: DeviceId) -> DeviceId:
        """Whose account an ephemeral device has: whoever connects anew owes what the one before it did."""
        places = (device.registered.ephemeral(str(number)) for number in range(self._most_of(device) + 1))
        return next(place for place in places if place not in self._live)

    def _most_of(self, device: DeviceId) -> int:
        return self._sessions_per_user * (EPHEMERALS_PER_SESSION if device.is_ephemeral else 1)

    def leave(self, session: Session, now: float) -> None:
        """The connection of a session is gone."""
        account = session.account
        if account is None or account.session is not session:
            return
        account.session = None
        kind = _kind_of(account.device)
        self._sessions[kind] -= 1
        if not self._sessions[kind]:
            del self._sessions[kind]
        self._left[account.device] = self._live.pop(account.device)
        self.forget_idle(now)

    def forget_idle(self, now: float) -> None:
        """Drop accounts that owe nothing, and the oldest of too many. What has something queued stays."""
        while self._left:
            device, account = next(iter(self._left.items()))
            if account.queued_bytes:
                self._left.move_to_end(device)
                return
            if len(self._left) <= self._kept_max and account.used.owed_s(now):
                return
            del self._left[device]


def _kind_of(device: DeviceId) -> tuple[str, bool]:
    return device.user, device.is_ephemeral
