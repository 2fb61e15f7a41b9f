"""A client that comes with much: it goes in as many ops, and is saved once all of it is durable."""

from __future__ import annotations

import pytest

from crdt.errors import PeerError
from crdt.limits import Limits
from crdt.replica import Replica
from crdt.update import STRUCTS_MAX, read_update
from server.yjs import messages
from server.yjs.dialect import close_code_of
from server.yjs.upload import (
    LIVE_BYTES,
    PART_BYTES,
    PART_STRUCTS,
    TOGETHER_BYTES_MAX,
    WHOLE_STRUCTS_MAX,
    Upload,
    Uploads,
)
from tests.unit.server.core.lab import Lab, Writer, values
from tests.unit.server.yjs.rig import Client

WORD = b"w" * 40


def uint(value: int) -> bytes:
    return bytes([value]) if value < 0x80 else bytes([value & 0x7F | 0x80]) + uint(value >> 7)


def prepended(client: int, count: int) -> bytes:
    """An update of so many structs, each a word in front of the one before."""
    size = uint(len(WORD))
    structs = [b"\x04\x01\x01t" + size + WORD]
    structs += [b"\x44" + uint(client) + uint(len(WORD) * (at - 1)) + size + WORD for at in range(1, count)]
    return b"\x01" + uint(count) + uint(client) + b"\x00" + b"".join(structs) + b"\x00"


WHOLE = prepended(7, STRUCTS_MAX + 10_000)
HALF = prepended(7, 6_000)


def updates_in(lab: Lab) -> list[bytes]:
    return [update for entry in lab.durable() for update in entry.updates]


def go_on(lab: Lab, app: Client) -> None:
    """One thing more happens: storage answers, or a second passes."""
    if lab.held:
        lab.answer()
    else:
        lab.now += 1.0
    lab.turn()
    app.pump()


def test_an_upload_beyond_what_an_update_may_have_is_saved_once_all_of_it_is_durable() -> None:
    assert len(WHOLE) > Limits().update_bytes
    lab = Lab()
    app = Client(lab, replica=Replica.load([WHOLE]))
    app.say(messages.step_1(app.replica.state_vector_bytes()))
    seen = 0
    while not app.saved:
        seen = len(updates_in(lab))
        go_on(lab, app)
    assert app.saved == 1
    assert seen < len(updates_in(lab))
    assert values(lab.durable()) == app.replica.values()
    assert app.link.end is None


def test_its_parts_are_small_and_so_is_the_work_in_between() -> None:
    upload = Upload(WHOLE, {}, 1, heal=False)
    steps: list[bytes | None] = []
    while not upload.is_over:
        steps.append(upload.step())
    made = [part for part in steps if part is not None]
    assert len(steps) - len(made) > STRUCTS_MAX // PART_STRUCTS
    assert max(map(len, made)) < PART_BYTES + 100
    assert max(len(read_update(part).structs) for part in made) <= PART_STRUCTS


def test_what_is_written_meanwhile_comes_after_it() -> None:
    lab = Lab()
    app = Client(lab, replica=Replica.load([HALF]))
    app.say(messages.step_1(app.replica.state_vector_bytes()))
    assert app.link.has_more or lab.held
    later = Writer(9)
    app.push(later.type("later", "other"))
    while app.saved < 2:
        go_on(lab, app)
    assert values(lab.durable()) == app.replica.values()
    app.push(later.type("and then ", "other"))
    app.settle()
    assert app.saved == 3
    assert values(lab.durable())["other"] == "and then later"


def test_who_begins_anew_meanwhile_hears_of_what_it_counts_from_then_on() -> None:
    lab = Lab()
    app = Client(lab)
    app.answers = False
    app.sync()
    app.replica.apply([HALF])
    app.link.receive(messages.read_message(messages.step_2(HALF)), len(HALF))
    assert app.link.has_more
    app.answers = True
    later = Writer(9).type("meanwhile", "other")
    app.replica.apply([later])
    for said in (messages.update_message(later), messages.step_1(app.replica.state_vector_bytes())):
        app.link.receive(messages.read_message(said), len(said))
    assert app.link.has_more
    while not app.saved:
        go_on(lab, app)
    assert values(lab.durable()) == app.replica.values()
    app.settle()
    assert app.saved == 1


def test_what_brings_nothing_is_paid_for_all_the_same() -> None:
    lab = Lab()
    app = Client(lab, replica=Replica.load([HALF]))
    app.sync()
    while not app.saved:
        go_on(lab, app)
    lab.now += 60.0
    lab.turn()
    assert app.session not in lab.paused
    for _ in range(4):
        app.say(messages.step_2(HALF))
    assert app.session in lab.paused


def test_what_many_upload_at_once_is_bounded_and_who_comes_too_early_comes_back() -> None:
    lab, uploads = Lab(), Uploads()
    first = uploads.begin(bytes(TOGETHER_BYTES_MAX), {}, 1, heal=False)
    app = Client(lab, uploads=uploads)
    app.answers = False
    app.sync()
    answer = messages.read_message(messages.step_2(HALF))
    with pytest.raises(PeerError) as refused:
        app.link.receive(answer, len(HALF))
    assert close_code_of(refused.value.code) == 1013
    uploads.end(first)
    app.link.receive(answer, len(HALF))
    with pytest.raises(PeerError):
        uploads.begin(bytes(TOGETHER_BYTES_MAX), {}, 1, heal=False)
    app.link.left()
    uploads.begin(bytes(TOGETHER_BYTES_MAX), {}, 1, heal=False)


def test_an_upload_that_is_over_makes_room_for_others() -> None:
    lab, uploads = Lab(), Uploads()
    app = Client(lab, replica=Replica.load([HALF]), uploads=uploads)
    app.say(messages.step_1(app.replica.state_vector_bytes()))
    while not app.saved:
        go_on(lab, app)
    uploads.begin(bytes(1), {}, 1, heal=False)
    uploads.begin(bytes(TOGETHER_BYTES_MAX - 1), {}, 1, heal=False)


def test_what_it_deletes_of_what_was_there_is_deleted() -> None:
    lab = Lab()
    writer = Writer(9)
    first = Client(lab)
    first.sync()
    first.push(writer.type("to go", "other"))
    first.settle()
    back = Client(lab, replica=Replica.load([writer.replica.state(), HALF, b"\x00\x01\x09\x01\x00\x03"]))
    back.say(messages.step_1(back.replica.state_vector_bytes()))
    while not back.saved:
        go_on(lab, back)
    assert values(lab.durable())["other"] == "go"


def test_a_large_edit_of_a_client_that_is_there_is_asked_for_and_goes_in_by_parts() -> None:
    lab = Lab()
    app = Client(lab)
    app.sync()
    saved = app.saved
    assert len(HALF) > LIVE_BYTES
    app.push(HALF)
    while app.saved == saved:
        go_on(lab, app)
    assert app.saved == saved + 1
    assert values(lab.durable()) == app.replica.values()


def test_an_upload_of_too_many_structs_ends_the_document_before_they_are_read() -> None:
    lab = Lab()
    app = Client(lab)
    app.answers = False
    app.sync()
    count = WHOLE_STRUCTS_MAX + 1
    app.say(messages.step_2(b"\x01" + uint(count) + b"\x07\x00" + b"\x00\x01" * count + b"\x00"))
    assert app.link.end is not None
    assert app.link.end.close_code == 4400
    assert str(STRUCTS_MAX) not in app.link.end.reason, "that is how many one update may have"
    assert updates_in(lab) == []


def test_a_large_answer_that_is_no_update_ends_the_document() -> None:
    lab = Lab()
    app = Client(lab)
    app.answers = False
    app.sync()
    app.say(messages.step_2(WHOLE[:-1]))
    assert app.link.end is not None
    assert app.link.end.close_code == 4400
    assert updates_in(lab) == []
