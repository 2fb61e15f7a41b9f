"""Names of documents and devices."""

from __future__ import annotations

import pytest

from crdt.ids import NAME_CHARS_MAX, DeviceId, DocumentId, is_name


@pytest.mark.parametrize("name", ["a", "main", "alice@example.org", "A-Z_0.9~:+", "n" * NAME_CHARS_MAX, ".."])
def test_names(name: str) -> None:
    assert is_name(name)


@pytest.mark.parametrize("name", ["", "a b", "a/b", "ü", "a\n", "n" * (NAME_CHARS_MAX + 1), "a%2f", "a\x00", "٣"])
def test_what_is_no_name(name: str) -> None:
    assert not is_name(name)


def test_a_document_has_an_owner_and_a_name() -> None:
    assert DocumentId.parse("alice/notes") == DocumentId("alice", "notes")
    assert DocumentId.parse("notes", "alice") == DocumentId("alice", "notes")
    assert DocumentId.parse("bob/notes", "alice") == DocumentId("bob", "notes")


def test_documents_are_written_as_they_are_read() -> None:
    document = DocumentId("alice", "notes")
    assert str(document) == "alice/notes"
    assert DocumentId.parse(str(document)) == document


@pytest.mark.parametrize("document", ["notes", "", "/", "/notes", "alice/", "a/b/c", "alice/no tes", "alice/\n"])
def test_what_names_no_document(document: str) -> None:
    with pytest.raises(ValueError, match="document"):
        DocumentId.parse(document)


def test_two_users_devices_of_one_name_are_two() -> None:
    assert DeviceId("alice", "phone") != DeviceId("bob", "phone")
    assert str(DeviceId("alice", "phone")) == "alice/phone"
