"""Whether the app ended well the last time: a file beside the store that is there while the app is in the foreground.

An OS kills what is in the background as it likes, which is no crash: a device that is suspended takes the mark away.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

SUFFIX = ".running"


class LifeMark:
    """Of the device whose store is at `store`, if that is a file. A mark that can not be made is no loss."""

    def __init__(self, store: Path | None) -> None:
        self._path = None if store is None else store.with_name(store.name + SUFFIX)

    def begin(self) -> int:
        """Set the mark; how many lives before this one, one after the other, ended without taking it away."""
        if self._path is None:
            return 0
        crashes = self._count() + 1 if self._path.exists() else 0
        with suppress(OSError):
            self._path.write_text(str(crashes))
        return crashes

    def _count(self) -> int:
        assert self._path is not None
        try:
            return int(self._path.read_text()[:6])
        except (OSError, ValueError):  # cut off by the crash
            return 0

    def set(self) -> None:
        if self._path is not None:
            with suppress(OSError):
                self._path.write_text("0")

    def clear(self) -> None:
        if self._path is not None:
            with suppress(OSError):
                self._path.unlink(missing_ok=True)
