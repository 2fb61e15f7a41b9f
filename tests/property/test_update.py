"""The reader of updates and the library agree on every history, and no bytes do more to the reader than be refused."""

from __future__ import annotations

import os
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycrdt import Array, Doc, Map, Text, get_state

from crdt.errors import BadUpdate, PeerError
from crdt.replica import Replica
from crdt.update import StateVector, Update, read_state_vector, read_update, root_kinds, write_state_vector
from tests.property.histories import converge, exchange, happen

SOAK = bool(os.environ.get("SYNCLINE_SOAK"))
SEEDS = range(1_000 if SOAK else 25)
MANY = settings(max_examples=20_000 if SOAK else 300, deadline=None)


def is_complete(replica: Replica, update: Update) -> bool:
    """True if all of `update` is integrated in `replica`, whose state has gaps if it is not."""
    known = replica.state_vector()
    ends = [(client, end) for client, (_, end) in update.sections.items()]
    ends += [(client, end) for client, _, end in update.deletes]
    if any(known.get(client, 0) < end for client, end in ends):
        return False
    deleted = {
        (client, clock) for client, start, end in read_update(replica.state()).deletes for clock in range(start, end)
    }
    return all((client, clock) in deleted for client, start, end in update.deletes for clock in range(start, end))


def replica_of(state: bytes) -> Replica:
    return Replica.load([state])


@pytest.mark.parametrize("seed", SEEDS)
def test_sections_end_where_the_library_says(seed: int) -> None:
    history = happen(seed)
    for state in history.states:
        ends = {client: end for client, (_, end) in read_update(state).sections.items()}
        assert ends == read_state_vector(get_state(state)) == replica_of(state).state_vector()
    for update in history.updates:
        read = read_update(update)
        assert len(read.sections) <= 1, "one device writes under one client id"
        assert sum(struct.length for struct in read.structs) == sum(
            end - start for start, end in read.sections.values()
        )


@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_is_missing_exactly_when_the_library_integrates_all(seed: int) -> None:
    random = Random(seed)
    history = happen(seed)
    fitted = 0
    for _ in range(40):
        update = random.choice(history.updates)
        replica = replica_of(random.choice(history.states))
        known = replica.state_vector()
        read = read_update(update)
        fits = read.missing(known) is None
        replica.apply([update])
        assert is_complete(replica, read) == fits
        if fits:
            fitted += 1
            read.advance(known)
            assert known == replica.state_vector()
    assert 0 < fitted < 40, "a history should show both"


@pytest.mark.parametrize("seed", SEEDS)
def test_diffs_fit_whoever_asked_for_them(seed: int) -> None:
    random = Random(seed)
    history = happen(seed)
    for _ in range(20):
        asking, asked = (replica_of(random.choice(history.states)) for _ in range(2))
        known = asking.state_vector()
        diff = asked.diff(write_state_vector(known))
        read = read_update(diff)
        changed = read.advance(advanced := dict(known))
        assert changed == (advanced != known)
        asking.apply([diff])
        if read.missing(known) is None:
            assert asking.state_vector() == advanced


@pytest.mark.parametrize("seed", SEEDS)
def test_devices_that_exchanged_everything_are_equal(seed: int) -> None:
    history = happen(seed)
    converge(history)
    digests = {replica.digest() for replica in history.replicas}
    assert len(digests) == 1
    first = history.replicas[0]
    assert replica_of(first.state()).digest() == first.digest()
    for replica in history.replicas:
        assert replica.values() == first.values()


@pytest.mark.parametrize("seed", SEEDS)
def test_values_are_what_an_app_reads(seed: int) -> None:
    replica = happen(seed).replicas[0]
    seen: dict[str, Any] = {}

    def read(doc: Doc[Any]) -> None:
        seen["text"] = str(doc.get("text", type=Text))
        seen["styled"] = str(doc.get("styled", type=Text))
        seen["array"] = [as_json(item) for item in doc.get("array", type=Array)]
        mapping: Map[Any] = doc.get("map", type=Map)
        seen["map"] = {key: as_json(mapping[key]) for key in sorted(mapping.keys())}

    replica.edit(read)
    values = replica.values()
    for root, value in seen.items():
        assert values.get(root, type(value)()) == value


def as_json(value: Any) -> Any:
    """What the app sees, with bytes written as values write them."""
    if isinstance(value, bytes | bytearray):
        return {"$bytes": value.hex()}
    return value.to_py() if isinstance(value, Text | Array | Map) else value


@pytest.mark.parametrize("seed", SEEDS)
def test_the_log_in_order_is_the_document(seed: int) -> None:
    history = happen(seed)
    known: StateVector = {}
    log = Replica()
    for update in history.updates:
        assert read_update(update).missing(known) is None
        assert read_update(update).advance(known) == bool(read_update(update).sections)
        log.apply([update])
        assert log.state_vector() == known
    converge(history)
    assert log.digest() == history.replicas[0].digest()


@pytest.mark.parametrize("seed", SEEDS)
def test_an_exchange_leaves_nothing_to_exchange(seed: int) -> None:
    history = happen(seed)
    left, right, _ = history.replicas
    exchange(left, right)
    assert left.digest() == right.digest()
    assert not left.apply_if_new(right.diff(left.state_vector_bytes()))


# --- hostile bytes


def varuint(number: int) -> bytes:
    return bytes([number]) if number < 0x80 else bytes([number & 0x7F | 0x80]) + varuint(number >> 7)


def read_or_refuse(update: bytes) -> None:
    """The reader raises BadUpdate or gives an update that can be asked everything."""
    try:
        read = read_update(update)
        root_kinds(read)
    except BadUpdate:
        return
    read.missing({})
    read.advance({})


@MANY
@given(st.binary(max_size=200))
def test_random_bytes_are_read_or_refused(update: bytes) -> None:
    read_or_refuse(update)


@MANY
@given(
    st.lists(
        st.sampled_from([0, 1, 2, 4, 5, 7, 8, 0x28, 0x44, 0x74, 0x75, 0x76, 0x77, 0x7D, 0x84, 0xC4, 0xFF]), max_size=40
    )
)
def test_bytes_that_look_like_structs_are_read_or_refused(tail: list[int]) -> None:
    read_or_refuse(bytes([1, 1, 5, 0, *tail]))


uints = (
    st.integers(0, 1 << 56).map(varuint) | st.integers(0, 300).map(varuint) | st.just(b"\x85" + 12 * b"\x80" + b"\x00")
)


@MANY
@given(uints, uints, st.sampled_from([0x84, 0x44, 0xC4, 0x04]), st.lists(uints, max_size=4), st.binary(max_size=9))
def test_the_short_way_and_the_long_way_agree(
    client: bytes, clock: bytes, info: int, ids: list[bytes], run: bytes
) -> None:
    """Deletes of another client keep an update from the short way for one typed run, and change nothing else of it."""
    update = b"\x01\x01" + client + clock + bytes([info]) + b"".join(ids) + bytes([len(run)]) + run
    short, long = update + b"\x00", update + b"\x01\x63\x01\x00\x01"
    try:
        expected = read_update(long)
    except BadUpdate:
        with pytest.raises(BadUpdate):
            read_update(short)
    else:
        read = read_update(short)
        assert (read.sections, read.structs) == (expected.sections, expected.structs)


@pytest.mark.parametrize("seed", SEEDS)
def test_damaged_updates_are_read_or_refused(seed: int) -> None:
    random = Random(seed)
    state = bytearray(happen(seed).states[-1])
    for _ in range(200):
        damaged = state[:]
        for _ in range(random.randint(1, 4)):
            at = random.randrange(len(damaged))
            match random.randrange(3):
                case 0:
                    damaged[at] = random.randrange(256)
                case 1:
                    del damaged[at : at + random.randint(1, 4)]
                    damaged += b"\x00"
                case _:
                    damaged[at:at] = damaged[: random.randint(1, 8)]
        read_or_refuse(bytes(damaged))


@pytest.mark.parametrize("seed", SEEDS)
def test_cut_updates_are_refused(seed: int) -> None:
    state = happen(seed).states[-1]
    for size in range(0, len(state), 7):
        with pytest.raises(BadUpdate):
            read_update(state[:size])


@MANY
@given(st.binary(max_size=60))
def test_random_state_vectors_are_read_or_refused(state_vector: bytes) -> None:
    try:
        found = read_state_vector(state_vector)
    except PeerError:
        return
    assert read_state_vector(write_state_vector(found)) == found


@MANY
@given(st.dictionaries(st.integers(0, (1 << 53) - 1), st.integers(0, (1 << 31) - 1), max_size=8))
def test_state_vectors_survive_the_wire(state_vector: dict[int, int]) -> None:
    assert read_state_vector(write_state_vector(state_vector)) == state_vector
