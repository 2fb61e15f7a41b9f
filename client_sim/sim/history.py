"""What happened: hashed, so that two runs can be compared; counted; and, where somebody will read it, written down."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256


@dataclass(frozen=True, slots=True)
class Line:
    """Something happened at `time_s` of virtual time: `who` did or met `what`."""

    time_s: float
    who: str
    what: str
    detail: str = ""

    @property
    def repeats(self) -> bool:
        """Another line says the same."""
        return self.what == "is" and self.detail.endswith("the whole")


class History:
    """One run's. `lines` are kept only if asked for: they cost more than the run."""

    def __init__(self, clock: Callable[[], float], *, keep: bool = False) -> None:
        self._clock = clock
        self._hash = sha256()
        self.keep = keep
        self.lines: list[Line] = []
        self.counts: Counter[str] = Counter()

    def note(self, who: str, what: str, detail: str = "") -> None:
        """Something that a reader wants to see. It is counted by `what`."""
        self.counts[what] += 1
        self._hash.update(f"{self._clock()!r} {who} {what} {detail}\n".encode())
        if self.keep:
            self.lines.append(Line(self._clock(), who, what, detail))

    def mix(self, who: str, data: bytes) -> None:
        """Bytes that a peer got: too many to be read, but all of them count."""
        self._hash.update(f"{self._clock()!r} {who} {len(data)}\n".encode())
        self._hash.update(data)

    def say(self, who: str, what: str, describe: Callable[[], str]) -> None:
        """As `note`, of something that is neither counted nor hashed. `describe` is called only for a reader."""
        if self.keep:
            self.lines.append(Line(self._clock(), who, what, describe()))

    @property
    def digest(self) -> str:
        """Equal for two runs in which the same happened at the same times."""
        return self._hash.hexdigest()[:16]
