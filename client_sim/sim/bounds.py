"""Small limits, so that every bound is met all the time; large ones are met by load tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from random import Random

from client_sim.core import copy, pushing
from crdt.limits import Limits
from server.core import arrivals, catchup, inspector, membership
from server.core.admission import AdmissionPolicy
from server.core.compaction import CompactionPolicy
from server.core.options import CoreOptions
from server.core.rates import Rates

_TINY = (
    (membership, "CHUNK_BYTES", 300),
    (arrivals, "TURN_OPS", 4),
    (arrivals, "TURN_BYTES", 400),
    (inspector, "LIGHT_BYTES", 500),
    (catchup, "TAIL_ALWAYS_BYTES", 64),
    (pushing, "WINDOW_OPS", 5),
    (pushing, "WINDOW_BYTES", 600),
    (copy, "CACHED_UPDATES_MIN", 7),
)
"""Constants of the product that are bounds, and are not options."""

OUTBOX = (4_000, 400_000)
OUTBOX_TINY = (700, 60_000)
"""Bytes that wait for a reader before it is a slow one, and before it is cut off."""


@contextmanager
def constants(*, tiny: bool) -> Iterator[None]:
    """Within, the bounds that are constants are small."""
    before = [(module, name, getattr(module, name)) for module, name, _ in _TINY]
    try:
        for module, name, value in _TINY if tiny else ():
            setattr(module, name, value)
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)


def options(rng: Random, *, tiny: bool, long: bool, proof: bool) -> CoreOptions:
    """A server's, all processes' the same. In a long run nothing is done every minute that can be done every hour."""
    heartbeat_s = rng.choice((3_000.0, 9_000.0)) if long else 30.0
    sweep_s = 20_000.0 if long else 60.0
    if not tiny:
        policy = CompactionPolicy(entries_max=rng.choice((20, 60, 2_000)), entries_min=10, rest_s=0.0)
        return CoreOptions(proof=proof, heartbeat_s=heartbeat_s, sweep_s=sweep_s, compaction=policy)
    limits = Limits(
        message_bytes=24_000,
        hello_bytes=6_000,
        update_bytes=16_000,
        inflated_bytes=30_000,
        updates_per_push=3,
        opens_per_hello=1,
        documents_per_session=2,
        state_vector_bytes=4_000,
        presence_bytes=40,
        report_bytes=100,
        token_bytes=1_000,
    )
    return CoreOptions(
        limits=limits,
        proof=proof,
        heartbeat_s=heartbeat_s,
        sweep_s=sweep_s,
        resident_bytes_max=rng.choice((1, 30_000)),
        tail_bytes_max=rng.choice((1, 900)),
        session_queued_bytes_max=rng.choice((500, 3_000)),
        payload_bytes_max=rng.choice((600, 5_000)),
        queued_bytes_max=rng.choice((2_000, 8_000)),
        asked_max=rng.choice((1, 3)),
        accounts_max=rng.choice((1, 5)),
        rates=Rates(updates_per_s=rng.choice((20, 500)), bytes_per_s=rng.choice((2_000, 1 << 20)), burst_s=5.0),
        admission=AdmissionPolicy(
            loads=rng.choice((1, 1_000)), hellos=rng.choice((1, 5)), hellos_per_turn=1, spread_s=2.0
        ),
        goaway_spread_s=2.0,
        compaction=CompactionPolicy(
            entries_max=rng.choice((5, 12)), bytes_min=400, entries_min=3, age_s=300.0, rest_s=0.0
        ),
    )
