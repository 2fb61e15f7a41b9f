"""A large push is tried on a copy: what it finds, and that the copy is all that it touches."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count

from crdt.errors import PeerError
from crdt.protocol.codes import Code
from crdt.update import EMPTY_STATE_VECTOR, read_state_vector
from server.core import rehearsal
from server.core.records import LogEntry, StoredDocument
from server.core.rehearsal import APPLY_S_MAX
from server.runtime.rehearsal import rehearse as rehearse_for_real
from tests.unit.server.core.lab import Writer, phone

NOTHING = StoredDocument(b"epoch..8", 0, None, ())


def holding(*updates: bytes) -> StoredDocument:
    entry = LogEntry(1, phone(), 1, len(updates), bytes(8), updates, 0)
    return StoredDocument(b"epoch..8", 0, None, (entry,))


def rehearse(stored: StoredDocument, updates: Sequence[bytes]) -> tuple[int, PeerError | None]:
    """Where nothing takes any time."""
    return rehearsal.rehearse(stored, updates, lambda: 0.0)


def test_all_is_tried_where_all_is_well() -> None:
    writer = Writer(1)
    assert rehearse(holding(writer.type("a")), (writer.type("b"), writer.type("c"))) == (2, None)


def test_what_takes_too_long_to_apply_is_too_expensive() -> None:
    """The clock goes on by a little more than is allowed each time that it is read."""
    late = (times * 1.01 * APPLY_S_MAX for times in count())
    tried, error = rehearsal.rehearse(NOTHING, (Writer(1).type("a"),), lambda: next(late))
    assert tried == 0
    assert error is not None
    assert error.code is Code.TOO_EXPENSIVE


def test_what_takes_just_as_long_as_it_may_is_fine() -> None:
    times = iter((0.0, APPLY_S_MAX))
    assert rehearsal.rehearse(NOTHING, (Writer(1).type("a"),), lambda: next(times)) == (1, None)


def test_on_a_real_clock_a_letter_costs_next_to_nothing() -> None:
    assert rehearse_for_real(NOTHING, (Writer(1).type("a"),)) == (1, None)


def test_it_stops_at_the_first_that_is_malformed() -> None:
    writer = Writer(1)
    tried, error = rehearse(NOTHING, (writer.type("a"), b"junk", writer.type("b")))
    assert tried == 1
    assert error is not None
    assert error.code is Code.BAD_UPDATE


def test_it_stops_where_something_is_missing_and_says_what_there_is() -> None:
    writer = Writer(1)
    first, _lost, last = writer.type("a"), writer.type("b"), writer.type("c")
    tried, error = rehearse(holding(first), (last,))
    assert tried == 0
    assert error is not None
    assert error.code is Code.MISSING_DEPS
    assert read_state_vector(error.detail["sv"]) == {1: 1}


def test_what_only_the_document_can_tell_is_told() -> None:
    """An array does not take a string."""
    element = bytes.fromhex("01010100080101610177016100")
    text = bytes.fromhex("01010500040101610161" + "00")
    tried, error = rehearse(holding(element), (text,))
    assert tried == 0
    assert error is not None
    assert error.detail["reason"] == "schema"
    assert rehearse(NOTHING, (text,)) == (1, None)


def test_an_update_that_is_known_is_fine() -> None:
    writer = Writer(1)
    known = writer.type("a")
    assert rehearse(holding(known), (known, writer.replica.diff(EMPTY_STATE_VECTOR))) == (2, None)
