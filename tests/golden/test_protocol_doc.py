"""docs/PROTOCOL.md is what others write their devices from: every example, field, code and limit in it is true."""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgpack
import pytest

from crdt.errors import PeerError
from crdt.limits import DEFLATE_FROM_BYTES, Limits
from crdt.protocol import codec, frames
from crdt.protocol.codes import CLOSE, CLOSE_AFTER_OFFENCES, Code
from crdt.replica import Replica
from crdt.values import canonical_json
from tests.golden import story
from tests.golden.annotate import annotated, field_names
from tests.golden.test_digest import GOLDEN as DIGEST

DOC = (Path(__file__).parents[2] / "docs" / "PROTOCOL.md").read_text()
GOLDEN = story.load()

EXAMPLES = re.findall(r"```frame ([\w-]+)\n(.*?)\n```", DOC, re.DOTALL)
DIALOGUE = re.findall(r"^(->|<-) ([\w-]+) +([0-9a-f]+)$", DOC, re.MULTILINE)
RULES = {rule: (number, body) for rule, number, body in re.findall(r"^([\w-]+) = \[(\d+), (.*)\]$", DOC, re.MULTILINE)}

FRAMES: dict[str, type[Any]] = {
    re.sub(r"(?<=[a-z])(?=[A-Z])", "-", frame.__name__).lower().replace("go-away", "goaway"): frame
    for frame in (*frames.DeviceFrame.__args__, *frames.ServerFrame.__args__)
}


@pytest.mark.parametrize(("name", "text"), EXAMPLES)
def test_examples_are_the_golden_bytes(name: str, text: str) -> None:
    assert text == annotated(GOLDEN[name].data, type(story.ALL[name]))


def test_every_frame_has_an_example() -> None:
    assert {type(story.ALL[name]) for name, _ in EXAMPLES} == set(FRAMES.values())


def test_the_dialogue_is_of_golden_frames() -> None:
    assert len(DIALOGUE) > 10
    for arrow, name, data in DIALOGUE:
        assert (arrow == "->") == (GOLDEN[name].sender == "device")
        assert data == GOLDEN[name].data.hex()


def test_every_frame_has_a_rule() -> None:
    assert RULES.keys() == FRAMES.keys()


@pytest.mark.parametrize("rule", FRAMES)
def test_rules_name_the_fields_in_wire_order(rule: str) -> None:
    number, body = RULES[rule]

    assert int(number) == FRAMES[rule].TYPE
    assert re.findall(r"(\w+): ", body) == field_names(FRAMES[rule])
    assert body.endswith(", * any")


@pytest.mark.parametrize("rule", FRAMES)
def test_rules_tell_which_fields_may_be_absent(rule: str) -> None:
    fields = re.findall(r"(\? )?\w+: ", RULES[rule][1])
    name = next(name for name, frame in story.EXACT.items() if type(frame) is FRAMES[rule])
    values = msgpack.unpackb(GOLDEN[name].data)

    for count in range(len(fields) + 1):
        assert decodes(msgpack.packb(values[: count + 1])) == all(fields[count:])


def decodes(data: bytes) -> bool:
    read = codec.decode_device_frame if data[1] < 32 else codec.decode_server_frame
    try:
        return read(data, Limits()) is not None
    except PeerError:
        return False


def test_the_table_of_codes() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\S+) \| `(\w+)` \|", DOC, re.MULTILINE)
    once = {code: str(close) for code, close in CLOSE.items()}
    in_the_end = {code: f"({close})" for code, close in CLOSE_AFTER_OFFENCES.items()}

    assert rows == [(code, {**once, **in_the_end}.get(code, "-"), code.retry) for code in Code]


def test_the_table_of_limits() -> None:
    section = DOC.partition("\n## Limits\n")[2]
    rows = re.findall(r"^\| `(\w+)` \| (\d+) \|", section, re.MULTILINE)

    assert {name: int(value) for name, value in rows} == asdict(Limits())
    assert f"deflate from {DEFLATE_FROM_BYTES:,} bytes" in DOC
    assert f"more than {codec.CONTAINERS_MAX:,} arrays and maps" in DOC


def test_the_worked_values() -> None:
    replica = Replica.load([story.HI, story.SET_X, story.BANG])
    clocks = [list(pair) for pair in sorted(replica.state_vector().items())]

    for op, update, chain in ((1, story.HI, story.CHAIN_1), (2, story.BANG, story.CHAIN_2)):
        assert f"| {op} | `{update.hex()}` | `{chain.hex()}` |" in DOC
    assert f"`{canonical_json([clocks, replica.values()]).decode()}`, and the digest `{story.DIGEST.hex()}`" in DOC
    assert f"```json\n{DIGEST['canonical']}\n```" in DOC
    assert f"has the digest `{DIGEST['digest']}`" in DOC
