"""When a log is worth a snapshot."""

from __future__ import annotations

from dataclasses import replace

import pytest

from server.core.compaction import CompactionPolicy, LogGrowth

POLICY = CompactionPolicy(entries_max=100, bytes_min=1_000, snapshot_factor=2.0, age_s=60.0, entries_min=10, rest_s=0.0)
NOW_MS = 1_000_000


@pytest.mark.parametrize(
    ("entries", "update_bytes", "snapshot_bytes", "age_s", "due"),
    [
        (9, 10_000, 0, 3_600, False),
        (10, 999, 0, 59, False),
        (10, 1_000, 0, 0, True),
        (10, 1_999, 1_000, 0, False),
        (10, 2_000, 1_000, 0, True),
        (10, 1, 0, 60, True),
        (99, 1, 0, 0, False),
        (100, 1, 0, 0, True),
    ],
)
def test_a_log_is_folded_when_it_is_long_or_large_or_old_but_never_when_it_is_short(
    entries: int, update_bytes: int, snapshot_bytes: int, age_s: int, due: bool
) -> None:
    growth = LogGrowth(snapshot_bytes, entries, update_bytes, NOW_MS - age_s * 1000)
    assert POLICY.due(growth, NOW_MS) is due


@pytest.mark.parametrize(
    ("entries", "update_bytes", "age_s", "due"),
    [
        (499, 1, 29, False),
        (500, 1, 29, True),
        (100, 1, 30, True),
        (10, 4_999, 29, False),
        (10, 5_000, 29, True),
        (10, 1_000, 30, True),
    ],
)
def test_a_young_log_may_grow_to_five_times_as_much(entries: int, update_bytes: int, age_s: int, due: bool) -> None:
    policy = replace(POLICY, rest_s=30.0)
    assert policy.due(LogGrowth(0, entries, update_bytes, NOW_MS - age_s * 1000), NOW_MS) is due


def test_age_counts_from_the_first_entry() -> None:
    growth = LogGrowth()
    for time_ms in (5, 7, 9):
        growth.add(10, time_ms)
    assert growth == LogGrowth(0, 3, 30, 5)
