"""Random worlds: whatever fails and whenever, what was acknowledged stays, and all end equal."""

from __future__ import annotations

import os

import pytest

from server.core import membership
from tests.property.hub_world import World

SOAK = "SYNCLINE_SOAK" in os.environ
STEPS = 400


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that small documents travel in chunks."""
    monkeypatch.setattr(membership, "CHUNK_BYTES", 150)


@pytest.mark.parametrize("seed", range(2_000 if SOAK else 40))
def test_one_server(seed: int) -> None:
    world = World(seed)
    for _ in range(STEPS):
        world.step()
    world.finish()


@pytest.mark.parametrize("seed", range(1_000 if SOAK else 20))
def test_two_servers_with_one_storage(seed: int) -> None:
    world = World(seed, labs=2)
    for _ in range(STEPS):
        world.step()
    world.finish()
