"""The page about a run: all that happened is on it, where it belongs, and it needs nothing else to be looked at."""

from __future__ import annotations

import io
import re
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from rich.console import Console

from client_sim import __main__
from client_sim.errors import NotPossible
from client_sim.sim import command, timeline
from client_sim.sim.command import Request
from client_sim.sim.history import Line
from client_sim.sim.plan import Deed, make
from client_sim.sim.report import Subject, page
from client_sim.sim.run import Failure, Outcome, play_seed
from client_sim.sim.tally import rows
from client_sim.sim.timeline import Axis, Bar

CALM = Line(50.0, "world", timeline.CALM)
LINES = [
    Line(0.0, "server-0", "state", "up"),
    Line(0.0, "phone", "state", "offline"),
    Line(1.0, "phone", "state", "current"),
    Line(1.5, "phone", "caught up", "alice/main from server-0: tail"),
    Line(2.0, "phone", "typed", "alice/main"),
    Line(2.5, "phone", "was acknowledged", "op 1 of main"),
    Line(3.0, "server-0", "crash"),
    Line(3.0, "server-0", "state", "down"),
    Line(4.0, "database", "compacted", "alice/main up to 1"),
    Line(5.0, "operator", Deed.RESTORE),
    Line(6.0, "eve/pc", "hostile", "garbage"),
    Line(7.0, "phone", Deed.NETWORK_OFF),
    Line(9.0, "phone", Deed.NETWORK_ON),
    Line(10.0, "phone", "a fault that nobody has heard of"),
    Line(40.0, "database", Deed.DISK_FULL),
    CALM,
    Line(60.0, "phone", "state", "offline"),
]


def outcome(lines: list[Line], failure: Failure | None = None) -> Outcome:
    return Outcome(5, "digest", 1.0, 2.0, Counter(edits=1, typed=1, killed=1), failure, lines)


def traces(told: Outcome) -> dict[str, list[tuple[str, float]]]:
    """Of the figure, by their names: each one's lanes, and how far above the middle."""
    figure = timeline.figure(told)
    ticks = figure.layout.yaxis
    names = dict(zip(ticks.tickvals, ticks.ticktext, strict=True))
    return {trace.name: [(names[round(y)], round(y - round(y), 2)) for y in trace.y] for trace in figure.data}


def test_everybody_has_a_lane_in_an_order_that_can_be_read() -> None:
    assert timeline.lanes(LINES) == ["operator", "database", "server-0", "phone", "eve/pc"]


def test_bars_last_until_the_next_state_or_the_end() -> None:
    assert sorted(timeline.states(LINES)) == [
        Bar("phone", "current", 1.0, 60.0), Bar("phone", "offline", 0.0, 1.0), Bar("phone", "offline", 60.0, 60.0),
        Bar("server-0", "down", 3.0, 60.0), Bar("server-0", "up", 0.0, 3.0),
    ]  # fmt: skip


def test_what_lasts_ends_with_its_opposite_or_with_all_faults() -> None:
    assert list(timeline.spells(LINES)) == [
        Bar("phone", Deed.NETWORK_OFF, 7.0, 9.0), Bar("database", Deed.DISK_FULL, 40.0, 50.0),
    ]  # fmt: skip
    assert list(timeline.spells([Line(1.0, "database", Deed.DISK_FULL), Line(2.0, "phone", "typed")])) == [
        Bar("database", Deed.DISK_FULL, 1.0, 2.0)
    ]


def test_each_kind_of_event_is_a_mark_on_the_lane_of_whom_it_happens_to() -> None:
    drawn = traces(outcome(LINES))
    assert drawn["catch-up: tail"][0][0] == drawn["edits"][0][0] == drawn["acknowledged"][0][0] == "phone"
    assert drawn["compaction"] == [("database", 0.0)]
    assert drawn["backups, restores, clones"] == [("operator", 0.0)]
    assert drawn["hostile"] == [("eve/pc", 0.0)]
    assert drawn["faults"] == [("server-0", 0.0), ("phone", 0.0), ("phone", 0.0), ("database", 0.0)]
    assert [who for who, _ in drawn["no network"]] == ["phone"]
    assert {"current", "offline", "up", "down", "disk full"} <= set(drawn)
    assert "broken" not in drawn


def test_all_that_happened_is_drawn() -> None:
    told = play_seed(8, keep=True)
    drawn = timeline.figure(told).data
    marks = [number for trace in drawn if trace.customdata is not None for number in trace.customdata]
    lines = [n for n, line in enumerate(told.lines) if line.what not in ("is", "state", timeline.CALM)]
    assert sorted(marks) == lines
    assert {line.who for line in told.lines} - {"world"} == set(timeline.lanes(told.lines))


def test_what_broke_is_marked_when_and_where() -> None:
    told = outcome(LINES, Failure("nothing is lost", "nothing is lost: an op of phone", 60.0))
    assert traces(told)["broken"] == [("phone", 0.0)]
    texts = [annotation.text for annotation in timeline.figure(told).layout.annotations]
    assert texts == ["faults end, all must heal", "broken: nothing is lost"]


def test_quiet_stretches_are_drawn_short_and_nothing_changes_places() -> None:
    times = [0.0, 0.5, 1.0, 3_000_000.0, 3_000_000.2]
    axis = Axis(reversed(times))
    assert [axis.at(time_s) for time_s in times[:3]] == times[:3]
    assert axis.at(times[3]) < 40
    assert axis.at(times[4]) == pytest.approx(axis.at(times[3]) + 0.2)
    probes = [axis.at(time_s) for time_s in (*times[:3], 2.0, 1_000_000.0, *times[3:])]
    assert all(earlier < later for earlier, later in pairwise(probes))
    assert axis.length == axis.at(times[4]) == axis.at(4_000_000.0)
    assert list(axis.ticks().values())[-1] == "34 d 17:20:00"


def test_a_run_in_which_nothing_happened_has_a_page() -> None:
    assert "Nothing happened" in page(Subject(make(5), "swarm", "repeat", outcome([])))
    assert timeline.figure(outcome([CALM])).layout.yaxis.tickvals == ()


def test_a_page_tells_all_and_needs_nothing_else() -> None:
    broken = Failure("nothing is lost", "nothing is lost: <b>an op</b> of phone", 61.0)
    whole = outcome([*LINES, Line(60.5, "phone", "is", "current on the whole")], broken)
    text = page(Subject(make(5), "swarm", "python -m client_sim sim --seed 5", whole, outcome(LINES, broken), 3))
    script = re.sub("<script.*?</script>", "", text, flags=re.DOTALL)
    assert "Seed 5: broken: nothing is lost, at 0:01:01.000" in script
    assert "nothing is lost: &lt;b&gt;an op&lt;/b&gt; of phone" in script
    assert "python -m client_sim sim --seed 5" in script
    assert f"3 of {len(make(5).actions)} actions" in script
    assert "processes killed 1" in script
    assert '<tr id="shrunken-3"><td>0:00:01.500</td><td>phone</td><td>caught up</td>' in script
    assert script.count("a fault that nobody has heard of") == 2
    assert "the whole</td>" not in script, "another line says so"
    assert not re.search(r"(src|href)\s*=", script)
    assert "Plotly.newPlot" in text
    assert not re.search("<script[^>]+src=", text)


def test_of_what_was_simulated_nothing_is_left_out() -> None:
    names = sorted(set(play_seed(8).counts) - {timeline.CALM, "hostile"})
    table = dict(rows(1.0, 5.0, {name: 10_000 + number for number, name in enumerate(names)}))
    assert {"virtual days", "edits", "catch-ups", "hostile inputs", "cuts", "crashes"} <= set(table)
    text = " ".join(table.values())
    assert [name for number, name in enumerate(names) if f"{10_000 + number:,}" not in text] == []


def test_cuts_crashes_and_what_is_new_are_told() -> None:
    counts = Counter({"lost, cut": 2, "lost, cut within a message up": 1, "lost, gone": 4, "killed": 3, "crashed": 1,
                      "struck by lightning": 7})  # fmt: skip
    table = dict(rows(1.0, 2.0, counts))
    assert table["cuts"] == "3: at once 2, within a message up 1"
    assert table["otherwise lost"] == "4: gone 4"
    assert table["crashes"] == "processes killed 3, of them between two effects 1"
    assert table["also"] == "struck by lightning 7"


def request(folder: Path | None, trace: Path | None = None, seeds: int = 1) -> Request:
    return Request(seeds, 5, "calm", None, trace, folder, time.monotonic)


def test_without_plotly_it_is_said_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "find_spec", lambda _: None)
    monkeypatch.setattr(command, "outcomes", lambda *_: pytest.fail("it began to run"))
    with pytest.raises(NotPossible, match=r"pip install 'syncline\[report\]'"):
        command.run(Console(file=io.StringIO()), request(tmp_path))
    assert __main__.main(["sim", "--seeds", "1", "--report", str(tmp_path)]) == __main__.NOT_DONE
    assert "pip install 'syncline[report]'" in capsys.readouterr().err


def test_a_folder_that_can_not_be_made_is_found_before_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "outcomes", lambda *_: pytest.fail("it began to run"))
    (tmp_path / "file").touch()
    for asked in (request(tmp_path / "file" / "report"), request(None, tmp_path / "file" / "trace")):
        with pytest.raises(OSError, match="file"):
            command.run(Console(file=io.StringIO()), asked)


def test_where_nobody_watches_lines_take_the_place_of_the_bar() -> None:
    console = Console(file=io.StringIO(), width=200)
    assert command.run(console, request(None, seeds=2)) == 0
    assert isinstance(console.file, io.StringIO)
    printed = console.file.getvalue()
    assert "1 of 2 seeds, 0 broken" in printed
    assert "\x1b" not in printed
    assert "2 seeds, 0 broken" in printed
