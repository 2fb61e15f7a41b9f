"""The running hash that tells two devices with one identity apart."""

from __future__ import annotations

from hashlib import blake2b

from crdt.chain import extend
from crdt.protocol.frames import CHAIN_BYTES, CHAIN_START


def test_the_chain_begins_with_zeros() -> None:
    assert bytes(8) == CHAIN_START
    assert extend(CHAIN_START, []) == CHAIN_START


def test_one_op_hashes_the_chain_before_it() -> None:
    expected = blake2b(bytes(8) + b"update", digest_size=8).digest()
    assert extend(CHAIN_START, [b"update"]) == expected
    assert len(expected) == CHAIN_BYTES


def test_ops_add_up_however_they_are_grouped() -> None:
    ops = [b"one", b"two", b"three"]
    assert extend(extend(CHAIN_START, ops[:1]), ops[1:]) == extend(CHAIN_START, ops)


def test_order_and_borders_count() -> None:
    chains = [extend(CHAIN_START, ops) for ops in ([b"a", b"b"], [b"b", b"a"], [b"ab"], [b"a", b"b", b""], [b"a"])]
    assert len(set(chains)) == len(chains)


def test_the_chain_is_what_the_protocol_says() -> None:
    """Fixed values: an independent client computes the same."""
    assert extend(CHAIN_START, [b"\x00\x00"]).hex() == "6003c90975e1e1c9"
    assert extend(CHAIN_START, [b"\x00\x00", b"\x01"]).hex() == "86dcabe6bf873d0b"
