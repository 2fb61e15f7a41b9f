"""Times as an operator writes and reads them."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

from server.config import BadSetting

NEVER_MS: Final = 1 << 53
_UNIT_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
_AGO: Final = re.compile(rf"(\d+(?:\.\d+)?)([{''.join(_UNIT_S)}])")


def read_time_ms(text: str, now_s: float) -> int:
    """`2026-01-31T12:00` (UTC, unless it says otherwise) or `3d` (s, m, h, d, w before now). Raises BadSetting."""
    if ago := _AGO.fullmatch(text):
        return int((now_s - float(ago[1]) * _UNIT_S[ago[2]]) * 1000)
    try:
        at = datetime.fromisoformat(text)
    except ValueError as exc:
        raise BadSetting(f"{text!r} is no time: write 2026-01-31T12:00, in UTC, or 90m, 2h, 3d: so long ago") from exc
    return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)


def show_time(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
