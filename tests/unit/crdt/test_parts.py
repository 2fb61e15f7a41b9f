"""A large document in parts: each is an update as devices send them, and together they are the document."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycrdt import Array, Doc, Map, Text

from crdt.errors import BadUpdate
from crdt.replica import Replica
from crdt.update import EMPTY_UPDATE, Layout, StateVector, fitting, parts, parts_in_turns, reach, read_update
from crdt.update.fitting import TURN_STRUCTS, in_order, pieces_of
from tests.unit.crdt.documents import uint


def edit(doc: Doc[Any], rng: Random) -> None:
    text, values, tree = doc.get("t", type=Text), doc.get("v", type=Array), doc.get("m", type=Map)
    match rng.randrange(6):
        case 0 | 1:
            text.insert(rng.randint(0, len(text)), rng.choice(("word ", "a")))
        case 2 if len(text) > 3:
            at = rng.randrange(len(text) - 2)
            del text[at : at + 2]
        case 3:
            values.insert(rng.randint(0, len(values)), rng.randrange(100))
        case 4:
            tree[rng.choice("abc")] = Map({"in": Text("nested")})
        case _:
            tree[rng.choice("abc")] = rng.randrange(100)


def written_together(seed: int, edits: int) -> Replica:
    """Three who write, and hear of each other now and then."""
    rng = Random(seed)
    replicas = [Replica(client) for client in (5, 1 << 31, 7)]
    for _ in range(edits):
        one, other = rng.sample(replicas, 2)
        one.edit(lambda doc: edit(doc, rng))
        if rng.random() < 0.4:
            other.apply([one.diff(other.state_vector_bytes())])
    for other in replicas[1:]:
        replicas[0].apply([other.state()])
    return replicas[0]


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), edits=st.integers(1, 60), structs_max=st.integers(1, 9))
def test_parts_are_taken_one_by_one_and_make_the_whole(seed: int, edits: int, structs_max: int) -> None:
    whole = written_together(seed, edits)
    layout, known, made = Layout(), dict[int, int](), Replica()
    for part in parts(whole.state(), structs_max, 1 << 20):
        update = read_update(part, bounded=True)
        assert 0 < len(update.structs) <= structs_max
        assert update.missing(known) is None
        layout.admit(update, known)
        update.advance(known)
        made.apply((part,))
    assert made.state_vector() == whole.state_vector() == known
    assert made.values() == whole.values()
    assert not made.apply_if_new(whole.state()), "all that is deleted came too"


def test_parts_are_about_as_long_as_they_may_be() -> None:
    author = Replica(7)
    for word in ("a" * 100, "b" * 100, "c" * 1000, "d" * 100):
        author.edit(lambda doc, word=word: doc.get("v", type=Array).append(word))  # type: ignore[misc]
        author.edit(lambda doc: doc.get("t", type=Text).insert(0, "-"))
    lengths = [len(part) for part in parts(author.state(), 100, 250)]
    assert [length // 1000 for length in lengths] == [0, 1, 0]


def test_nothing_has_no_parts_and_a_small_document_is_one() -> None:
    assert list(parts(EMPTY_UPDATE, 10, 1000)) == []
    state = written_together(1, 5).state()
    (whole,) = parts(state, 1000, 1 << 20)
    assert Replica.load([whole]).values() == Replica.load([state]).values()


def test_what_is_no_update_has_no_parts() -> None:
    with pytest.raises(BadUpdate):
        list(parts(b"\x01\x01\x01", 10, 1000))


def test_an_update_reaches_as_far_as_its_structs_do() -> None:
    state = written_together(2, 30).state()
    assert reach(state) == Replica.load([state]).state_vector()
    known: StateVector = {}
    assert reach(fitting(state, known)) == reach(state)


def test_what_is_deleted_but_kept_is_deleted_with_the_part_that_brings_it() -> None:
    keeper: Doc[Any] = Doc(client_id=7, skip_gc=True)
    body = keeper.get("t", type=Text)
    for at in range(6):
        body.insert(0, f"{at} ")
    del body[3:9]
    state = keeper.get_update()
    assert b"3 " in state
    found = list(parts(state, 2, 1 << 20))
    assert Replica.load(found).values() == {"t": str(body)}
    assert [bool(read_update(part).deletes) for part in found].count(True) > 1


def words(client: int, lefts: list[tuple[int, int] | None]) -> bytes:
    """A client's section of one letter each, behind these, or in a root."""
    structs = [
        b"\x04\x01\x01t\x01w" if left is None else b"\x84" + uint(left[0]) + uint(left[1]) + b"\x01w" for left in lefts
    ]
    return uint(len(structs)) + uint(client) + b"\x00" + b"".join(structs)


def deleting(ranges: int) -> bytes:
    return b"\x00\x01\x07" + uint(ranges) + b"".join(uint(2 * at) + b"\x01" for at in range(ranges))


def test_who_waits_is_looked_at_once_what_it_waits_for_is_there() -> None:
    """Two write in turn, each behind the other, and a hundred wait for what comes last."""
    turns, waiting = 300, 100
    one = words(1, [None, *((2, at) for at in range(turns - 1))])
    other = words(2, [(1, at) for at in range(turns)])
    rest = b"".join(words(1000 + client, [(1, turns - 1)]) for client in range(waiting))
    sections, _ = pieces_of(uint(2 + waiting) + one + other + rest + b"\x00")
    have: StateVector = {}
    looks = taken = 0
    for piece in in_order(sections, have):
        looks += 1
        if piece is not None:
            taken += 1
            have[piece.struct.client] = piece.struct.clock + 1
    assert taken == 2 * turns + waiting
    assert looks <= 2 * taken


def test_what_is_known_already_is_passed_over_in_turns() -> None:
    count = 4 * TURN_STRUCTS
    whole = b"\x01" + words(7, [None, *((7, at) for at in range(count - 1))]) + b"\x00"
    steps = list(parts_in_turns(whole, {7: count}, 100, 1 << 20))
    assert steps == [None] * len(steps)
    assert len(steps) >= 7, "to read them, and to look at them"


def test_deletes_of_what_was_there_are_read_and_go_in_a_few_at_a_time() -> None:
    ranges = 3 * TURN_STRUCTS
    steps = list(parts_in_turns(deleting(ranges), {7: 2 * ranges}, 1000, 1 << 20))
    made = [read_update(part).deletes for part in steps if part is not None]
    assert len(steps) - len(made) >= 3
    assert max(map(len, made)) == 1000
    assert [one for part in made for one in part] == read_update(deleting(ranges)).deletes
    with pytest.raises(BadUpdate):
        list(parts_in_turns(deleting(ranges), {7: 2 * ranges}, 1000, 1 << 20, ranges - 1))


def test_what_a_struct_holds_is_checked_where_its_part_is_taken() -> None:
    """To look into megabytes of JSON takes long; 16 emoji count twice each."""
    unfinished = b"\x05\x01\x01t" + uint(100_000) + b"[" * 100_000
    emoji = b"\x84\x07\x00" + uint(64) + "\N{GRINNING FACE}".encode() * 16
    (part,) = parts(b"\x01\x02\x07\x00" + unfinished + emoji + b"\x00", 10, 1 << 20)
    with pytest.raises(BadUpdate):
        read_update(part)
    assert reach(part) == {7: 33}
