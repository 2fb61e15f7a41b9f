"""A report as pictures: one PNG a group, a panel a figure, a bar a case, a line from the least run to the most."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Picture

from benchmarks.figures import Better
from benchmarks.report import Case, Measured, Report, cases
from benchmarks.tables import number

PANELS_IN_A_ROW = 3
PANEL_WIDTH_IN = 4.2
BAR_HEIGHT_IN = 0.3
LOGARITHMIC_FROM = 100
"""Where the longest bar is so many times the shortest, that one would not be seen beside it."""
COLOUR = "#3b6ea5"
_GOOD = {Better.LOWER: "less is better", Better.HIGHER: "more is better", Better.NEITHER: ""}


def draw(report: Report, folder: Path) -> list[Path]:
    """The files that were written, which replace those of an earlier report."""
    folder.mkdir(parents=True, exist_ok=True)
    found = cases(report)
    groups = dict.fromkeys(case.group for case in found)
    return [_draw_group(group, [case for case in found if case.group == group], report, folder) for group in groups]


def _draw_group(group: str, found: Sequence[Case], report: Report, folder: Path) -> Path:
    panels: dict[tuple[str, str], list[tuple[str, Measured]]] = {}
    for case in found:
        for figure in case.figures:
            panels.setdefault((figure.name, figure.unit), []).append((case.name, figure))
    columns = min(PANELS_IN_A_ROW, len(panels))
    rows = math.ceil(len(panels) / columns)
    height_in = rows * (1.2 + BAR_HEIGHT_IN * max(map(len, panels.values()))) + 0.6
    picture = Picture(figsize=(PANEL_WIDTH_IN * columns + 1.5, height_in), layout="constrained")
    picture.suptitle(f"{group}: {report.commit}, {report.started}, {report.machine['cpu']}", fontsize=9)
    for place, (title, bars) in enumerate(panels.items(), 1):
        _draw_panel(picture.add_subplot(rows, columns, place), title, bars)
    path = folder / f"{group}.png"
    picture.savefig(path, dpi=110)
    return path


def _draw_panel(axes: Axes, title: tuple[str, str], bars: Sequence[tuple[str, Measured]]) -> None:
    spreads = [figure.spread for _, figure in bars]
    medians = [spread.median for spread in spreads]
    below = [spread.median - spread.least for spread in spreads]
    above = [spread.most - spread.median for spread in spreads]
    places = range(len(bars))
    drawn = axes.barh(
        places, medians, xerr=(below, above), color=COLOUR, height=0.7, error_kw={"capsize": 2, "lw": 0.8}
    )
    axes.set_yticks(places, [name for name, _ in bars], fontsize=7)
    axes.invert_yaxis()
    axes.tick_params(axis="x", labelsize=7)
    axes.set_title(f"{title[0]}, {title[1]}", fontsize=8, loc="left")
    axes.set_xlabel(_GOOD[bars[0][1].better], fontsize=7)
    axes.margins(x=0.15, y=0.02)
    if 0 < min(medians) * LOGARITHMIC_FROM < max(medians):
        axes.set_xscale("log")
    else:
        axes.set_xlim(left=0)
    axes.bar_label(drawn, [number(median) for median in medians], fontsize=6, padding=3)
