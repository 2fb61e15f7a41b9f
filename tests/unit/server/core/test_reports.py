"""REPORT is what anybody may have written: what it says is bounded before it is counted."""

from __future__ import annotations

import pytest

from server.core.reports import COUNTS, OTHER, DeviceReport, read_report


def test_what_a_device_says_is_read() -> None:
    data = {"platform": "ios", "version": "2.13.4", "retries": 3, "outbox_age_s": 1.5, "current_s": 0.2}
    assert read_report(data) == DeviceReport("ios", "2.13", {"retries": 3.0, "outbox_age_s": 1.5, "current_s": 0.2})


@pytest.mark.parametrize("platform", ["IOS", "symbian", "", 7, None, "x" * 5000, b"ios", ["ios"]])
def test_a_platform_is_one_of_a_few(platform: object) -> None:
    assert read_report({"platform": platform}).platform == OTHER


@pytest.mark.parametrize(
    ("version", "known"),
    [
        ("1", "1"),
        ("1.2.3-beta+7", "1.2"),
        ("99999.1", OTHER),
        ("v1", OTHER),
        ('1"}\n', OTHER),
        ("1." + "9" * 4000, OTHER),
    ],
)
def test_a_version_is_major_and_minor(version: object, known: str) -> None:
    assert read_report({"version": version}).version == known


@pytest.mark.parametrize("value", [-1, float("nan"), True, "3", None, [1], {"a": 1}])
def test_what_is_no_count_is_left_out(value: object) -> None:
    assert read_report(dict.fromkeys(COUNTS, value)).counts == {}


@pytest.mark.parametrize("value", [2**63, 1e300, float("inf")])
def test_no_count_is_believed_beyond_what_is_plausible(value: float) -> None:
    assert read_report(dict.fromkeys(COUNTS, value)).counts == COUNTS


def test_what_nobody_knows_is_ignored() -> None:
    assert read_report({"password": "x", "retry": 3}).counts == {}
