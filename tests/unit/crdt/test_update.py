"""What the reader of updates says about bytes that the library wrote, and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest
from pycrdt import Array, Doc, Map, Text, XmlElement, XmlText, merge_updates

from crdt.errors import BadUpdate, PeerError
from crdt.protocol.codes import Code
from crdt.update import (
    CLIENT_MAX,
    CLOCK_MAX,
    DEPTH_MAX,
    EMPTY_STATE_VECTOR,
    EMPTY_UPDATE,
    Content,
    DeleteRange,
    Id,
    RootKind,
    Struct,
    continuation,
    read_state_vector,
    read_update,
    root_kinds,
    write_state_vector,
)
from tests.unit.crdt.documents import Change, array, delete, made, made_after, mapping, sections, text, xml

RICH = made(
    lambda doc: text(doc).insert(0, "wörld 😀"),
    lambda doc: text(doc).format(0, 3, {"bold": True}),
    lambda doc: delete(doc, 0, 1),
    lambda doc: mapping(doc).update({"a": 1, "b": b"\x00\x01", "c": {"deep": [None, 2.5, "x"]}}),
    lambda doc: array(doc).extend([Map({"in": Text("side")}), Array([1, 2]), "three"]),
    lambda doc: xml(doc).children.append(XmlElement("p", {"k": "v"}, [XmlText("hi")])),
)


def formatted(doc: Doc[Any]) -> None:
    text(doc).insert(0, "ab")
    text(doc).format(0, 2, {"bold": True})


def put(value: object, key: str = "k", root: str = "r") -> Change:
    return lambda doc: mapping(doc, root).update({key: value})


CONTENTS: dict[str, tuple[Change, list[tuple[Content, int]]]] = {
    "string": (lambda doc: text(doc).insert(0, "abc"), [(Content.STRING, 3)]),
    "accents take one clock": (lambda doc: text(doc).insert(0, "åé"), [(Content.STRING, 2)]),
    "an emoji takes two clocks": (lambda doc: text(doc).insert(0, "a😀"), [(Content.STRING, 3)]),
    "a family takes eight": (lambda doc: text(doc).insert(0, "👨‍👩‍👧"), [(Content.STRING, 8)]),
    "values": (lambda doc: array(doc).extend([1, "two", 3.5, None, True]), [(Content.ANY, 5)]),
    "nested value": (lambda doc: array(doc).append({"a": [1, {"b": b"c"}]}), [(Content.ANY, 1)]),
    "bytes": (lambda doc: mapping(doc).update({"k": b"\xff\x00"}), [(Content.ANY, 1)]),
    "embed": (lambda doc: text(doc).insert_embed(0, {"img": 1}), [(Content.EMBED, 1)]),
    "nested array": (lambda doc: array(doc).append(Array()), [(Content.ARRAY_TYPE, 1)]),
    "nested map": (lambda doc: array(doc).append(Map()), [(Content.MAP_TYPE, 1)]),
    "nested text": (lambda doc: array(doc).append(Text()), [(Content.TEXT_TYPE, 1)]),
    "element": (lambda doc: xml(doc).children.append(XmlElement("p")), [(Content.XML_ELEMENT, 1)]),
    "subdocument": (lambda doc: mapping(doc).update({"sub": Doc()}), [(Content.DOC, 1)]),
    "format": (
        formatted,
        [(Content.STRING, 2), (Content.FORMAT, 1), (Content.FORMAT, 1)],
    ),
    "XML text": (
        lambda doc: xml(doc).children.append(XmlText("hi")),
        [(Content.XML_TEXT, 1), (Content.STRING, 2)],
    ),
}


@pytest.mark.parametrize(("change", "contents"), CONTENTS.values(), ids=CONTENTS.keys())
def test_every_kind_of_content_is_read(change: Change, contents: list[tuple[Content, int]]) -> None:
    structs = read_update(made(change)).structs
    assert [(struct.content, struct.length) for struct in structs] == contents


def test_binary_content_as_yjs_writes_it_is_read() -> None:
    update = read_update(sections(b"\x03\x01\x01a\x02\xff\x00"))
    assert [(struct.content, struct.length, struct.parent) for struct in update.structs] == [(Content.BINARY, 1, "a")]


def test_structs_tell_their_neighbours_parents_and_keys() -> None:
    update = read_update(
        made(
            lambda doc: text(doc).insert(0, "ad"),
            lambda doc: text(doc).insert(1, "bc"),
            lambda doc: mapping(doc).update({"k": Map({"in": 1})}),
            lambda doc: mapping(doc).update({"k": 2}),
        )
    )
    assert update.sections == {1: (0, 7)}
    assert update.structs == [
        Struct(1, 0, 1, Content.STRING, parent="text"),
        Struct(1, 1, 1, Content.STRING, origin=Id(1, 0)),
        Struct(1, 2, 2, Content.STRING, origin=Id(1, 0), right_origin=Id(1, 1)),
        Struct(1, 4, 1, Content.DELETED, parent="map", key="k"),
        Struct(1, 5, 1, Content.GC),
        Struct(1, 6, 1, Content.ANY, origin=Id(1, 4)),
    ]
    assert update.deletes == [DeleteRange(1, 4, 6)]


def test_a_nested_parent_is_the_id_of_the_type() -> None:
    update = read_update(made(lambda doc: array(doc).append(Map({"in": 1}))))
    assert update.structs[1].parent == Id(1, 0)
    assert update.structs[1].key == "in"


def test_clock_ranges_begin_where_the_update_begins() -> None:
    doc = Doc[Text](client_id=9)
    text(doc).insert(0, "abc")
    before = doc.get_state()
    text(doc).insert(3, "de")
    update = read_update(doc.get_update(before))
    assert update.sections == {9: (3, 5)}
    assert update.structs[0].origin == Id(9, 2)


def test_what_does_not_fit_yet_is_named() -> None:
    doc = Doc[Text](client_id=9)
    text(doc).insert(0, "abc")
    second = read_update(made_after(doc, lambda doc: text(doc).insert(0, "x")))
    assert second.missing({}) == Id(9, 2)
    assert second.missing({9: 2}) == Id(9, 2)
    assert second.missing({9: 3}) is None
    assert second.missing({9: 4}) is None, "known updates fit again"


def test_neighbours_parents_and_deleted_content_of_others_must_be_known() -> None:
    beside = read_update(sections(b"\x84\x07\x03\x01x"))
    assert beside.missing({}) == Id(7, 3)
    assert beside.missing({7: 3}) == Id(7, 3)
    assert beside.missing({7: 4}) is None
    within = read_update(sections(b"\x04\x00\x07\x03\x01x"))
    assert within.missing({7: 3}) == Id(7, 3)
    assert within.missing({7: 4}) is None
    deleting = read_update(b"\x00\x01\x07\x01\x02\x03")
    assert deleting.deletes == [DeleteRange(7, 2, 5)]
    assert deleting.missing({7: 4}) == Id(7, 4)
    assert deleting.missing({7: 5}) is None


def test_an_update_may_build_on_itself() -> None:
    assert read_update(RICH).missing({}) is None


def test_advance_moves_to_the_end_and_never_back() -> None:
    update = read_update(made(lambda doc: text(doc).insert(0, "abc")))
    known = {2: 8}
    assert update.advance(known)
    assert known == {2: 8, 1: 3}
    assert not update.advance(known)
    ahead = {1: 10}
    assert not update.advance(ahead)
    assert ahead == {1: 10}


def test_the_empty_update_says_nothing() -> None:
    update = read_update(EMPTY_UPDATE)
    assert (update.sections, update.structs, update.deletes) == ({}, [], [])
    assert update.missing({}) is None
    assert not update.advance({})


@pytest.mark.parametrize("size", range(len(RICH)))
def test_an_update_cut_anywhere_is_refused(size: int) -> None:
    with pytest.raises(BadUpdate) as refused:
        read_update(RICH[:size])
    assert refused.value.code is Code.BAD_UPDATE


REFUSED = {
    "nothing": (b"", "malformed"),
    "bytes after the end": (RICH + b"\x00", "malformed"),
    "a section without structs": (b"\x01\x00\x01\x00\x00", "malformed"),
    "a client twice": (b"\x02" + 2 * b"\x01\x05\x00\x04\x01\x01t\x01a" + b"\x00", "malformed"),
    "a client twice in the delete set": (b"\x00\x02\x05\x01\x00\x01\x05\x01\x02\x01", "malformed"),
    "an empty string": (sections(b"\x04\x01\x01t\x00"), "malformed"),
    "no values": (sections(b"\x08\x01\x01t\x00"), "malformed"),
    "an empty delete range": (b"\x00\x01\x05\x01\x00\x00", "malformed"),
    "a lone surrogate": (sections(b"\x04\x01\x01t\x03\xed\xa0\x80"), "malformed"),
    "a parent that is neither root nor id": (sections(b"\x04\x02\x01t\x01a"), "malformed"),
    "an unknown value": (sections(b"\x08\x01\x01t\x01\x00"), "malformed"),
    "an integer of ten bytes": (sections(b"\x04\x01" + 9 * b"\xff" + b"\x01"), "malformed"),
    "a client id over 53 bits": (b"\x01\x01\x80\x80\x80\x80\x80\x80\x80\x10\x00\x04\x01\x01t\x01a\x00", "limit"),
    "a clock over 31 bits": (b"\x01\x01\x05\xff\xff\xff\xff\x0f\x04\x01\x01t\x01a\x00", "limit"),
    "clocks that end over 31 bits": (b"\x01\x01\x05\xff\xff\xff\xff\x07\x04\x01\x01t\x01a\x00", "limit"),
    "a count beyond the bytes": (b"\xff\xff\xff\xff\x0f\x00", "limit"),
    "JSON, which the library misreads": (sections(b"\x02\x01\x01t\x01\x011"), "unsupported"),
    "a skip": (sections(b"\x0a\x01"), "unsupported"),
    "an XML hook, which the library misreads": (sections(b"\x07\x01\x01t\x05\x01p"), "unsupported"),
    "a weak link": (sections(b"\x07\x01\x01t\x07\x00"), "unsupported"),
    "an undefined type": (sections(b"\x07\x01\x01t\x0f"), "unsupported"),
    "a move": (sections(b"\x0b\x01\x01t"), "unsupported"),
    "a client id that could be shorter": (b"\x01\x01\x85\x00\x00\x04\x01\x01t\x01a\x00", "malformed"),
    "a count that could be shorter": (b"\x80\x00\x00", "malformed"),
    "a neighbour's clock that could be shorter": (sections(b"\x84\x07\x83\x00\x01a"), "malformed"),
    "a range that could be shorter": (b"\x00\x01\x05\x01\x80\x00\x01", "malformed"),
    "a value's integer that could be shorter": (sections(b"\x08\x01\x01t\x01\x7d\x81\x00"), "malformed"),
    "a whole number over 53 bits": (sections(b"\x08\x01\x01t\x01\x7d\xbf" + 6 * b"\xff" + b"\x20"), "limit"),
    "a struct of kind 0 that is no GC": (sections(b"\x80\x07\x03"), "unsupported"),
    "a key that is not UTF-8": (sections(b"\x28\x01\x01t\x01\xff\x01\x7e"), "malformed"),
    "a root's name that is not UTF-8": (sections(b"\x04\x01\x01\xff\x01a"), "malformed"),
    "an element's name that is not UTF-8": (sections(b"\x07\x01\x01t\x03\x01\xff"), "malformed"),
    "a format's name that is not UTF-8": (sections(b"\x06\x01\x01t\x01\xff\x04true"), "malformed"),
    "a value's name that is not UTF-8": (sections(b"\x08\x01\x01t\x01\x76\x01\x01\xff\x7e"), "malformed"),
    "options of a subdocument that are no object": (sections(b"\x09\x01\x01t\x01g\x7e"), "malformed"),
    "a second guid of a subdocument": (sections(b"\x09\x01\x01t\x01g\x76\x01\x04guid\x77\x01h"), "malformed"),
    "a client without delete ranges": (b"\x00\x01\x05\x00", "malformed"),
    "delete ranges that descend": (b"\x00\x01\x05\x02\x03\x01\x00\x01", "malformed"),
    "delete ranges that overlap": (b"\x00\x01\x05\x02\x00\x03\x02\x02", "malformed"),
    "a delete range over 31 bits": (b"\x00\x01\x05\x01\x01\xff\xff\xff\xff\x07", "limit"),
    "a v2 update": (bytes.fromhex("0000059a96b5e20f0000010407047461626301030101000001010000"), "unsupported"),
    "a v2 update of nothing": (bytes.fromhex("00000000000001000000000000"), "unsupported"),
}


def embedded(json: str) -> bytes:
    """An embed in a text."""
    return sections(b"\x05\x01\x01t" + bytes([len(json.encode())]) + json.encode())


JSON = {
    '{"a": [1, -2.5e3, null, true, "\\ud83d\\ude00"]}': None,
    "1e22": None,
    "18446744073709551616": None,
    "": "malformed",
    "undefined": "malformed",
    "NaN": "malformed",
    "[1,]": "malformed",
    "1 2": "malformed",
    '"\x01"': "malformed",
    "1e999": "unsupported",
    "9223372036854775808": "unsupported",
    '"\\ud800"': "unsupported",
    "[" * 33 + "]" * 33: "limit",
    "[" * 60 + "]" * 60: "limit",
}


@pytest.mark.parametrize(("json", "reason"), JSON.items())
def test_json_is_taken_if_the_library_can_read_it(json: str, reason: str | None) -> None:
    if reason is None:
        assert [struct.content for struct in read_update(embedded(json)).structs] == [Content.EMBED]
        Doc[Any]().apply_update(embedded(json))
        return
    with pytest.raises(BadUpdate) as refused:
        read_update(embedded(json))
    assert refused.value.detail == {"reason": reason}


def test_json_too_deep_for_python_itself_is_refused() -> None:
    with pytest.raises(BadUpdate) as refused:
        read_update(sections(b"\x05\x01\x01t\xa0\x8d\x06" + 50_000 * b"[" + 50_000 * b"]"))
    assert refused.value.detail == {"reason": "limit"}


def test_a_v2_update_is_named() -> None:
    with pytest.raises(BadUpdate, match="v2"):
        read_update(bytes.fromhex("00000000000001000000000000"))


@pytest.mark.parametrize(
    "update",
    [
        b"\x01" + b"\xa1\x9c\x01" + b"\x05\x00" + 20_001 * b"\x00\x01" + b"\x00",
        sections(b"\x08\x01\x01t\xa1\x8d\x06" + 100_001 * b"\x7e"),
        b"\x91\x4e"
        + b"".join(b"\x01" + bytes([n & 0x7F | 0x80, n >> 7]) + b"\x00\x00\x01" for n in range(128, 10_129))
        + b"\x00",
    ],
    ids=["structs", "values", "clients"],
)
def test_what_peers_push_is_bounded(update: bytes) -> None:
    read_update(update)
    with pytest.raises(BadUpdate) as refused:
        read_update(update, bounded=True)
    assert refused.value.detail == {"reason": "limit"}


def test_second_halves_of_surrogate_pairs_are_told() -> None:
    update = read_update(made(lambda doc: text(doc).insert(0, "a😀b😀")))
    assert update.pairs == [Id(1, 2), Id(1, 5)]


@pytest.mark.parametrize(("update", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_no_update_is_refused_with_a_reason(update: bytes, reason: str) -> None:
    with pytest.raises(BadUpdate) as refused:
        read_update(update)
    assert refused.value.detail == {"reason": reason}


def test_values_nest_to_a_limit() -> None:
    def nested(depth: int) -> bytes:
        return sections(b"\x08\x01\x01a\x01" + depth * b"\x75\x01" + b"\x7e")

    read_update(nested(DEPTH_MAX))
    with pytest.raises(BadUpdate) as refused:
        read_update(nested(DEPTH_MAX + 1))
    assert refused.value.detail == {"reason": "limit"}


def test_messages_carry_no_content() -> None:
    with pytest.raises(BadUpdate) as refused:
        read_update(sections(b"\x04\x01\x01t\x06secret")[:-1] + b"\x01")
    assert "secret" not in str(refused.value)


# --- state vectors


@pytest.mark.parametrize("state_vector", [{}, {1: 1}, {300: 7, 2: 1 << 20}, {CLIENT_MAX: CLOCK_MAX}])
def test_state_vectors_survive_the_wire(state_vector: dict[int, int]) -> None:
    assert read_state_vector(write_state_vector(state_vector)) == state_vector


def test_state_vectors_agree_with_the_library() -> None:
    doc = Doc[Text](client_id=CLIENT_MAX)
    doc.apply_update(RICH)
    text(doc).insert(0, "more")
    known = read_state_vector(doc.get_state())
    assert known == {1: read_update(RICH).sections[1][1], CLIENT_MAX: 4}
    assert doc.get_update(write_state_vector(known)) == doc.get_update(doc.get_state())


def test_state_vectors_are_written_in_one_order() -> None:
    assert write_state_vector({9: 1, 2: 3}) == write_state_vector({2: 3, 9: 1}) == b"\x02\x02\x03\x09\x01"
    assert write_state_vector({}) == EMPTY_STATE_VECTOR


@pytest.mark.parametrize(
    "state_vector",
    [
        b"",
        b"\x01",
        b"\x01\x05",
        b"\x02\x05\x01\x05\x02",
        b"\x00\x00",
        b"\x80\x80\x80\x08",
        b"\x01\x05\xff\xff\xff\xff\x0f",
    ],
    ids=["empty", "no client", "no clock", "a client twice", "bytes after", "a huge count", "a huge clock"],
)
def test_what_is_no_state_vector_is_refused(state_vector: bytes) -> None:
    with pytest.raises(PeerError) as refused:
        read_state_vector(state_vector)
    assert refused.value.code is Code.BAD_STATE


# --- what the roots are


ROOTS: dict[str, tuple[tuple[Change, ...], dict[str, RootKind]]] = {
    "text": ((lambda doc: text(doc, "r").insert(0, "a"),), {"r": RootKind.TEXT}),
    "array": ((lambda doc: array(doc, "r").append(1),), {"r": RootKind.ARRAY}),
    "an array of strings is no text": ((lambda doc: array(doc, "r").extend(["a", "b"]),), {"r": RootKind.ARRAY}),
    "an array of texts is no text": ((lambda doc: array(doc, "r").append(Text("a")),), {"r": RootKind.ARRAY}),
    "an array of arrays": ((lambda doc: array(doc, "r").append(Array([1])),), {"r": RootKind.ARRAY}),
    "map": ((lambda doc: mapping(doc, "r").update({"k": 1}),), {"r": RootKind.MAP}),
    "a map of texts": ((lambda doc: mapping(doc, "r").update({"k": Text("a")}),), {"r": RootKind.MAP}),
    "XML": ((lambda doc: xml(doc, "r").children.append(XmlElement("p")),), {"r": RootKind.XML}),
    "XML of text only": ((lambda doc: xml(doc, "r").children.append(XmlText("a")),), {"r": RootKind.XML}),
    "only an embed": ((lambda doc: text(doc, "r").insert_embed(0, {"i": 1}),), {"r": RootKind.TEXT}),
    "a text whose first item is deleted": (
        (lambda doc: text(doc).insert(0, "abc"), lambda doc: delete(doc, 0, 1)),
        {"text": RootKind.TEXT},
    ),
    "a text written at its head": (
        (
            lambda doc: text(doc).insert(0, "c"),
            lambda doc: text(doc).insert(0, "b"),
            lambda doc: text(doc).insert(0, "a"),
            lambda doc: delete(doc, 2, 3),
        ),
        {"text": RootKind.TEXT},
    ),
    "a key set again and again": (
        tuple(put(n) for n in range(5)),
        {"r": RootKind.MAP},
    ),
    "nothing but deleted content": (
        (lambda doc: text(doc).insert(0, "abc"), lambda doc: delete(doc, 0, 3)),
        {},
    ),
    "several": (
        (lambda doc: text(doc, "t").insert(0, "a"), lambda doc: mapping(doc, "m").update({"t": "x"})),
        {"t": RootKind.TEXT, "m": RootKind.MAP},
    ),
    "none": ((), {}),
}


@pytest.mark.parametrize(("changes", "kinds"), ROOTS.values(), ids=ROOTS.keys())
def test_roots_are_told_by_their_content(changes: tuple[Change, ...], kinds: dict[str, RootKind]) -> None:
    assert root_kinds(read_update(made(*changes))) == kinds


def test_a_root_is_told_across_clients() -> None:
    left = made(lambda doc: text(doc).insert(0, "abc"), client_id=1)
    doc = Doc[Text](client_id=2)
    doc.apply_update(left)
    text(doc).insert(1, "x")
    delete(doc, 0, 1)
    del text(doc)[1:3]
    state = read_update(doc.get_update())
    assert root_kinds(state) == {"text": RootKind.TEXT}


def test_a_text_with_attributes_is_a_text() -> None:
    attribute = b"\x28\x01\x01t\x01k\x01\x77\x01v"
    assert root_kinds(read_update(sections(attribute, b"\x04\x01\x01t\x01a"))) == {"t": RootKind.TEXT}
    assert root_kinds(read_update(sections(attribute))) == {"t": RootKind.MAP}


def test_references_in_a_circle_end() -> None:
    circle = sections(b"\x84\x05\x01\x01a", b"\x84\x05\x00\x01b")
    assert root_kinds(read_update(circle)) == {}


def test_a_string_within_an_array_is_refused() -> None:
    emoji = sections(b"\x07\x01\x01a\x00", b"\x04\x00\x05\x00\x04\xf0\x9f\x98\x80")
    with pytest.raises(BadUpdate):
        root_kinds(read_update(emoji))


def test_merged_updates_read_as_one() -> None:
    doc = Doc[Text](client_id=1)
    updates = [made_after(doc, lambda doc: text(doc).insert(0, "a")) for _ in range(3)]
    assert read_update(merge_updates(*updates)).sections == {1: (0, 3)}


# --- the short way for one typed run


def typed_run(info: int, *fields: bytes, run: bytes) -> bytes:
    """A single struct of client 5 at clock 7, its header fields given as bytes."""
    return b"\x01\x01\x05\x07" + bytes([info]) + b"".join(fields) + bytes([len(run)]) + run + b"\x00"


LEFT, RIGHT = b"\x02\x03", b"\x80\x01\x04"


@pytest.mark.parametrize(
    ("update", "origin", "right_origin"),
    [
        (typed_run(0x84, LEFT, run=b"abc"), Id(2, 3), None),
        (typed_run(0x44, RIGHT, run=b"abc"), None, Id(128, 4)),
        (typed_run(0xC4, LEFT, RIGHT, run=b"abc"), Id(2, 3), Id(128, 4)),
    ],
)
def test_a_typed_run_is_read_with_its_neighbours(update: bytes, origin: Id | None, right_origin: Id | None) -> None:
    read = read_update(update)
    assert read.sections == {5: (7, 10)}
    assert read.structs == [Struct(5, 7, 3, Content.STRING, origin, right_origin)]
    assert read.deletes == []


@pytest.mark.parametrize(
    "update",
    [
        b"\x01\x01" + b"\x85" + 12 * b"\x80" + b"\x00" + typed_run(0x84, LEFT, run=b"a")[3:],
        typed_run(0x84, b"\x82" + 9 * b"\x80" + b"\x00\x03", run=b"a"),
        typed_run(0x84, b"\x80\x80\x80\x80\x80\x80\x80\x10\x03", run=b"a"),
        typed_run(0x84, b"\x02\x80\x80\x80\x80\x08", run=b"a"),
        typed_run(0x84, LEFT, run=b""),
        typed_run(0x84, LEFT, run=b"ab")[:-2] + b"\x00",
        typed_run(0x84, LEFT, run=b"a")[:-1] + b"b\x00",
        b"\x01\x01\x05\xff\xff\xff\xff\x07" + typed_run(0x84, LEFT, run=b"a")[4:],
    ],
    ids=["client too long", "origin too long", "origin's client", "origin's clock", "empty", "cut", "longer", "end"],
)
def test_the_short_way_refuses_what_the_long_way_does(update: bytes) -> None:
    with pytest.raises(BadUpdate):
        read_update(update)


def test_what_types_on_is_known_from_the_whole_update_only() -> None:
    update = typed_run(0x84, b"\x05\x06", run=b"abc")
    assert continuation(update, 5, 7) == 3
    for size in range(len(update)):
        assert continuation(update[:size], 5, 7) == 0
        with pytest.raises(BadUpdate):
            read_update(update[:size])
    long = typed_run(0x84, b"\x05\x06", run=b"a" * 0x80)
    accented = typed_run(0x84, b"\x05\x06", run="é".encode())
    empty = typed_run(0x84, b"\x05\x06", run=b"")
    assert [continuation(update, 5, 7) for update in (long, accented, empty)] == [0, 0, 0]
