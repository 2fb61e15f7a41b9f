"""Recorded editing histories end with the text that they say they end with."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from client_sim.traces import (
    FOLDER_VARIABLE,
    FORMAT,
    GapText,
    Patch,
    Trace,
    TraceError,
    folder,
    load,
    trace_files,
    updates,
)
from crdt.replica import Replica
from crdt.update import STEPS_SMALL, Layout, StateVector, read_update

SOAK = bool(os.environ.get("SYNCLINE_SOAK"))
SLOW = "automerge-paper"
"""A quarter of a million edits of one long text, which takes the library minutes."""


def traces() -> list[Trace]:
    found = folder()
    if found is None:
        pytest.skip(f"{FOLDER_VARIABLE} does not name a folder with recordings")
    loaded = [load(path) for path in trace_files(found)]
    assert loaded, f"no recordings in {found}"
    return loaded


def replayed(trace: Trace) -> str:
    text = GapText()
    for patches in trace.transactions():
        for patch in patches:
            text.replace(patch)
    return str(text)


def test_sequential_recordings_replay_to_their_end() -> None:
    for trace in traces():
        if not trace.is_concurrent:
            trace.check(replayed(trace))
            assert trace.parents[:2] == [(), (0,)]


def test_concurrent_recordings_merge_to_their_end() -> None:
    for trace in traces():
        if trace.is_concurrent:
            check_updates(trace)


def test_recordings_replay_in_the_library() -> None:
    for trace in traces():
        if SOAK or trace.name == "sveltecomponent":
            check_bytes(trace)
        if SOAK and not trace.is_concurrent and trace.name != SLOW:
            check_updates(trace)


def check_updates(trace: Trace) -> None:
    """Every update of a recording fits in the order given, and together they are its text."""
    known: StateVector = {}
    layout = Layout()
    replica = Replica()
    for _, update in updates(trace):
        read = read_update(update, bounded=True)
        assert read.missing(known) is None
        assert layout.admit(read, known) < STEPS_SMALL
        read.advance(known)
        replica.apply([update])
    assert replica.state_vector() == known
    trace.check(replica.values()["text"])


def check_bytes(trace: Trace) -> None:
    """Patches in bytes do to the bytes of a text what the recording did to its characters."""
    if trace.is_concurrent or trace.name == SLOW:
        return
    text = bytearray()
    for patches in trace.byte_transactions():
        for at, delete, insert in patches:
            text[at : at + delete] = insert.encode()
    trace.check(text.decode())


# --- the loader, on recordings made here

SMALL: Mapping[str, Any] = {
    "format": FORMAT,
    "name": "small",
    "kind": "sequential",
    "end_len": 4,
    "end_sha256": sha256("hé😀!".encode()).hexdigest(),
    "txns": 2,
    "t0": 1000,
    "dt_s": [None, 5],
    "npatches": [1, 2],
    "pos_delta": [0, -3, 1],
    "del": [0, 0, 1],
    "ins_len": [3, 1, 1],
    "ins_text": "éx!h😀",
}
TWO_AGENTS: Mapping[str, Any] = {
    "format": FORMAT,
    "name": "two agents",
    "kind": "concurrent",
    "end_len": 5,
    "end_sha256": sha256(b"aXbY!").hexdigest(),
    "txns": 4,
    "pos_delta": [0, -1, 0, 1],
    "del": [0, 0, 0, 0],
    "ins_len": [2, 1, 1, 1],
    "ins_text": "abXY!",
    "agents": 2,
    "agent": [0, 1, 0, 1],
    "parents_rel": [[], [1], [2], [2, 1]],
}


def recorded(tmp_path: Path, columns: Mapping[str, Any]) -> Path:
    path = tmp_path / "recording.json.gz"
    path.write_bytes(gzip.compress(json.dumps(columns).encode()))
    return path


def test_a_recording_is_read_column_by_column(tmp_path: Path) -> None:
    trace = load(recorded(tmp_path, SMALL))
    assert len(trace) == 2
    assert list(trace.transactions()) == [[Patch(0, 0, "éx!")], [Patch(0, 0, "h"), Patch(2, 1, "😀")]]
    assert list(trace.byte_transactions()) == [[Patch(0, 0, "éx!")], [Patch(0, 0, "h"), Patch(3, 1, "😀")]]
    assert (trace.parents, list(trace.agents), trace.times_s) == ([(), (0,)], [0, 0], [None, 1005])
    trace.check(replayed(trace))
    check_updates(trace)


def test_agents_write_on_what_they_had_seen(tmp_path: Path) -> None:
    trace = load(recorded(tmp_path, TWO_AGENTS))
    assert trace.parents == [(), (0,), (0,), (1, 2)]
    assert [agent for agent, _ in updates(trace)] == [0, 1, 0, 1]
    check_updates(trace)


def test_a_recording_that_ends_with_another_text_is_found_out(tmp_path: Path) -> None:
    trace = load(recorded(tmp_path, SMALL))
    with pytest.raises(TraceError):
        trace.check("hé😀?")


@pytest.mark.parametrize(
    "changed",
    [{"format": "columns-2"}, {"npatches": [1, 1]}, {"txns": 3}, {"ins_text": "éx!h"}, {"del": [0]}],
    ids=lambda changed: next(iter(changed)),
)
def test_columns_that_do_not_fit_are_refused(tmp_path: Path, changed: Mapping[str, Any]) -> None:
    with pytest.raises(TraceError):
        load(recorded(tmp_path, {**SMALL, **changed}))


@pytest.mark.parametrize("patch", [Patch(4, 0, "x"), Patch(-1, 0, "x"), Patch(2, 2, "")])
def test_a_patch_beyond_the_text_is_refused(patch: Patch) -> None:
    with pytest.raises(TraceError):
        GapText("abc").replace(patch)
