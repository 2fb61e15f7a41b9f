"""What was simulated, as rows of a table: of one run or of many."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

EDITS = ("typed", "pasted", "deleted", "undid", "todo", "list", "nested", "emoji", "signed")
"""What people do to documents, as the history calls it."""

_PREFIXES = {
    "catch-ups": "catch-up ",
    "hostile inputs": "hostile ",
    "refusals": "told ",
    "problems on devices": "problem ",
    "cuts": "lost, cut",
    "otherwise lost": "lost, ",
}
"""Titles of rows, and how the names begin that are counted in them: the first that fits."""
_TROUBLES = {
    "crashes": ("killed", "crashed"),
    "of servers": ("crash", "drain", "drained", "server up", "overtaken", "reader overfull", "set the server's clock",
                   "the server's clock is right again", "error logged", "warning logged", "overload",
                   "the load is over", "worker died", "no worker", "heard of commits"),
    "of the network": ("cut", "half-open", "slow reader", "network off", "network on"),
    "of the database": ("failed", "disk full", "disk freed", "compact", "compacted", "back up", "restore from backup",
                        "set the store back", "new epoch", "import", "imported", "import failed",
                        "a document can not be read", "the document is mended", "damaged", "quarantined",
                        "release from quarantine", "take a device's edits out", "note"),
    "of devices": ("kill", "kill, last write lost", "back up the store", "restore an older store", "reinstall",
                   "damage the store",
                   "clone", "cloned", "edit not stored", "edit too big", "oversleep"),
    "of access": ("revoke", "let in again", "change grants", "wiped"),
}  # fmt: skip
_WORDS = {
    "cut": "cuts planned",
    "crash": "crashes planned",
    "killed": "processes killed",
    "crashed": "of them between two effects",
}
_TOTALS = ("edits", "acknowledged", "entries", "connections", "hostile", "calms down")
"""Told in rows of their own, or of no interest."""


def rows(days: float, device_days: float, counts: Mapping[str, int]) -> Iterator[tuple[str, str]]:
    """Titles and figures. Whatever was counted is in one of them: what no other row asks for is in the last."""
    left = Counter({name: number for name, number in counts.items() if number and name not in _TOTALS})
    yield "virtual days", f"{days:,.1f} ({device_days:,.1f} device-days)"
    yield "edits", f"{counts.get('edits', 0):,}: {_told(_take(left, EDITS))}"
    yield "ops acknowledged", f"{counts.get('acknowledged', 0):,} in {counts.get('entries', 0):,} log entries"
    yield "connections", f"{counts.get('connections', 0):,}"
    for title, prefix in _PREFIXES.items():
        found = _take(left, sorted(name for name in left if name.startswith(prefix)))
        short = {name.removeprefix(prefix).strip() or "at once": number for name, number in found.items()}
        yield title, f"{sum(short.values()):,}" + (f": {_told(short)}" if short else "")
    for title, names in _TROUBLES.items():
        if (found := _take(left, names)) or title == "crashes":
            yield title, _told(found) or "none"
    if left:
        yield "also", _told(dict(sorted(left.items())))


def _take(left: Counter[str], names: Iterable[str]) -> dict[str, int]:
    """The counts of these names, which nobody else tells."""
    return {name: left.pop(name) for name in names if name in left}


def _told(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{_WORDS.get(name, name)} {number:,}" for name, number in counts.items())
