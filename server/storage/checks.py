"""What every storage may take for granted of its callers."""

from __future__ import annotations

from collections.abc import Sequence

from server.core.records import DocumentAppend


def check_batch(batch: Sequence[DocumentAppend]) -> None:
    """Each document comes once, and brings entries with consecutive seqs from 1: anything else is our own mistake."""
    documents = [append.document for append in batch]
    assert len(frozenset(documents)) == len(documents), "a document twice in one batch"
    for append in batch:
        first_seq = append.entries[0].seq
        seqs = [entry.seq for entry in append.entries]
        assert first_seq >= 1, f"no entry has seq {first_seq}"
        assert seqs == list(range(first_seq, first_seq + len(seqs))), f"a gap in {seqs}"
