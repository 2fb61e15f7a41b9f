"""What is said over the pipes arrives as it was said."""

from __future__ import annotations

import pytest

from client_sim.demo.words import Report, Tally, Task

TASK = Task(
    url="ws://127.0.0.1:1/v1/sync",
    token="t",
    device="phone",
    devices=("phone", "tablet"),
    ends=(3, 4),
    edits="edits",
    store="store",
    values="values",
    tail=2,
    offline_at=None,
    offline_s=1.5,
    speed=10.0,
    started_at=1e9,
)


def test_tasks_and_reports_survive_the_pipe() -> None:
    assert Task.read(TASK.line()) == TASK
    report = Report("current", 3, 1, True, 1e9, Tally(1, 2, 3, 4, 5, {"tail": 2}))
    assert Report.read(report.line()) == report


@pytest.mark.parametrize("line", [b"", b"{", b"[]", b'{"state": "current"}'])
def test_a_line_that_is_no_report_is_refused(line: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - json has its own kind of it
        Report.read(line)


def test_the_lives_of_a_device_add_up() -> None:
    first, second = Tally(1, 2, 1, 0, 0, {"diff": 1}), Tally(10, 20, 2, 3, 1, {"tail": 2, "diff": 1})
    assert first + second == Tally(11, 22, 3, 3, 1, {"diff": 2, "tail": 2})
