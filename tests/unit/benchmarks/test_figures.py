"""What reports say of figures: medians, spreads, and what has changed since."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.compare import Verdict, changes
from benchmarks.figures import Better, Figure, Run, Scale, Workload, WorkloadFailed
from benchmarks.harness import run_once
from benchmarks.plots import draw
from benchmarks.report import Report, cases
from benchmarks.tables import number, show, show_changes


def report(*values: float, better: Better = Better.LOWER, share: float | None = None) -> Report:
    """One case with one figure, measured so often."""
    runs: list[tuple[Run, ...]] = [
        (Run("case", (Figure("CPU", value, "us", better),), share, "a note"),) for value in values
    ]
    return replace(Report.begun("a command", Scale(), {"peer": "1.2"}), runs={"group/workload": runs})


def shown(found: Report) -> str:
    text = StringIO()
    show(found, Console(file=text, width=200))
    return text.getvalue()


def test_the_median_and_the_spread_are_those_of_all_runs() -> None:
    [case] = cases(report(5, 1, 3))
    assert case.title == "group/workload, case"
    [figure] = case.figures
    assert (figure.spread.least, figure.spread.median, figure.spread.most) == (1, 3, 5)


def test_a_report_is_read_as_it_was_written(tmp_path: Path) -> None:
    written = report(1, 2, share=0.5)
    written.failures["group/other"] = ["lost an update"]
    written.write(tmp_path / "report.json")
    assert Report.read(tmp_path / "report.json") == written


def test_a_report_says_where_and_how_it_was_made() -> None:
    begun = Report.begun("a command", Scale(), {"peer": "1.2"})
    assert begun.command == "a command"
    assert {"peer", "python", "pycrdt", "sqlite"} <= begun.versions.keys()
    assert {"cpu", "cores", "kernel"} <= begun.machine.keys()


def test_another_file_is_no_report(tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    path.write_text("{}")
    with pytest.raises(ValueError, match="format"):
        Report.read(path)


@pytest.mark.parametrize(
    ("earlier", "now", "better", "verdict"),
    [
        ((10, 11, 12), (5, 6, 7), Better.LOWER, Verdict.BETTER),
        ((10, 11, 12), (5, 6, 7), Better.HIGHER, Verdict.WORSE),
        ((10, 11, 12), (20, 21, 22), Better.LOWER, Verdict.WORSE),
        ((10, 11, 12), (20, 21, 22), Better.HIGHER, Verdict.BETTER),
        ((10, 11, 14), (8, 9, 12), Better.LOWER, Verdict.SAME),
        ((10, 10, 10), (10, 10, 10), Better.LOWER, Verdict.SAME),
        ((10, 11, 12), (5, 6, 7), Better.NEITHER, Verdict.UNJUDGED),
        ((10, 11), (5, 6, 7), Better.LOWER, Verdict.UNJUDGED),
        ((10, 11, 12), (5, 6), Better.LOWER, Verdict.UNJUDGED),
    ],
)
def test_a_change_is_judged_only_where_no_runs_overlap(
    earlier: tuple[float, ...], now: tuple[float, ...], better: Better, verdict: Verdict
) -> None:
    [change] = changes(report(*earlier, better=better), report(*now, better=better))
    assert change.verdict is verdict


def test_the_ratio_is_that_of_the_medians() -> None:
    [change] = changes(report(10, 20, 90), report(1, 10, 11))
    assert change.ratio == 0.5
    [change] = changes(report(0, 0), report(1, 1))
    assert change.ratio is None


def test_what_one_side_has_not_measured_is_not_compared() -> None:
    other = replace(report(1, 2), runs={"group/another": report(1, 2).runs["group/workload"]})
    assert list(changes(other, report(1, 2))) == []


def test_a_report_warns_of_a_busy_generator_and_of_failures() -> None:
    found = report(1, share=0.9)
    found.failures["group/other"] = ["lost an update"]
    text = shown(found)
    assert "more than 85% of its core in 1 of 1 runs" in text
    assert "group/other FAILED: lost an update" in text
    assert "a note" in text
    assert "may be what was measured" not in shown(report(1, share=0.8))


def test_a_smoke_run_says_that_it_measures_nothing() -> None:
    assert "mean nothing" in shown(replace(report(1), scale=Scale(quick=True)))


def test_changes_are_shown_with_their_ratio_and_verdict() -> None:
    text = StringIO()
    earlier = report(10, 11, 12)
    show_changes(list(changes(earlier, report(5, 6, 7))), earlier, Console(file=text, width=200))
    assert "0.545" in text.getvalue()
    assert "better" in text.getvalue()


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (0.01234, "0.0123"), (1.5, "1.5"), (99.94, "99.9"), (1234567.8, "1,234,568")]
)
def test_numbers_have_three_digits_that_count(value: float, text: str) -> None:
    assert number(value) == text


def test_a_group_is_a_picture(tmp_path: Path) -> None:
    found = report(1, 2, 3)
    found.runs["second/workload"] = [(Run("a", (Figure("size", 0, "bytes"), Figure("time", 1000, "s"))),)]
    drawn = draw(found, tmp_path / "plots")
    assert [path.name for path in drawn] == ["group.png", "second.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in drawn)


def test_a_run_whose_result_is_wrong_has_no_figures() -> None:
    def fails() -> list[Run]:
        raise WorkloadFailed("lost an update")

    made: dict[str, Workload] = {"group/good": lambda: [Run("case", ())], "group/bad": fails}
    found = Report.begun("a command", Scale(), {})
    for name, workload in made.items():
        run_once(name, workload, found)
    assert list(found.runs) == ["group/good"]
    assert found.failures == {"group/bad": ["lost an update"]}
    assert list(found.took_s) == ["group/good", "group/bad"]
