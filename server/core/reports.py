"""What a device tells of itself (REPORT): taken for what it may be, since anybody may write anything into it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

INTERVAL_S = 60.0
"""Reports of one connection that come sooner than that after one another are not looked at."""

OTHER = "other"
PLATFORMS = ("android", "ios", "linux", "macos", "web", "windows")
_VERSION = re.compile(r"(\d{1,4}(?:\.\d{1,4})?)(?:[.+-].{0,64})?", re.DOTALL)

COUNTS: Mapping[str, float] = {
    "sync_failures": 10_000,
    "retries": 10_000,
    "crashes": 100,
    "outbox_ops": 1_000_000,
    "outbox_age_s": 366 * 86_400.0,
    "current_s": 86_400.0,
    "bytes_up": 1 << 34,
    "bytes_down": 1 << 34,
}
"""What is read of a report, and the most that is believed of each."""


@dataclass(frozen=True, slots=True)
class DeviceReport:
    """`platform` is one of PLATFORMS or OTHER; `version` is major and minor, or OTHER."""

    platform: str = OTHER
    version: str = OTHER
    counts: Mapping[str, float] = field(default_factory=dict)


def read_report(data: Mapping[str, Any]) -> DeviceReport:
    """What is not what it should be is left out."""
    platform, version = data.get("platform"), data.get("version")
    match = _VERSION.fullmatch(version) if isinstance(version, str) else None
    return DeviceReport(
        platform if platform in PLATFORMS else OTHER,
        match[1] if match else OTHER,
        {name: min(float(data[name]), most) for name, most in COUNTS.items() if _is_count(data.get(name))},
    )


def _is_count(value: object) -> bool:
    """False for what is negative or not a number, true and NaN included."""
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= 0
