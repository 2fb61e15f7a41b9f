"""What networks carry, drawn and recorded."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from client_sim.fleet.capacity import Drawn, Recording, RecordingError, parse_recording, read_recording
from client_sim.fleet.quantiles import Quantiles, percentile


def test_quantiles_are_drawn_as_they_were_published() -> None:
    stalls = Quantiles.of((0.0, 1.0), (0.5, 4.1), (1.0, 70.0))
    rng = Random(1)
    drawn = sorted(stalls.draw(rng) for _ in range(20_000))
    assert percentile(drawn, 0.5) == pytest.approx(4.1, rel=0.05)
    assert drawn[0] >= 1.0
    assert drawn[-1] <= 70.0
    assert stalls.at(0.0) == 1.0
    assert stalls.at(1.0) == pytest.approx(70.0)


def test_percentiles_of_nothing_and_of_one() -> None:
    assert percentile([], 0.5) is None
    assert percentile([7.0], 0.99) == 7.0
    assert percentile([1.0, 2.0, 3.0, 4.0], 0.5) == 2.0


@pytest.mark.parametrize("seed", range(20))
def test_what_is_carried_until_it_is_finished_is_what_was_sent(seed: int) -> None:
    rng = Random(seed)
    capacity = Drawn(Quantiles.of((0.0, 1000.0), (1.0, 50_000.0)), rng)
    for _ in range(20):
        start_s, size = rng.random() * 100, rng.random() * 1e6
        done_s = capacity.finish(start_s, size)
        assert done_s >= start_s
        assert capacity.carried(start_s, done_s) == pytest.approx(size, rel=1e-6)


@pytest.mark.parametrize("seed", range(20))
def test_a_recording_goes_round(seed: int) -> None:
    rng = Random(seed)
    recording = parse_recording([f"{second} {rng.choice((0.0, 0.5, 2.0))}" for second in range(30)] + ["30 1.0"])
    recording = recording.begun(rng.random() * recording.length_s)
    for _ in range(20):
        start_s, size = rng.random() * 100, 1 + rng.random() * 1e7
        done_s = recording.finish(start_s, size)
        assert done_s >= start_s
        assert recording.carried(start_s, done_s) == pytest.approx(size, rel=1e-6)


def test_each_line_of_a_packet_trace_is_a_packet_of_1500_bytes() -> None:
    trace = parse_recording(["10", "10", "20", "5000"])
    assert trace.length_s == 5.0
    assert trace.finish(0.0, 3000) == pytest.approx(0.010)
    assert trace.finish(0.0, 4500) == pytest.approx(0.020)
    assert trace.finish(0.0, 4501) > 4.998, "nothing trickles through a gap"
    assert trace.finish(0.0, 6001) == pytest.approx(5.0095, abs=0.001)
    fixed = parse_recording(["1"])  # 12 Mbit/s, as mahimahi says
    assert fixed.finish(0.0, 1_500_000) == pytest.approx(1.0, rel=0.01)


def test_seconds_and_mbits_with_spaces_or_commas() -> None:
    for lines in (["0 8", "1 0", "2 8"], ["time,mbps", "100,8", "101,0", "102,8"]):
        log = parse_recording(lines)
        assert log.length_s == 3.0
        assert log.finish(0.0, 500_000) == pytest.approx(0.5)
        assert log.finish(0.0, 1_500_000) == pytest.approx(2.5)


def test_logs_of_commutes() -> None:
    log = parse_recording(["1289406399 549692 59.85 10.78 248069 1008", "1289406400 550772 59.85 10.78 191698 1080"])
    assert log.length_s == pytest.approx(2.088)
    assert log.finish(0.0, 248069) == pytest.approx(1.008)


@pytest.mark.parametrize("text", ["", "1 2 3", "a b\n1 2 3 4", "0 0\n1 0", "5\n3\n", "1 2\n3"])
def test_what_is_no_recording_says_so(tmp_path: Path, text: str) -> None:
    (tmp_path / "log").write_text(text)
    with pytest.raises(RecordingError):
        read_recording(tmp_path / "log")


def test_time_does_not_go_backwards() -> None:
    with pytest.raises(RecordingError):
        Recording([0.0, 2.0, 1.0], [0.0, 1.0, 2.0])
