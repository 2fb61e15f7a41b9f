"""Known hostile inputs, each on the document that it was made for: the check refuses them, and says why."""

from __future__ import annotations

import json
import zlib
from base64 import b64decode
from dataclasses import dataclass
from pathlib import Path

import pytest

from client_sim.traces import FOLDER_VARIABLE, folder
from crdt.errors import BadUpdate, PeerError
from crdt.protocol.codes import Code
from crdt.update import read_state_vector
from tests.unit.crdt.checked import Checked
from tests.unit.crdt.documents import array, made

FILE = "../hostile/cases.json"
HARMLESS_WHEN_EMPTY = "H2"
"""On an empty document it is what an honest device sends that types an emoji into a text."""

REASONS = {
    **dict.fromkeys(("P1", "P3", "P6", "A3", "H1", "C2", "S8"), "malformed"),
    **dict.fromkeys(("A1", "C1", "M1", "S3", "S7"), "limit"),
    **dict.fromkeys(("S1", "J1"), "unsupported"),
    **dict.fromkeys(("H2", "S5"), "schema"),
}


@dataclass(frozen=True, slots=True)
class Case:
    """Bytes, and the state of the document that they are sent to (empty: none)."""

    name: str
    base: bytes
    is_state_vector: bool
    data: bytes


def cases(path: Path) -> list[Case]:
    recorded = json.loads(path.read_text(encoding="utf-8"))
    found = []
    for case in recorded["cases"]:
        data = bytes.fromhex(case["hex"]) if "hex" in case else zlib.decompress(b64decode(case["zlib_base64"]))
        base = bytes.fromhex(recorded["bases"][case["base"]])
        found.append(Case(case["id"], base, case["kind"] == "state_vector", data))
    return found


@pytest.fixture(scope="module")
def hostile() -> list[Case]:
    traces = folder()
    if traces is None or not (traces / FILE).exists():
        pytest.skip(f"there is no {FILE} beside what {FOLDER_VARIABLE} names")
    return cases(traces / FILE)


def test_every_hostile_update_is_refused_for_its_reason(hostile: list[Case]) -> None:
    refused = {}
    for case in hostile:
        if case.is_state_vector:
            continue
        base = made(lambda doc: array(doc, "a").append(1)) if case.name == HARMLESS_WHEN_EMPTY else case.base
        document = Checked([base] if base else [])
        before = document.layout.pack()
        with pytest.raises(BadUpdate) as raised:
            document.push(case.data)
        refused[case.name] = raised.value.detail["reason"]
        assert document.layout.pack() == before
    assert refused == REASONS


def test_an_emoji_in_a_new_root_is_read_as_a_text(hostile: list[Case]) -> None:
    case = next(case for case in hostile if case.name == HARMLESS_WHEN_EMPTY)
    assert Checked([case.data]).replica().values() == {"a": "😀"}


def test_every_hostile_state_vector_is_refused(hostile: list[Case]) -> None:
    for case in hostile:
        if case.is_state_vector:
            with pytest.raises(PeerError) as refused:
                read_state_vector(case.data)
            assert refused.value.code is Code.BAD_STATE
