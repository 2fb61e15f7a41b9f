"""What AUDIT compares, frozen like the frames: a document with a value of every kind, and its canonical JSON."""

from __future__ import annotations

import json
from hashlib import blake2b

from crdt.protocol.frames import DIGEST_BYTES
from crdt.replica import Replica
from crdt.values import canonical_json
from tests.golden import story

GOLDEN = json.loads((story.FILE.parent / "digest.json").read_text())


def test_a_document_of_every_kind_has_its_golden_canonical_json() -> None:
    """Twenty times: the library keeps maps in an order of chance, which must never show."""
    for _ in range(20):
        replica = Replica.load([bytes.fromhex(GOLDEN["state"])])
        clocks = [list(pair) for pair in sorted(replica.state_vector().items())]

        assert canonical_json([clocks, replica.values()]).decode() == GOLDEN["canonical"]
        assert replica.digest().hex() == GOLDEN["digest"]


def test_the_digest_is_the_hash_of_the_canonical_json() -> None:
    canonical = GOLDEN["canonical"].encode()

    assert blake2b(canonical, digest_size=DIGEST_BYTES).hexdigest() == GOLDEN["digest"]
