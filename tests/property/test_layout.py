"""The layout refuses nothing honest, whatever it was made from, and is unchanged by what it refuses."""

from __future__ import annotations

import os
from random import Random
from typing import Any

import pytest
from pycrdt import Array, Doc, Map, Text

from crdt.errors import BadUpdate
from crdt.replica import Replica
from crdt.update import Layout, StateVector, Update, read_update, write_state_vector
from tests.property.histories import EDITS, converge, happen
from tests.unit.crdt.checked import Checked

SOAK = bool(os.environ.get("SYNCLINE_SOAK"))
SEEDS = range(2_000 if SOAK else 15)


def deepen(doc: Doc[Any], random: Random) -> None:
    """Put something into, or take it out of, a container some levels down."""
    node: Any = doc.get("array", type=Array)
    for _ in range(random.randint(1, 3)):
        children = list(node) if isinstance(node, Array) else [node[key] for key in sorted(node.keys())]
        containers = [child for child in children if isinstance(child, Array | Map)]
        if containers:
            node = random.choice(containers)
    value = random.choice((1, "s", Map({"a": Array([1, Map()])}), Array([Text("deep 😀"), 2]), Text("t")))
    if isinstance(node, Map):
        node[random.choice("pq")] = value
    elif len(node) and random.random() < 0.3:
        del node[random.randrange(len(node))]
    else:
        node.insert(random.randint(0, len(node)), value)


def admit(layout: Layout, update: bytes, known: StateVector) -> None:
    read = read_update(update, bounded=True)
    assert read.missing(known) is None
    layout.admit(read, known)
    read.advance(known)


@pytest.mark.parametrize("seed", SEEDS)
def test_no_edit_is_refused_however_often_the_document_was_compacted(seed: int) -> None:
    random = Random(seed)
    document = Checked()
    edits = (*EDITS, *(deepen,) * (seed % 3) * 5)
    for update in happen(seed, devices=random.choice((2, 3, 5)), steps=60, edits=edits).updates:
        document.push(update)
        if random.random() < 0.1:
            document.compact()
        if random.random() < 0.1:
            document.layout = Layout.unpack(document.layout.pack())
    assert document.replica().state_vector() == document.known


@pytest.mark.parametrize("seed", SEEDS)
def test_no_diff_is_refused(seed: int) -> None:
    """Devices that were apart send what the other lacks, with the whole delete set, to a document in any state."""
    random = Random(seed)
    history = happen(seed)
    for _ in range(10):
        state, other = random.choice(history.states), Replica.load([random.choice(history.states)])
        document = Checked([state])
        diff = other.diff(write_state_vector(document.known))
        if read_update(diff).missing(document.known) is None:
            document.push(diff)


@pytest.mark.parametrize("seed", SEEDS)
def test_what_comes_again_is_taken_and_changes_nothing(seed: int) -> None:
    document = Checked(happen(seed).updates)
    packed = document.layout.pack()
    for update in document.log:
        admit(document.layout, update, document.known)
    document.layout.ranges = Layout.unpack(packed).ranges
    assert document.layout.pack() == packed


@pytest.mark.parametrize("seed", SEEDS)
def test_a_layout_that_lost_its_end_is_as_good_as_one_that_never_had_it(seed: int) -> None:
    random = Random(seed)
    updates = happen(seed, steps=40).updates
    cut = random.randrange(len(updates))
    document = Checked(updates[:cut])
    durable = dict(document.known)
    for update in updates[cut:]:
        document.push(update)
    document.layout.truncate(durable)
    fresh = Layout.of(updates[:cut])
    for update in updates[cut:]:
        known = dict(durable)
        damaged = damage(update, random)
        assert verdict(document.layout, damaged, known) == verdict(fresh, damaged, known)
        admit(document.layout, update, durable)
        admit(fresh, update, known)


def verdict(layout: Layout, read: Update | None, known: StateVector) -> str | None:
    """Why an update is refused, leaving the layout as it was."""
    if read is None or read.missing(known) is not None:
        return None
    probe = Layout.unpack(layout.pack())
    try:
        probe.admit(read, known)
    except BadUpdate as refused:
        return refused.message
    return ""


def damage(update: bytes, random: Random) -> Update | None:
    """The update with one byte changed, if that can still be read."""
    try:
        return read_update(with_one_byte_changed(update, random), bounded=True)
    except BadUpdate:
        return None


def with_one_byte_changed(update: bytes, random: Random) -> bytes:
    damaged = bytearray(update)
    damaged[random.randrange(len(damaged))] = random.choice(
        (0, 1, 2, 3, 4, 8, 0x21, 0x28, 0x44, 0x84, random.randrange(256))
    )
    return bytes(damaged)


@pytest.mark.parametrize("seed", SEEDS)
def test_after_damaged_updates_all_honest_ones_are_taken(seed: int) -> None:
    random = Random(seed)
    history = happen(seed)
    converge(history)
    base = history.replicas[0].state()
    for _ in range(20):
        document = Checked([base])
        known = dict(document.known)
        for update in random.sample(history.updates, 3):
            read = damage(update, random)
            if read is None or read.missing(known) is not None:
                continue
            packed = document.layout.pack()
            try:
                document.layout.admit(read, known)
            except BadUpdate:
                assert document.layout.pack() == packed
            else:
                read.advance(known)
        # The layout took what the document never got: those ops did not become durable.
        document.layout.truncate(document.known)
        for update in history.updates:
            admit(document.layout, update, document.known)
