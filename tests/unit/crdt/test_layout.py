"""What only the whole document can tell about an update."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pycrdt import Array, Doc, Map, Text, XmlElement, XmlText

from crdt.errors import BadUpdate
from crdt.update import (
    NESTING_MAX,
    RANGES_MAX,
    STEPS_SMALL,
    STRUCTS_MAX,
    Id,
    Layout,
    read_update,
    without_right_origins,
)
from tests.unit.crdt.checked import Checked
from tests.unit.crdt.documents import array, delete, made, made_after, mapping, text, uint, xml


def update(client: int, clock: int, *structs: bytes, deletes: bytes = b"\x00") -> bytes:
    """One client's structs from a clock on, put together by hand."""
    return b"\x01" + uint(len(structs)) + uint(client) + uint(clock) + b"".join(structs) + deletes


def deleting(client: int, *ranges: tuple[int, int]) -> bytes:
    """A delete set of (start, length)."""
    return b"\x01" + uint(client) + uint(len(ranges)) + b"".join(uint(start) + uint(size) for start, size in ranges)


def of(client: int, clock: int) -> bytes:
    return uint(client) + uint(clock)


ROOT_A, ROOT_B = b"\x01\x01a", b"\x01\x01b"
X, ONE_NULL = b"\x01x", b"\x01\x7e"
EMOJI = b"\x04\xf0\x9f\x98\x80"


def is_refused(document: Checked, pushed: bytes, reason: str) -> None:
    """It is, with this reason, and nothing has changed."""
    before = document.layout.pack()
    with pytest.raises(BadUpdate) as refused:
        document.push(pushed)
    assert refused.value.detail == {"reason": reason}
    assert document.layout.pack() == before


RICH = made(
    lambda doc: text(doc).insert(0, "hello"),
    lambda doc: array(doc).extend([1, Map({"k": 1}), Array([2]), Text("t")]),
    lambda doc: mapping(doc).update({"k": 1}),
    lambda doc: xml(doc).children.append(XmlElement("p", {"c": "d"}, [XmlText("x")])),
)


def place(kind: str) -> bytes:
    """Within the first container of a kind in RICH: its parent as a struct names it."""
    if kind in ("text", "array", "map", "xml"):
        return b"\x01" + uint(len(kind)) + kind.encode()
    structs = read_update(RICH).structs
    return b"\x00" + of(1, next(struct.clock for struct in structs if struct.content == kind))


ANY, BINARY, STRING, EMBED, FORMAT = b"\x08", b"\x03", b"\x04", b"\x05", b"\x06"
HOLDS = {ANY: ONE_NULL, BINARY: b"\x01\xff", STRING: X, EMBED: b"\x011", FORMAT: b"\x01b\x011", b"\x07": b"\x01"}
MISPLACED = {
    "text": (ANY, BINARY),
    "text_type": (ANY, BINARY),
    "xml_text": (ANY, BINARY),
    "array": (STRING, EMBED, FORMAT),
    "array_type": (STRING, EMBED, FORMAT),
    "map_type": (ANY, STRING, b"\x07"),
    "xml_element": (ANY, STRING, FORMAT, b"\x07"),
}


@pytest.mark.parametrize(("kind", "content"), [(kind, content) for kind in MISPLACED for content in MISPLACED[kind]])
def test_lists_hold_what_the_library_reads_in_them(kind: str, content: bytes) -> None:
    is_refused(Checked([RICH]), update(5, 0, content + place(kind) + HOLDS[content]), "schema")


@pytest.mark.parametrize("kind", ["text", "text_type", "xml_text", "array", "map", "map_type", "xml_element"])
def test_keys_hold_values(kind: str) -> None:
    value = bytes([ANY[0] | 0x20]) + place(kind) + b"\x01q" + ONE_NULL
    Checked([RICH]).push(update(5, 0, value))
    string = bytes([STRING[0] | 0x20]) + place(kind) + b"\x01q" + X
    is_refused(Checked([RICH]), update(5, 0, string), "schema")


def test_a_nested_list_has_no_keys_and_attributes_no_types() -> None:
    document = Checked([RICH])
    is_refused(document, update(5, 0, b"\x28" + place("array_type") + b"\x01q" + ONE_NULL), "schema")
    is_refused(document, update(5, 0, b"\x27" + place("xml_element") + b"\x01q\x01"), "schema")


def test_an_emoji_in_a_root_is_what_a_text_begins_with_but_no_array() -> None:
    emoji = b"\x01\x01\x05\x00\x04\x01\x01a" + EMOJI + b"\x00"
    assert Checked([emoji]).replica().values() == {"a": "😀"}
    is_refused(Checked([update(1, 0, ANY + ROOT_A + ONE_NULL)]), emoji, "schema")


def test_what_a_root_is_stays_known_in_a_snapshot() -> None:
    document = Checked([update(1, 0, ANY + ROOT_A + ONE_NULL)])
    document.compact()
    is_refused(document, update(5, 0, STRING + ROOT_A + X), "schema")


def test_neighbours_are_in_one_place() -> None:
    document = Checked([update(1, 0, STRING + ROOT_A + b"\x02ab", STRING + ROOT_B + b"\x02cd")])
    is_refused(document, update(5, 0, b"\xc4" + of(1, 0) + of(1, 3) + X), "schema")
    document.push(update(5, 0, b"\xc4" + of(1, 0) + of(1, 1) + X))
    assert document.replica().values() == {"a": "axb", "b": "cd"}


def test_neighbours_were_side_by_side() -> None:
    document = Checked([update(1, 0, STRING + ROOT_A + b"\x04abcd")])
    for left, right in ((2, 1), (1, 1), (0, 2)):
        is_refused(document, update(5, 0, b"\xc4" + of(1, left) + of(1, right) + X), "malformed")
    is_refused(document, update(5, 0, b"\x44" + of(1, 2) + X), "malformed")
    document.push(update(5, 0, b"\x44" + of(1, 0) + X))
    is_refused(document, update(6, 0, b"\x84" + of(5, 0) + X), "malformed")


def test_neighbours_stand_in_their_order() -> None:
    prepended = Checked([update(1, 0, STRING + ROOT_A + X, b"\x44" + of(1, 0) + X)])
    is_refused(prepended, update(5, 0, b"\xc4" + of(1, 0) + of(1, 1) + X), "malformed")
    concurrent = Checked([update(3, 0, STRING + ROOT_A + X), update(9, 0, STRING + ROOT_A + b"\x02yz")])
    is_refused(concurrent, update(5, 0, b"\xc4" + of(9, 1) + of(3, 0) + X), "malformed")
    concurrent.push(update(5, 0, b"\xc4" + of(3, 0) + of(9, 0) + b"\x01-"))
    assert concurrent.replica().values() == {"a": "x-yz"}
    twice = Checked(
        [update(1, 0, STRING + ROOT_A + X, *(b"\x44" + of(1, 0) + b"\x01" + char for char in (b"y", b"z")))]
    )
    is_refused(twice, update(5, 0, b"\xc4" + of(1, 1) + of(1, 2) + X), "malformed")
    twice.push(update(5, 0, b"\xc4" + of(1, 2) + of(1, 1) + b"\x01-"))
    assert twice.replica().values() == {"a": "z-yx"}
    prefixed = Checked(
        [
            update(1, 0, STRING + ROOT_A + b"\x01b", b"\x44" + of(1, 0) + b"\x01a"),
            update(2, 0, STRING + ROOT_A + b"\x02cd"),
        ]
    )  # "a" was put before "b", which stands before what the other client put where "b" was put
    is_refused(prefixed, update(5, 0, b"\xc4" + of(2, 1) + of(1, 1) + X), "malformed")
    is_refused(prefixed, update(5, 0, b"\xc4" + of(2, 0) + of(1, 1) + X), "malformed")
    prefixed.push(update(5, 0, b"\xc4" + of(1, 1) + of(1, 0) + b"\x01-"))
    assert prefixed.replica().values() == {"a": "a-bcd"}


def test_a_client_may_put_back_what_was_there_whatever_has_come_between() -> None:
    """As an undo manager does, in a container of its own: `l` and `r` are back, somebody has typed between them."""
    own = update(3, 0, STRING + ROOT_A + b"\x01l", b"\x84" + of(3, 0) + b"\x01-", b"\x84" + of(3, 1) + b"\x01r")
    document = Checked([own, update(5, 0, b"\xc4" + of(3, 1) + of(3, 2) + b"\x01+")])
    document.push(update(3, 3, b"\xc4" + of(3, 0) + of(3, 2) + b"\x01m"))
    document.push(update(3, 4, STRING + ROOT_A + b"\x01f"))
    document.push(update(3, 5, b"\x84" + of(3, 3) + b"\x01e"))
    assert document.replica().values() == {"a": "flme-+r"}


def test_what_is_put_back_the_wrong_way_round_has_no_right_neighbour_to_others() -> None:
    document = Checked([update(3, 0, STRING + ROOT_A + b"\x01r", STRING + ROOT_A + b"\x01l")])
    document.push(update(3, 2, b"\xc4" + of(3, 0) + of(3, 1) + b"\x01w"))
    document.push(update(5, 0, b"\x84" + of(3, 2) + b"\x01."))
    assert document.replica().values() == {"a": "lrw."}
    is_refused(document, update(5, 1, b"\xc4" + of(3, 0) + of(3, 1) + X), "malformed")


def test_behind_and_before_the_same_run_means_behind_it_once_that_is_said() -> None:
    """Where it is one block the library would put `w` in its midst, and behind it where it is two."""
    document = Checked([update(3, 0, STRING + ROOT_A + b"\x02lr")])
    unclear = update(3, 2, b"\xc4" + of(3, 1) + of(3, 1) + b"\x01w", b"\x84" + of(3, 2) + b"\x01x")
    is_refused(document, unclear, "malformed")
    named: list[Id] = []
    document.layout.admit(read_update(unclear), document.known, unclear=named)
    assert named == [Id(3, 2)]
    document.layout.truncate(document.known)
    clear = without_right_origins(unclear, named)
    assert clear == update(3, 2, b"\x84" + of(3, 1) + b"\x01w", b"\x84" + of(3, 2) + b"\x01x")
    document.push(clear)
    document.compact()
    assert document.replica().values() == {"a": "lrwx"}


def test_what_names_no_left_neighbour_is_refused_there_however_unclear_it_is() -> None:
    document = Checked([update(3, 0, STRING + ROOT_A + b"\x03abc")])
    again = read_update(update(3, 1, b"\x44" + of(3, 0) + b"\x05vwxyz"))
    with pytest.raises(BadUpdate):
        document.layout.admit(again, document.known, unclear=[])


def test_nothing_passes_over_what_others_wrote() -> None:
    document = Checked(
        [
            update(3, 0, STRING + ROOT_A + b"\x01l"),
            update(5, 0, b"\x84" + of(3, 0) + b"\x01+"),
            update(3, 1, b"\x84" + of(5, 0) + b"\x01r"),
            update(3, 2, b"\x84" + of(3, 1) + b"\x01s"),
        ]
    )
    for right in (1, 2):  # what is beside what another wrote is not alone
        is_refused(document, update(3, 3, b"\xc4" + of(3, 0) + of(3, right) + X), "malformed")


def test_the_rest_of_a_known_struct_goes_behind_its_beginning() -> None:
    document = Checked([update(9, 0, STRING + ROOT_A + X), update(1, 0, b"\x84" + of(9, 0) + b"\x02ab")])
    is_refused(document, update(1, 1, b"\x44" + of(9, 0) + b"\x04bxyz"), "malformed")
    is_refused(document, update(1, 1, STRING + ROOT_B + b"\x04bxyz"), "schema")
    document.push(update(1, 1, b"\x84" + of(1, 0) + b"\x04bxyz"))
    assert document.replica().values() == {"a": "xabxyz"}


def test_parents_are_containers() -> None:
    document = Checked([update(1, 0, STRING + ROOT_A + b"\x02ab")])
    is_refused(document, update(5, 0, ANY + b"\x00" + of(1, 1) + ONE_NULL), "schema")


def test_structs_do_not_refer_to_themselves_or_in_a_circle() -> None:
    document = Checked()
    is_refused(document, update(5, 0, b"\x84" + of(5, 0) + X), "malformed")
    is_refused(document, update(5, 0, b"\x84" + of(5, 1) + X, STRING + ROOT_A + X), "malformed")
    is_refused(document, update(5, 0, b"\x28\x00" + of(5, 0) + b"\x01k" + ONE_NULL), "malformed")
    circle = b"\x02\x01\x05\x00\x84" + of(6, 0) + X + b"\x01\x06\x00\x84" + of(5, 0) + X + b"\x00"
    is_refused(document, circle, "malformed")


def test_structs_are_placed_in_whichever_order_they_come() -> None:
    first, second = b"\x01\x05\x00\x84" + of(6, 0) + X, b"\x01\x06\x00" + STRING + ROOT_A + b"\x01y"
    for sections in (first + second, second + first):
        assert Checked([b"\x02" + sections + b"\x00"]).replica().values() == {"a": "yx"}


def test_a_reference_past_a_section_that_is_known_ends() -> None:
    document = Checked([update(5, 0, STRING + ROOT_A + b"\x04abcd")])
    known = b"\x01\x05\x00" + STRING + ROOT_A + X
    document.push(b"\x02" + b"\x01\x06\x00\x84" + of(5, 3) + X + known + b"\x00")
    assert document.replica().values() == {"a": "abcdx"}


def nested(depth: int) -> bytes:
    """Maps within maps."""
    inner = [b"\x27\x00" + of(5, at) + b"\x01k\x01" for at in range(depth - 1)]
    return update(5, 0, b"\x27" + ROOT_A + b"\x01k\x01", *inner)


def test_types_nest_to_a_limit() -> None:
    deepest = Checked([nested(NESTING_MAX)])
    assert deepest.replica().values()
    is_refused(Checked(), nested(NESTING_MAX + 1), "limit")
    deepest.push(update(6, 0, STRING + ROOT_A + X))
    under_key = b"\x00" + of(5, NESTING_MAX - 1) + b"\x01k"
    is_refused(deepest, update(6, 1, b"\x27" + under_key + b"\x01"), "limit")
    deepest.push(update(6, 1, b"\x28" + under_key + b"\x01\x7e"))  # a refused value takes no key


SPLITS = {
    "a left neighbour": update(5, 0, b"\x84" + of(1, 0) + X),
    "a right neighbour": update(5, 0, b"\x44" + of(1, 1) + X),
    "a delete range's begin": b"\x00" + deleting(1, (1, 1)),
    "a delete range's end": b"\x00" + deleting(1, (0, 1)),
    "beside what is known": update(2, 0, b"\x84" + of(1, 0) + X),
    "of its own": update(5, 0, STRING + ROOT_B + EMOJI, b"\x84" + of(5, 0) + X),
}


@pytest.mark.parametrize("pushed", SPLITS.values(), ids=SPLITS.keys())
def test_nothing_splits_a_surrogate_pair(pushed: bytes) -> None:
    document = Checked([update(1, 0, STRING + ROOT_A + EMOJI), update(2, 0, STRING + ROOT_B + X)])
    is_refused(document, pushed, "surrogate_split")
    document.compact()
    is_refused(document, pushed, "surrogate_split")


def test_nothing_goes_on_within_a_surrogate_pair() -> None:
    document = Checked([update(1, 0, STRING + ROOT_A + X)])
    is_refused(document, update(1, 0, STRING + ROOT_A + EMOJI), "surrogate_split")


def test_new_structs_are_bounded() -> None:
    whole = update(5, 0, *[b"\x00\x01"] * STRUCTS_MAX)
    document = Checked([whole])
    more = read_update(update(5, 0, *[b"\x00\x01"] * (STRUCTS_MAX + 1)))
    document.layout.admit(more, document.known)
    with pytest.raises(BadUpdate) as refused:
        Layout().admit(more, {})
    assert refused.value.detail == {"reason": "limit"}


def test_delete_ranges_are_bounded_by_what_the_document_has() -> None:
    many = [(2 * at, 1) for at in range(RANGES_MAX + 1)]
    characters = update(1, 0, STRING + ROOT_A + uint(3 * RANGES_MAX) + b"x" * 3 * RANGES_MAX)
    document = Checked([characters])
    is_refused(document, b"\x00" + deleting(1, *many), "limit")
    document.push(b"\x00" + deleting(1, *many[:-1]))
    document.push(b"\x00" + deleting(1, *many))
    compacted = Checked([characters, b"\x00" + deleting(1, *many[:-1])])
    compacted.compact()
    compacted.push(b"\x00" + deleting(1, *many))


def test_a_client_sees_its_own_values_of_a_key() -> None:
    value = b"\x28" + ROOT_A + b"\x01k" + ONE_NULL
    document = Checked([update(5, 0, value)])
    is_refused(document, update(5, 1, value), "schema")
    document.compact()
    is_refused(document, update(5, 1, value), "schema")
    document.push(update(6, 0, value))
    document.push(update(5, 1, b"\xa8" + of(6, 0) + ONE_NULL))


def test_a_client_may_write_again_into_what_is_deleted() -> None:
    """An app that still holds a map which is gone finds it empty."""
    inner = b"\x28\x00" + of(5, 0) + b"\x01k" + ONE_NULL
    document = Checked([update(5, 0, b"\x27" + ROOT_A + b"\x01m\x01", inner), b"\x00" + deleting(5, (0, 1))])
    document.push(update(5, 2, inner))
    document.compact()
    document.push(update(5, 3, inner))
    assert document.replica().values() == {}


def test_no_value_comes_before_another_of_its_key() -> None:
    document = Checked([update(5, 0, b"\x28" + ROOT_A + b"\x01k" + ONE_NULL)])
    is_refused(document, update(6, 0, b"\x48" + of(5, 0) + ONE_NULL), "schema")


def test_several_values_of_a_key_in_one_struct_are_deleted() -> None:
    values = b"\x28" + ROOT_A + b"\x01k\x02\x7e\x7e"
    is_refused(Checked(), update(5, 0, values), "schema")
    is_refused(Checked(), update(5, 0, values, deletes=deleting(5, (0, 1))), "schema")
    Checked([update(5, 0, values, deletes=deleting(5, (0, 2)))])


def test_nobody_knows_the_place_of_what_went_with_its_container() -> None:
    base = [update(1, 0, b"\x07" + ROOT_A + b"\x02", STRING + b"\x00" + of(1, 0) + b"\x03abc", STRING + ROOT_B + X)]
    late = update(7, 0, b"\xc4" + of(1, 1) + of(1, 2) + X, STRING + b"\x00" + of(1, 0) + X)
    document = Checked([*base, b"\x00" + deleting(1, (0, 1))])
    document.compact()
    is_refused(document, update(8, 0, b"\xc4" + of(1, 1) + of(1, 4) + X), "schema")
    document.push(late)
    assert document.replica().values() == {"b": "x"}


def test_a_device_that_is_behind_may_fill_what_is_gone() -> None:
    """With containers too, and with content in these."""
    gone: Doc[Any] = Doc(client_id=1)
    array(gone).append(Array([1]))
    behind: Doc[Any] = Doc(client_id=2)
    behind.apply_update(gone.get_update())
    document = Checked([gone.get_update(), made_after(gone, lambda doc: array(doc).pop())])
    document.compact()
    filling = (
        lambda doc: array(doc)[0].append(Map({"in": Text("late 😀")})),
        lambda doc: array(doc)[0][1].update({"k": Array([2])}),
    )
    for change in filling:
        document.push(made_after(behind, change))
    behind.apply_update(document.replica().state())
    assert document.replica().values() == Checked([behind.get_update()]).replica().values() == {}


def test_a_gc_beside_what_was_deleted_later_is_as_dead() -> None:
    """A device healed a restored server: it had deleted a container before its content came here."""
    document = Checked(
        [
            update(1, 0, b"\x07" + ROOT_A + b"\x02", STRING + b"\x00" + of(1, 0) + X),
            update(2, 0, b"\x00\x01", deletes=deleting(1, (0, 1))),
        ]
    )
    document.push(update(3, 0, b"\xc4" + of(1, 1) + of(2, 0) + X))
    alive = Checked(
        [update(1, 0, b"\x07" + ROOT_A + b"\x02", STRING + b"\x00" + of(1, 0) + X), update(2, 0, b"\x00\x01")]
    )
    is_refused(alive, update(3, 0, b"\xc4" + of(1, 1) + of(2, 0) + X), "schema")


def test_what_is_made_and_deleted_at_once_is_deleted() -> None:
    inner = b"\x28\x00" + of(5, 0) + b"\x01k" + ONE_NULL
    document = Checked([update(5, 0, b"\x27" + ROOT_A + b"\x01m\x01", inner, deletes=deleting(5, (0, 2)))])
    document.push(update(5, 2, inner))


def test_a_refused_update_told_and_deleted_nothing() -> None:
    inner = b"\x28\x00" + of(5, 0) + b"\x01k" + ONE_NULL
    misplaced = ANY + b"\x00" + of(5, 1) + ONE_NULL
    document = Checked([update(5, 0, b"\x27" + ROOT_A + b"\x01m\x01", inner)])
    is_refused(document, update(6, 0, STRING + ROOT_A + X, misplaced, deletes=deleting(5, (0, 1))), "schema")
    is_refused(document, update(5, 2, inner), "schema")
    document.push(update(6, 0, ANY + ROOT_A + ONE_NULL))


# --- what it costs, what it keeps


def test_typing_on_needs_no_inspection() -> None:
    doc: Doc[Any] = Doc(client_id=1)
    document = Checked([made_after(doc, lambda doc: text(doc).insert(0, "ab"))])
    assert document.layout.goes_on(1)
    before = document.layout.pack()
    document.push(made_after(doc, lambda doc: text(doc).insert(2, "c")))
    assert document.layout.pack() == before
    document.push(made_after(doc, lambda doc: mapping(doc).update({"k": "v"})))
    assert not document.layout.goes_on(1)
    assert not document.layout.goes_on(2)


def test_typing_before_something_does_not_go_on_at_the_end() -> None:
    doc: Doc[Any] = Doc(client_id=1)
    document = Checked([made_after(doc, lambda doc: text(doc).insert(0, "ab"))])
    document.push(made_after(doc, lambda doc: text(doc).insert(1, "c")))
    assert not document.layout.goes_on(1)


def test_what_is_slow_to_apply_is_told() -> None:
    doc: Doc[Any] = Doc(client_id=1)
    document = Checked()
    for at in range(50):
        assert document.push(made_after(doc, lambda doc: text(doc).insert(at, "x"))) < STEPS_SMALL / 1000  # noqa: B023
    prepended = [STRING + ROOT_B + X, *(b"\x44" + of(5, at) + X for at in range(4_999))]
    rival = [STRING + ROOT_B + X, *(b"\x44" + of(9, at) + X for at in range(999))]
    document.push(update(5, 0, *prepended))
    assert document.push(update(9, 0, *rival)) > STEPS_SMALL
    deletes = b"\x00" + deleting(5, *((2 * at, 1) for at in range(2_000)))
    assert document.push(deletes) > STEPS_SMALL


def test_what_is_slower_than_asked_for_is_not_taken_in() -> None:
    document = Checked([update(1, 0, STRING + ROOT_A + b"\x02ab")])
    before, items = document.layout.pack(), document.layout.resident_bytes
    slow = read_update(update(5, 0, STRING + ROOT_B + X, deletes=deleting(1, (0, 1))))
    assert document.layout.admit(slow, document.known, steps_max=10) > 10
    assert (document.layout.pack(), document.layout.resident_bytes) == (before, items)
    document.layout.admit(slow, document.known, steps_max=1_000)
    assert document.layout.pack() != before


def test_truncating_forgets_what_never_became_durable() -> None:
    document = Checked([update(1, 0, STRING + ROOT_A + X)])
    durable, packed = dict(document.known), document.layout.pack()
    document.push(update(2, 0, ANY + ROOT_B + ONE_NULL, b"\x27" + ROOT_A + b"\x01k\x01"))
    document.layout.truncate(durable)
    document.layout.admit(read_update(update(2, 0, STRING + ROOT_B + X)), durable)
    assert document.layout.pack() != packed
    document.layout.truncate(durable)
    assert not document.layout.goes_on(2)
    with pytest.raises(BadUpdate):
        document.layout.admit(read_update(update(1, 1, ANY + ROOT_A + ONE_NULL)), durable)


CHANGES: list[Callable[[Doc[Any]], object]] = [
    lambda doc: text(doc).insert(0, "a😀b"),
    lambda doc: delete(doc, 0, 1),
    lambda doc: mapping(doc).update({"k": Map({"in": Text("m")})}),
    lambda doc: array(doc).extend([1, Array([2])]),
    lambda doc: mapping(doc).update({"k": 2}),
]


def test_a_packed_layout_is_the_same() -> None:
    doc: Doc[Any] = Doc(client_id=1)
    document = Checked(made_after(doc, change) for change in CHANGES)
    packed = document.layout.pack()
    assert Layout.unpack(packed).pack() == packed
    document.layout = Layout.unpack(packed)
    is_refused(document, update(5, 0, ANY + b"\x01\x04text" + ONE_NULL), "schema")
    document.push(made_after(doc, lambda doc: text(doc).insert(0, "more")))


@pytest.mark.parametrize("packed", [b"", b"junk", Layout().pack()[:-5]])
def test_what_is_no_packed_layout_is_told(packed: bytes) -> None:
    with pytest.raises(ValueError, match="layout"):
        Layout.unpack(packed)


def test_memory_grows_with_what_is_known() -> None:
    document = Checked()
    empty = document.layout.resident_bytes
    document.push(RICH)
    assert 0 < empty < document.layout.resident_bytes < 100_000
