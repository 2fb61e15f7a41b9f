"""What can not be done is said before anything begins."""

from __future__ import annotations

import pytest

from client_sim.errors import NotPossible
from client_sim.fleet.plan import Plan
from client_sim.fleet.profiles import PROFILES
from client_sim.fleet.request import DEVICES_MAX, Request, StoreKind, check


def request_of(users: int, devices: int) -> Request:
    plan = Plan(users, devices, PROFILES["office"], duration_s=10.0)
    return Request(plan, None, None, None, None, plain=True, store=StoreKind.MEMORY, recorded=None, command="")


def test_more_devices_than_a_process_has_room_for_are_refused() -> None:
    assert check(request_of(DEVICES_MAX, 1)) is None
    for users, devices in ((1_000_000, 1_000_000), (1, DEVICES_MAX + 1)):
        with pytest.raises(NotPossible, match="--users times --devices"):
            check(request_of(users, devices))
