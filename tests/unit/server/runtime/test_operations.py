"""Verifying a document finds damage that no checksum shows: rows that are whole, and do not belong together."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pycrdt import Text

from crdt.replica import Replica
from crdt.update import EMPTY_UPDATE
from server.core.records import LogEntry, Snapshot, StoredDocument
from server.runtime.operations import document_json, document_problem, document_state
from tests.contract.storage_support import TIME_MS, entry, typed_entries

EPOCH = b"epoch..8"
TYPED = typed_entries("hello")


def stored(entries: tuple[LogEntry, ...], snapshot: Snapshot | None = None) -> StoredDocument:
    return StoredDocument(EPOCH, 0, snapshot, entries)


def snapshot_of(entries: tuple[LogEntry, ...], seq: int) -> Snapshot:
    state = document_state(stored(entries))
    return Snapshot(seq, EPOCH, state, {}, TIME_MS)


@pytest.mark.parametrize(
    "document",
    [
        stored(TYPED),
        stored(TYPED, snapshot_of(TYPED[:3], 3)),
        stored(TYPED[3:], snapshot_of(TYPED[:3], 3)),
        stored(TYPED[4:], snapshot_of(TYPED, 5)),
        stored((entry(1, EMPTY_UPDATE),)),
    ],
    ids=["log", "both", "both, trimmed", "snapshot", "empty"],
)
def test_a_sound_document_has_no_problem(document: StoredDocument) -> None:
    assert document_problem(document) is None


@pytest.mark.parametrize(
    "document",
    [
        stored((TYPED[0], *TYPED[2:])),
        stored((TYPED[0]._replace(updates=(b"\xff\xff",)), *TYPED[1:])),
        stored(TYPED[3:], snapshot_of(TYPED[:2], 3)),
        stored(TYPED, replace(snapshot_of(TYPED[:2], 3), seq=3)),
        stored(TYPED[1:4], snapshot_of(TYPED[:1], 4)),
        stored(TYPED[4:], Snapshot(5, EPOCH, b"", {}, TIME_MS)),
    ],
    ids=["an update is lost", "no update", "old snapshot", "old snapshot, whole log", "a lost tail", "empty snapshot"],
)
def test_what_does_not_belong_together_is_found(document: StoredDocument) -> None:
    assert document_problem(document)


def test_a_delete_that_the_snapshot_lacks_is_found() -> None:
    replica = Replica.load([document_state(stored(TYPED))], client_id=9)
    deletion = replica.edit(lambda doc: doc.get("text", type=Text).clear())
    assert deletion is not None
    document = stored((*TYPED, entry(6, deletion)), snapshot_of(TYPED, 6))
    assert document_problem(document) == "the snapshot lacks something of the log that it covers"


def test_a_delete_of_what_is_not_there_is_found() -> None:
    replica = Replica.load([document_state(stored(TYPED))], client_id=9)
    deletion = replica.edit(lambda doc: doc.get("text", type=Text).clear())
    assert deletion is not None
    assert "which is not there" in (document_problem(stored((entry(1, deletion),))) or "")


def test_values_are_json_and_the_state_is_an_update() -> None:
    assert document_json(stored(TYPED)) == b'{"text":"hello"}'
    assert Replica.load([document_state(stored(TYPED))]).values() == {"text": "hello"}
