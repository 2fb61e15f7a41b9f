"""Only what differs from the documented defaults travels."""

from __future__ import annotations

from crdt.limits import CHUNK_BYTES, DEFLATE_FROM_BYTES, Limits


def test_the_defaults_differ_in_nothing() -> None:
    assert Limits().differing() == {}


def test_what_differs_is_named() -> None:
    assert Limits(update_bytes=10, opens_per_hello=1).differing() == {"update_bytes": 10, "opens_per_hello": 1}


def test_the_defaults_fit_into_each_other() -> None:
    limits = Limits()
    assert limits.update_bytes < limits.message_bytes <= limits.inflated_bytes
    assert limits.token_bytes < limits.hello_bytes <= limits.message_bytes
    assert limits.state_vector_bytes < limits.message_bytes
    assert DEFLATE_FROM_BYTES < CHUNK_BYTES < limits.message_bytes
