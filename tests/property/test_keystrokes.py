"""The short way to take in a stored update does what the long way does, and takes nothing that that refuses."""

from __future__ import annotations

import os
from collections.abc import Iterable
from random import Random

import pytest

from crdt.update import (
    Layout,
    StateVector,
    needs_of,
    read_typed,
    read_update,
    take_deleted,
    take_keystrokes,
    take_typed,
)
from tests.property.histories import EDITS, happen
from tests.property.test_layout import deepen, with_one_byte_changed

SOAK = bool(os.environ.get("SYNCLINE_SOAK"))
SEEDS = range(2_000 if SOAK else 15)


def is_short(layout: Layout, update: bytes, known: StateVector) -> bool:
    """True if the update was taken in the short way; if not, nothing has changed."""
    before, packed, writers = dict(known), layout.pack(), dict[int, None]()
    taken = take_keystrokes(layout, [update], 0, known, writers)
    assert list(writers) == [client for client in known if known[client] != before.get(client)]
    assert taken or (known, layout.pack()) == (before, packed)
    either = Layout.unpack(packed)
    typed = read_typed(update)
    client = typed and take_typed(either, typed, before, dict.fromkeys(before, "alice"), "alice")
    deleted = take_deleted(either, update, before)
    assert (client is not None or deleted is not None, before, either.pack()) == (bool(taken), known, layout.pack())
    if typed is not None and client is not None:
        read = read_update(update)
        assert (last(needs_of(typed)), [client], deleted) == (last(read.needs), list(read.sections), None)
    if deleted is not None:
        read = read_update(update)
        assert ([deleted], {}) == (read.needs, read.sections)
    return bool(taken)


def last(needs: Iterable[tuple[int, int]]) -> dict[int, int]:
    """By client."""
    return dict(sorted(needs))


def test_who_may_not_write_under_a_client_id_is_read_in_full() -> None:
    layout, known = Layout(), dict[int, int]()
    first, *rest = happen(1, devices=1, steps=40, edits=EDITS).updates
    update = read_update(first)
    layout.admit(update, known)
    update.advance(known)
    before, packed = dict(known), layout.pack()
    for data in rest:
        if read_update(data).sections:
            for owners in ({}, dict.fromkeys(known, "bob")):
                typed = read_typed(data)
                assert typed is None or take_typed(layout, typed, known, owners, "alice") is None
    assert (known, layout.pack()) == (before, packed)


def unpacked(layout: Layout) -> Layout:
    return Layout.unpack(layout.pack())


@pytest.mark.parametrize("seed", SEEDS)
def test_both_ways_lead_to_the_same(seed: int) -> None:
    random = Random(seed)
    layout, known, short = Layout(), dict[int, int](), 0
    edits = (*EDITS, *EDITS[:3] * 5, *(deepen,) * (seed % 3) * 3)
    for data in happen(seed, devices=random.choice((1, 3)), steps=60, edits=edits).updates:
        for _ in range(5):
            check_damaged(layout, with_one_byte_changed(data, random), known)
        update, either, known_then = read_update(data), unpacked(layout), dict(known)
        layout.admit(update, known)
        update.advance(known)
        if is_short(either, data, known_then):
            assert (either.pack(), either.items, known_then) == (layout.pack(), layout.items, known)
            short += 1
    assert short


def check_damaged(layout: Layout, damaged: bytes, known: StateVector) -> None:
    """What is not as it was written is taken in the short way only if the long way would do the same."""
    either, known_then = unpacked(layout), dict(known)
    if is_short(either, damaged, known_then):
        long, update, known_long = unpacked(layout), read_update(damaged), dict(known)
        assert update.missing(known_long) is None
        long.admit(update, known_long)
        update.advance(known_long)
        assert (either.pack(), known_then) == (long.pack(), known_long)
