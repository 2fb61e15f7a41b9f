"""A run of the fan-out notices when a device was not sent all, in order; the command runs from end to end."""

from __future__ import annotations

import socket
import subprocess
import sys
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.figures import WorkloadFailed
from benchmarks.load import Device, Loop, Script
from benchmarks.report import Report, cases
from benchmarks.workloads.fanout import Room, check_deltas
from crdt.protocol import frames
from crdt.protocol.codec import encode

ROOT = Path(__file__).parents[3]
WITHIN_S = 120
CHOSEN = ("fanout/1x100-batched", "fanout/50x4-paced", "checks")
"""Every path; the others differ in numbers."""


def read_by_the_first(room: Room, *deltas: frames.Delta) -> None:
    payloads = map(encode, deltas)
    room.devices[0].kept = [(0.0, b"".join(bytes((0x82, len(payload))) + payload for payload in payloads))]


def delta(seq: int, *updates: bytes) -> frames.Delta:
    return frames.Delta(1, seq, updates)


@pytest.mark.parametrize(
    "sent",
    [
        (delta(2, b"b1"), delta(3, b"c1")),
        (delta(2, b"b1"), delta(3, b"c1"), delta(4, b"b2", b"d")),
        (delta(2, b"b2"), delta(3, b"c1"), delta(4, b"b1")),
        (delta(3, b"b1"), delta(2, b"c1"), delta(4, b"b2")),
        (delta(2, b"b1"), delta(2, b"c1"), delta(4, b"b2")),
    ],
    ids=["one is missing", "one too many", "ops out of order", "entries out of order", "an entry twice"],
)
def test_a_run_fails_when_a_device_was_not_sent_all_in_order(sent: tuple[frames.Delta, ...]) -> None:
    with ExitStack() as stack:
        loop = stack.enter_context(closing(Loop()))
        room = Room("alice")
        for updates in ((b"a1",), (b"b1", b"b2"), (b"c1",)):
            ours, theirs = socket.socketpair()
            stack.enter_context(closing(theirs))
            device = stack.enter_context(closing(Device(loop, ours, 1, b"")))
            device.script = Script.of(updates, 1)
            device.sent_at = [0.0] * len(updates)
            room.devices.append(device)
        read_by_the_first(room, delta(2, b"b1"), delta(3, b"c1"), delta(4, b"b2"))
        check_deltas(room, room.devices[0])
        read_by_the_first(room, *sent)
        with pytest.raises(WorkloadFailed):
            check_deltas(room, room.devices[0])


def test_a_smoke_run_measures_and_checks_everything_once(tmp_path: Path) -> None:
    kept = tmp_path / "report.json"
    only = [argument for name in CHOSEN for argument in ("--only", name)]
    done = subprocess.run(  # it binds itself to a core
        [sys.executable, "-m", "benchmarks", "--quick", *only, "--json", str(kept), "--plots", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, timeout=WITHIN_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    report = Report.read(kept)
    found = {case.workload: case for case in cases(report)}
    assert [*found] == [*CHOSEN[:2], "checks/updates", "checks/messages", "checks/codec", "checks/tokens"]
    figures = {figure.name: figure.spread.median for figure in found["fanout/50x4-paced"].figures}
    assert figures["updates"] > 0
    assert 0 < figures["ack p50"] <= figures["ack p99"]
    assert found["fanout/50x4-paced"].generator_shares
    assert {path.name for path in tmp_path.glob("*.png")} == {"fanout.png", "checks.png"}


def test_all_workloads_have_names_and_part_of_one_will_do(capsys: pytest.CaptureFixture[str]) -> None:
    def listed(*arguments: str) -> list[str]:
        assert main(["--list", *arguments]) == 0
        return capsys.readouterr().out.split()

    named = listed()
    assert set(CHOSEN[:2]) <= set(named)
    assert listed("--only", "saturated") == [name for name in named if "saturated" in name]
    assert listed("--only", "checks") == [name for name in named if name.startswith("checks/")]
    with pytest.raises(SystemExit):
        main(["--list", "--only", "nothing"])
