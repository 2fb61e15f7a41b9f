"""Is it faster than it was? Figure by figure, with the spreads of both."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from benchmarks.figures import Better
from benchmarks.report import Measured, Report, cases

JUDGED_FROM_RUNS = 3
"""Of each side. Of two and two that are alike, a third do not overlap by chance; of three and three, a tenth."""


class Verdict(StrEnum):
    """What a difference is worth."""

    BETTER = "better"
    WORSE = "worse"
    SAME = "within the spread"
    UNJUDGED = ""
    """A figure that is neither good nor bad, or one that was measured too few times."""


@dataclass(frozen=True, slots=True)
class Change:
    """One figure of one case, earlier and now."""

    title: str
    """Of the case."""
    earlier: Measured
    now: Measured

    @property
    def ratio(self) -> float | None:
        """Now in terms of then; None where there was nothing then."""
        before = self.earlier.spread.median
        return self.now.spread.median / before if before else None

    @property
    def verdict(self) -> Verdict:
        """Better or worse only where no run of one side lies among those of the other."""
        if self.now.better is Better.NEITHER or min(len(self.now.values), len(self.earlier.values)) < JUDGED_FROM_RUNS:
            return Verdict.UNJUDGED
        earlier, now = self.earlier.spread, self.now.spread
        if now.least <= earlier.most and earlier.least <= now.most:
            return Verdict.SAME
        more = now.median > earlier.median
        return Verdict.BETTER if more == (self.now.better is Better.HIGHER) else Verdict.WORSE


def changes(earlier: Report, now: Report) -> Iterator[Change]:
    """What both have measured, in the order of the later one."""
    before = {
        (case.workload, case.name, figure.name, figure.unit): figure
        for case in cases(earlier)
        for figure in case.figures
    }
    for case in cases(now):
        for figure in case.figures:
            known = before.get((case.workload, case.name, figure.name, figure.unit))
            if known is not None:
                yield Change(case.title, known, figure)
