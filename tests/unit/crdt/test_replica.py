"""What a replica promises, and the JSON that its values are."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from pycrdt import Array, Doc, Map, Text, XmlElement, XmlText

from crdt.errors import BadUpdate, ReplicaBroken
from crdt.protocol.frames import DIGEST_BYTES
from crdt.replica import RESIDENT_BASE_BYTES, Replica
from crdt.update import EMPTY_STATE_VECTOR, EMPTY_UPDATE
from crdt.values import canonical_json, digest, values_of
from tests.unit.crdt.documents import PANIC, PANIC_BASE, array, delete, made, mapping, sections, text, xml


def edited(replica: Replica, word: str, at: int = 0) -> bytes:
    update = replica.edit(lambda doc: text(doc).insert(at, word))
    assert update is not None
    return update


def test_two_replicas_with_the_same_updates_are_equal() -> None:
    left, right = Replica(1), Replica(2)
    from_left = edited(left, "left 😀 ")
    from_right = edited(right, "right ")
    assert left.digest() != right.digest()
    left.apply([from_right])
    right.apply([from_left])
    assert left.values() == right.values()
    assert left.state_vector() == right.state_vector() == {1: 8, 2: 6}
    assert left.digest() == right.digest()


def test_a_replica_loaded_from_its_state_is_equal() -> None:
    replica = Replica(1)
    replica.edit(lambda doc: mapping(doc).update({"k": [1, 2.5], "b": b"x"}))
    edited(replica, "hello")
    replica.edit(lambda doc: delete(doc, 1, 3))
    loaded = Replica.load([replica.state()])
    assert loaded.values() == replica.values() == {"map": {"k": [1, 2.5], "b": {"$bytes": "78"}}, "text": "hlo"}
    assert loaded.digest() == replica.digest()


def test_a_replica_loaded_from_its_log_is_equal() -> None:
    replica = Replica(1)
    log = [edited(replica, letter, at) for at, letter in enumerate("abc")]
    loaded = Replica.load(log)
    assert loaded.digest() == replica.digest()
    assert loaded.values() == {"text": "abc"}


def test_a_diff_carries_what_is_missing() -> None:
    server, device = Replica(), Replica(1)
    server.apply([edited(device, "first ")])
    known = device.state_vector_bytes()
    other = Replica.load([server.state()], client_id=2)
    server.apply([edited(other, "second ")])
    device.apply([server.diff(known)])
    assert device.digest() == server.digest()
    assert len(server.diff(known)) < len(server.state())


def test_a_diff_carries_deletes_though_the_state_vectors_are_equal() -> None:
    server, device = Replica(), Replica(1)
    server.apply([edited(device, "abc")])
    other = Replica.load([server.state()], client_id=2)
    deletion = other.edit(lambda doc: delete(doc, 0, 1))
    assert deletion is not None
    server.apply([deletion])
    assert server.state_vector() == device.state_vector()
    assert server.digest() != device.digest()
    device.apply([server.diff(device.state_vector_bytes())])
    assert server.digest() == device.digest()


def test_the_state_is_the_diff_from_nothing() -> None:
    replica = Replica(1)
    edited(replica, "abc")
    assert replica.state() == replica.diff(EMPTY_STATE_VECTOR)
    assert Replica().state() == EMPTY_UPDATE


def test_what_is_known_already_is_not_new() -> None:
    replica, other = Replica(1), Replica(2)
    update = edited(replica, "abc")
    assert not replica.apply_if_new(update)
    assert not replica.apply_if_new(replica.state())
    assert not replica.apply_if_new(EMPTY_UPDATE)
    assert other.apply_if_new(update)
    assert not other.apply_if_new(update)


def test_deletes_are_new_once() -> None:
    replica, other = Replica(1), Replica(2)
    other.apply([edited(replica, "abc")])
    deletion = replica.edit(lambda doc: delete(doc, 0, 1))
    assert deletion is not None
    assert other.apply_if_new(deletion)
    assert not other.apply_if_new(deletion)


def test_an_edit_is_one_update_of_the_replicas_client() -> None:
    replica = Replica(7)

    def two_steps(doc: Doc[Any]) -> None:
        text(doc).insert(0, "ab")
        mapping(doc).update({"k": 1})

    update = replica.edit(two_steps)
    assert update is not None
    assert replica.state_vector() == {7: 3}
    assert values_of(update) == {"map": {"k": 1}, "text": "ab"}


def test_an_edit_that_changes_nothing_has_no_update() -> None:
    replica = Replica(1)
    assert replica.edit(lambda doc: text(doc)) is None
    assert replica.edit(lambda doc: None) is None


def test_what_an_edit_raises_is_raised_on() -> None:
    def fail(doc: Doc[Any]) -> None:
        raise LookupError("not there")

    with pytest.raises(LookupError):
        Replica(1).edit(fail)


def test_a_panic_breaks_the_replica_and_nothing_else() -> None:
    broken, sound = Replica(), Replica()
    for replica in (broken, sound):
        replica.apply([PANIC_BASE])
    with pytest.raises(ReplicaBroken, match="panic"):
        broken.apply([PANIC])
    assert sound.values() == {"t": "hello world"}
    assert Replica.load([PANIC_BASE]).digest() == sound.digest()


def test_what_the_library_refuses_breaks_the_replica() -> None:
    with pytest.raises(ReplicaBroken, match="ValueError"):
        Replica.load([b"\x01"])
    with pytest.raises(ReplicaBroken):
        Replica().diff(b"\x05")


def test_the_replica_knows_about_how_big_it_is() -> None:
    replica = Replica(1)
    assert replica.v1_bytes == 0
    assert replica.resident_bytes == RESIDENT_BASE_BYTES
    update = edited(replica, "abc")
    assert replica.v1_bytes == len(update)
    loaded = Replica.load([update, update])
    assert loaded.v1_bytes == 2 * len(update)
    assert loaded.resident_bytes > RESIDENT_BASE_BYTES


# --- values


def value(stored: object) -> Any:
    """What `stored` comes back as, from a map of the document."""
    return values_of(made(lambda doc: mapping(doc).update({"k": stored})))["map"]["k"]


@pytest.mark.parametrize(
    ("stored", "read"),
    [
        (2, 2),
        (2.0, 2),
        (2.5, 2.5),
        (-3.0, -3),
        (-0.0, 0),
        (1 << 40, 1 << 40),
        (float(1 << 60), float(1 << 60)),
        (float("nan"), {"$number": "nan"}),
        (float("inf"), {"$number": "inf"}),
        (float("-inf"), {"$number": "-inf"}),
        (True, True),
        (None, None),
        ("wört 😀", "wört 😀"),
        (b"\x00\xff", {"$bytes": "00ff"}),
        (b"", {"$bytes": ""}),
        ([1.0, [b"a"]], [1, [{"$bytes": "61"}]]),
        ({"a": {"b": 2.0}}, {"a": {"b": 2}}),
    ],
)
def test_values_are_json_of_one_form(stored: object, read: object) -> None:
    found = value(stored)
    assert found == read
    assert type(found) is type(read)
    json.dumps(found, allow_nan=False)


def test_numbers_and_booleans_stay_apart() -> None:
    assert value(1) is not True
    assert value(True) is True
    assert canonical_json([1, True]) == b"[1,true]"


def test_shared_types_are_read_to_the_leaves() -> None:
    state = made(
        lambda doc: array(doc).extend([Map({"t": Text("in"), "a": Array([1, b"x"])}), Text("side")]),
        lambda doc: xml(doc).children.append(XmlElement("p", {"k": "v"}, [XmlText("hi"), XmlElement("br")])),
    )
    assert values_of(state) == {
        "array": [{"t": "in", "a": [1, {"$bytes": "78"}]}, "side"],
        "xml": [
            {"tag": "p", "attributes": {"k": "v"}, "children": ["hi", {"tag": "br", "attributes": {}, "children": []}]}
        ],
    }


def test_a_subdocument_is_named_by_its_guid() -> None:
    sub: Doc[Any] = Doc(guid="sub-1")
    assert value(sub) == {"$doc": "sub-1"}


def test_text_is_read_without_its_format() -> None:
    state = made(lambda doc: text(doc).insert(0, "bold"), lambda doc: text(doc).format(0, 4, {"bold": True}))
    assert values_of(state) == {"text": "bold"}


def test_roots_without_content_are_left_out() -> None:
    state = made(
        lambda doc: text(doc).insert(0, "gone"),
        lambda doc: delete(doc, 0, 4),
        lambda doc: mapping(doc).update({"k": 1}),
        lambda doc: mapping(doc).pop("k"),
        lambda doc: array(doc, "kept").append(None),
    )
    assert values_of(state) == {"kept": [None]}
    assert values_of(EMPTY_UPDATE) == {}


def test_a_text_of_nothing_but_formats_is_left_out() -> None:
    assert values_of(sections(b"\x06\x01\x01t\x04bold\x04true")) == {}


def test_values_of_half_an_update_are_refused() -> None:
    state = made(lambda doc: text(doc).insert(0, "abc"))
    with pytest.raises(BadUpdate):
        values_of(state[:-1])


def test_a_string_within_an_array_is_refused_rather_than_read_for_ever() -> None:
    emoji = sections(b"\x07\x01\x01a\x00", b"\x04\x00\x05\x00\x04\xf0\x9f\x98\x80")
    with pytest.raises(BadUpdate):
        values_of(emoji)


def test_types_within_types_beyond_reason_break_the_replica() -> None:
    levels = [b"\x07\x01\x01a\x00"] + [b"\x07\x00\x05" + varuint(clock) + b"\x00" for clock in range(2000)]
    deep = b"\x01" + varuint(len(levels)) + b"\x05\x00" + b"".join(levels) + b"\x00"
    with pytest.raises(ReplicaBroken):
        Replica.load([deep]).values()


def varuint(number: int) -> bytes:
    return bytes([number]) if number < 0x80 else bytes([number & 0x7F | 0x80]) + varuint(number >> 7)


# --- the digest


def test_canonical_json_has_one_form() -> None:
    assert canonical_json({"b": 1, "a": ["ö", None]}) == '{"a":["ö",null],"b":1}'.encode()


def test_the_digest_does_not_depend_on_order() -> None:
    first = digest({1: 2, 300: 4}, {"a": {"x": 1, "y": 2}, "b": "t"})
    second = digest({300: 4, 1: 2}, {"b": "t", "a": {"y": 2, "x": 1}})
    assert first == second
    assert len(first) == DIGEST_BYTES


def test_the_digest_tells_states_and_values_apart() -> None:
    digests = [digest({1: 1}, {"a": "b"}), digest({1: 2}, {"a": "b"}), digest({1: 1}, {"a": "c"}), digest({}, {})]
    assert len(set(digests)) == len(digests)


def test_the_digest_is_what_the_protocol_says() -> None:
    """BLAKE2b-128 of `[[[1,2],[9,1]],{"t":"ö"}]`: an independent client computes the same."""
    assert digest({9: 1, 1: 2}, {"t": "ö"}).hex() == "5fb24b58db4e836638be091ad45aba88"


def test_a_load_takes_memory_by_the_size_of_the_document_not_by_the_square_of_its_updates() -> None:
    """20,000 short runs in one transaction of the library take 4 GB; measured in a process of its own."""
    script = """
from crdt.replica import Replica
from crdt.update import write_state_vector

def varint(value):
    return write_state_vector({value: 0})[1:-1]

def run(clock):
    where = b"\\x84" + varint(9) + varint(clock - 1) if clock else b"\\x04\\x01\\x01t"
    return b"\\x01\\x01" + varint(9) + varint(clock) + where + b"\\x14" + b"a" * 20 + b"\\x00"

replica = Replica.load(run(20 * n) for n in range(20_000))
assert replica.state_vector() == {9: 400_000}
print(int(open("/proc/self/status").read().partition("VmHWM:")[2].split()[0]) >> 10)  # getrusage knows the parent's
"""
    process = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert int(process.stdout) < 300, "megabytes"
