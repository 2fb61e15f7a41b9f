"""Errors that cross from one process to another stay what they are."""

from __future__ import annotations

import pickle

from crdt.errors import BadUpdate, PeerError
from crdt.protocol.codes import Code


def test_a_peer_error_survives_pickling() -> None:
    error = pickle.loads(pickle.dumps(PeerError(Code.OP_GAP, "the next op is 3", expected=3)))
    assert (error.code, error.message, error.detail) == (Code.OP_GAP, "the next op is 3", {"expected": 3})


def test_a_bad_update_survives_pickling() -> None:
    error = pickle.loads(pickle.dumps(BadUpdate("malformed", "bytes after the end")))
    assert isinstance(error, BadUpdate)
    assert (error.code, str(error), error.detail) == (Code.BAD_UPDATE, "bytes after the end", {"reason": "malformed"})
