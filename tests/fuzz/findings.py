"""What a case found."""

from __future__ import annotations

import re


class Finding(Exception):
    """A promise was broken. `kind` says which one."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(kind, message)
        self.kind = kind
        self.message = message

    @property
    def signature(self) -> str:
        """Equal for findings that are likely the same."""
        return f"{self.kind}: {_DETAIL.sub('#', self.message)[:70]}"


_DETAIL = re.compile(r"\d+(\.\d+)?|'[^']*'|\{.*\}|\[.*\]")
