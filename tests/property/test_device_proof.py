"""Devices with keys on the hub itself: both ends mean the same by a proof."""

from __future__ import annotations

from typing import Any

import pytest

from client_sim.core import events
from client_sim.core.device import Device
from client_sim.core.effects import Effect, FetchToken
from client_sim.core.status import State
from client_sim.live.keys import DeviceKey
from crdt.protocol.codec import encode
from crdt.protocol.frames import Nonce
from tests.property.test_device_hub import Side, World
from tests.unit.server.core.lab import token

KEY, OTHER_KEY = DeviceKey.generate(), DeviceKey.generate()
BOUND: dict[str, Any] = {"cnf": {"jkt": KEY.thumbprint}}


class KeySide(Side):
    """A device that may have a key, and whose tokens have these claims beside the usual ones."""

    def __init__(self, world: World, key: DeviceKey | None, **claims: Any) -> None:
        self.key = key
        self.claims = claims
        super().__init__(world, "phone", 1)

    def new_device(self) -> Device:
        return Device(self.name, self.store, self.rng, key=self.key)

    def deliver_down(self) -> bool:
        """The lab keeps nonces apart; they come first."""
        if self.session is not None and (nonce := self.world.lab.nonces.pop(self.session, None)):
            self.feed(events.MessageReceived(encode(Nonce(nonce))))
            return True
        return super().deliver_down()

    def execute(self, effect: Effect) -> None:
        match effect:
            case FetchToken(device):
                self.feed(events.TokenFetched(device, token("alice", device, **self.claims)))
            case _:
                super().execute(effect)


def meet(key: DeviceKey | None, **claims: Any) -> tuple[World, KeySide]:
    world = World(())
    side = KeySide(world, key, **claims)
    world.sides.append(side)
    world.finish()
    return world, side


@pytest.mark.parametrize(("key", "claims"), [(KEY, BOUND), (KEY, {}), (OTHER_KEY, {}), (None, {})])
def test_who_may_use_a_token_gets_in(key: DeviceKey | None, claims: dict[str, Any]) -> None:
    world, side = meet(key, **claims)
    assert side.device.status.state is State.CURRENT
    for _ in range(3):
        side.lose()
        world.edit(side, at_end=True)
        world.finish()
        assert side.device.document("main").pending == 0


@pytest.mark.parametrize("key", [None, OTHER_KEY])
def test_who_has_only_the_token_is_refused_and_keeps_its_work(key: DeviceKey | None) -> None:
    world, side = meet(key, **BOUND)
    world.edit(side, at_end=True)
    world.finish()
    assert side.device.counters.connections == 0
    assert str(side.device.status).startswith("blocked (expired_login: replayed: ")
    assert side.device.document("main").pending == 1


def test_a_fresh_token_on_a_connection_that_has_proved_its_key_needs_no_other_proof() -> None:
    world, side = meet(KEY, **BOUND)
    side.feed(events.TokenFetched("phone", token("alice", "phone", jti="second", **BOUND)))
    world.finish()
    assert side.device.status.state is State.CURRENT
    assert side.device.counters.connections == 1


def test_a_bound_token_on_a_connection_without_a_proof_is_proved_on_the_next() -> None:
    world, side = meet(KEY)
    side.claims = BOUND
    side.feed(events.TokenFetched("phone", token("alice", "phone", **BOUND)))
    world.finish()
    assert side.device.status.state is State.CURRENT
    assert side.device.counters.connections == 2
