"""A run as a picture: a lane for each device and each server process, with what happened to it and when."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from itertools import accumulate, pairwise
from math import log
from typing import Any, NamedTuple

import plotly.graph_objects as plotly

from client_sim.core.status import State
from client_sim.sim import phones
from client_sim.sim.history import Line
from client_sim.sim.plan import Deed
from client_sim.sim.run import Outcome
from client_sim.sim.tally import EDITS

QUIET_S = 2.0
"""Where nothing happens for longer than this, a second of the picture is worth more and more."""
LANE_PX = 46
HEIGHT_MIN_PX = 620
"""The legend has room beside so much."""
TICKS = 12
FINE_S = 120.0
"""Of runs that are shorter the axis tells fractions of a second."""
CALM = "calms down"
_FIRST, _LAST = ("operator", "database", "server-"), ("world",)

_STATES: dict[str, str] = {
    State.OFFLINE: "#d9d9d9", State.CONNECTING: "#fdd49e", State.SYNCING: "#9ecae1", State.CURRENT: "#a1d99b",
    State.BLOCKED: "#fc9272", "off": "#737373", "up": "#ccebc5", "draining": "#fdd49e", "down": "#737373",
}  # fmt: skip
_SPELLS: dict[str, tuple[str, str, str]] = {
    Deed.NETWORK_OFF: (Deed.NETWORK_ON, "no network", "#54278f"),
    Deed.DISK_FULL: (Deed.DISK_FREED, "disk full", "#a50f15"),
    Deed.ROT: (Deed.MEND, "a document can not be read", "#7f0000"),
    Deed.PRESSURE: (Deed.RELIEF, "overload", "#d94801"),
    Deed.SERVER_CLOCK: (Deed.CLOCK_RIGHT, "wrong clock", "#8c510a"),
}
"""What begins something that lasts until the second, or until the world calms down."""


class Mark(NamedTuple):
    """A kind of what happens: drawn as `symbol`, `rise` lanes above the middle of its own."""

    title: str
    symbol: str
    colour: str
    size: int = 9
    rise: float = 0.0


_MODES = {"current": "#74c476", "tail": "#4292c6", "diff": "#08306b", "need_sv": "#f16913", "chunked": "#6a51a3"}
_FAULT = Mark("faults", "x", "#cb181d", 9)
_REFUSED = Mark("refusals and warnings", "diamond", "#ec7014", 8, 0.12)
_MARKS: dict[str, Mark] = {
    **dict.fromkeys(EDITS, Mark("edits", "line-ns-open", "#252525", 7, 0.36)),
    **dict.fromkeys(("was acknowledged",), Mark("acknowledged", "line-ns-open", "#006d2c", 7, -0.36)),
    **dict.fromkeys(("lost its connection",), Mark("connections lost", "x-thin-open", "#7f2704", 8)),
    **dict.fromkeys((Deed.COMPACT, "compacted"), Mark("compaction", "square", "#6a51a3", 8)),
    **dict.fromkeys(
        (Deed.BACK_UP, Deed.RESTORE, Deed.SET_BACK, "new epoch", Deed.BACK_UP_STORE, Deed.RESTORE_STORE,
         Deed.REINSTALL, Deed.SPOIL, "cloned", Deed.IMPORT, "imported"),
        Mark("backups, restores, clones", "star", "#ce1256", 11),
    ),
    **dict.fromkeys(
        (Deed.REVOKE, Deed.READMIT, Deed.REGRANT, Deed.EXCISE, "wiped"), Mark("access", "pentagon", "#016c59", 10)
    ),
    **dict.fromkeys(
        (Deed.START, Deed.STOP, Deed.AUDIT, Deed.REOPEN, Deed.UNBLOCK, *phones.DRAWS),
        Mark("the app", "circle-open", "#525252", 6),
    ),
    **dict.fromkeys(
        (Deed.NETWORK_ON, Deed.SERVER_UP, Deed.DISK_FREED, Deed.CLOCK_RIGHT, Deed.MEND, Deed.RELIEF, Deed.RELEASE),
        Mark("mended", "circle", "#238b45", 7),
    ),
    **dict.fromkeys((Deed.DRAIN, "drained"), Mark("drains", "triangle-down", "#525252", 8)),
    **dict.fromkeys(("overtaken",), Mark("overtaken by another process", "triangle-left", "#dfc27d", 8)),
    **dict.fromkeys(("hostile",), Mark("hostile", "hexagram", "#000000", 10)),
    **dict.fromkeys(("error logged", "warning logged", "edit not stored", "edit too big", "import failed"), _REFUSED),
}  # fmt: skip
"""Whatever is not here is a fault."""
_DRAWN_OTHERWISE = ("is", "state", CALM)


class Axis:
    """From seconds of a run to where they are drawn: quiet stretches are short, and nothing changes its order."""

    def __init__(self, times_s: Iterable[float]) -> None:
        self.times_s = sorted({0.0, *times_s})
        self._places = list(accumulate((self._width(b - a) for a, b in pairwise(self.times_s)), initial=0.0))

    @staticmethod
    def _width(gap_s: float) -> float:
        return gap_s if gap_s <= QUIET_S else QUIET_S * (1 + log(gap_s / QUIET_S))

    @property
    def length(self) -> float:
        return self._places[-1]

    def at(self, time_s: float) -> float:
        """Where a time is drawn that is among those that the axis was made of, or between two of them."""
        number = min(max(bisect_right(self.times_s, time_s) - 1, 0), len(self.times_s) - 1)
        if number == len(self.times_s) - 1:
            return self._places[number]
        (begin_s, end_s), (begin, end) = self.times_s[number : number + 2], self._places[number : number + 2]
        return begin + (end - begin) * (time_s - begin_s) / (end_s - begin_s)

    def ticks(self) -> dict[float, str]:
        """Some of its times, about as far from each other, and how they are called."""
        chosen = [0]
        for number, place in enumerate(self._places):
            if place - self._places[chosen[-1]] >= self.length / TICKS:
                chosen.append(number)
        digits = 0 if self.times_s[-1] > FINE_S else 2
        return {self._places[number]: clock(self.times_s[number], digits) for number in chosen}


def clock(time_s: float, digits: int = 3) -> str:
    """Virtual time as days, hours, minutes and seconds."""
    minutes, seconds = divmod(round(time_s, digits), 60)
    hours, minutes = divmod(int(minutes), 60)
    days, hours = divmod(hours, 24)
    width = 3 + digits if digits else 2
    return (f"{days} d " if days else "") + f"{hours}:{minutes:02}:{seconds:0{width}.{digits}f}"


class Bar(NamedTuple):
    """Somebody was in a state for a while."""

    who: str
    what: str
    start_s: float
    end_s: float


def states(lines: Sequence[Line]) -> Iterator[Bar]:
    """From each change of somebody's state to the next, or to the end."""
    since: dict[str, Line] = {}
    for line in lines:
        if line.what == "state":
            if (before := since.get(line.who)) is not None and before.time_s < line.time_s:
                yield Bar(line.who, before.detail, before.time_s, line.time_s)
            since[line.who] = line
    for who, line in since.items():
        yield Bar(who, line.detail, line.time_s, lines[-1].time_s)


def spells(lines: Sequence[Line]) -> Iterator[Bar]:
    """What was so for a while, beside somebody's state."""
    begun: dict[tuple[str, str], Line] = {}
    for line in [*lines, *lines[-1:]]:
        for what, (end, _, _) in _SPELLS.items():
            key = line.who, what
            if line.what == what:
                begun.setdefault(key, line)
            elif line.what == end and key in begun:
                yield Bar(line.who, what, begun.pop(key).time_s, line.time_s)
        if line.what == CALM:
            yield from (Bar(who, what, first.time_s, line.time_s) for (who, what), first in begun.items())
            begun.clear()
    yield from (Bar(who, what, first.time_s, lines[-1].time_s) for (who, what), first in begun.items())


def lanes(lines: Iterable[Line]) -> list[str]:
    """Who gets a lane, from above: operators, the database, servers, devices as they come, and those who do harm."""
    first = {line.who: number for number, line in reversed(list(enumerate(lines))) if line.who not in _LAST}
    live = {line.who for line in lines if line.what == "state"}

    def rank(who: str) -> tuple[int, int, str]:
        group = next((number for number, name in enumerate(_FIRST) if who.startswith(name)), len(_FIRST))
        if group < len(_FIRST):
            return group, 0, who
        return (group, 0, who) if who in live else (group + 1, first[who], who)

    return sorted(first, key=rank)


def mark(line: Line) -> Mark | None:
    """How a line is drawn; None if it is not a mark."""
    if line.what in _DRAWN_OTHERWISE:
        return None
    if line.what == "caught up":
        mode = line.detail.rpartition(": ")[2]
        return Mark(f"catch-up: {mode}", "triangle-up", _MODES.get(mode, "#737373"), 11, -0.08)
    return _REFUSED if line.what.startswith("problem ") else _MARKS.get(line.what, _FAULT)


class Timeline:
    """The picture of one run that kept its lines."""

    def __init__(self, outcome: Outcome) -> None:
        self._outcome = outcome
        self._lines = outcome.lines
        self._lanes = {who: -number for number, who in enumerate(lanes(outcome.lines))}
        times = [line.time_s for line in self._lines]
        self._axis = Axis([*times, outcome.failure.at_s] if outcome.failure else times)
        self._picture = plotly.Figure()

    def draw(self) -> Any:
        """The figure: bars first, so that marks are in front of them."""
        for state, colour in _STATES.items():
            self._bars([bar for bar in states(self._lines) if bar.what == state], state, colour, 0.62, 0.0)
        for what, (_, title, colour) in _SPELLS.items():
            self._bars([bar for bar in spells(self._lines) if bar.what == what], title, colour, 0.12, -0.37)
        by_mark: dict[Mark, list[int]] = {}
        for number, line in enumerate(self._lines):
            if (found := mark(line)) is not None:
                by_mark.setdefault(found, []).append(number)
        for found in sorted(by_mark, key=lambda found: found.title):
            self._marks(found, by_mark[found])
        self._moments()
        self._lay_out()
        return self._picture

    def _bars(self, bars: list[Bar], title: str, colour: str, width: float, rise: float) -> None:
        if not bars:
            return
        starts, ends = [self._axis.at(bar.start_s) for bar in bars], [self._axis.at(bar.end_s) for bar in bars]
        self._picture.add_bar(
            base=starts, x=[end - start for start, end in zip(starts, ends, strict=True)],
            y=[self._lanes[bar.who] + rise for bar in bars], width=width, orientation="h", name=title,
            marker={"color": colour, "line_width": 0}, hovertemplate="%{hovertext}<extra></extra>",
            hovertext=[
                f"<b>{escape(bar.who)}</b> {escape(title)}<br>{clock(bar.start_s)} to {clock(bar.end_s)}, "
                f"{bar.end_s - bar.start_s:,.3f} s" for bar in bars
            ],
        )  # fmt: skip

    def _marks(self, found: Mark, numbers: list[int]) -> None:
        lines = [self._lines[number] for number in numbers]
        self._picture.add_scatter(
            x=[self._axis.at(line.time_s) for line in lines],
            y=[self._lanes[line.who] + found.rise for line in lines],
            mode="markers", name=found.title, customdata=numbers, hovertemplate="%{hovertext}<extra></extra>",
            hovertext=[
                f"<b>{escape(line.who)}</b> {clock(line.time_s)}<br>{escape(line.what)} {escape(line.detail)}"
                for line in lines
            ],
            marker={"symbol": found.symbol, "color": found.colour, "size": found.size, "line_width": 1.5},
        )  # fmt: skip

    def _moments(self) -> None:
        """When faults end, and when it broke."""
        for line in self._lines:
            if line.what == CALM:
                self._moment(line.time_s, "faults end, all must heal", "#525252", "dot")
        failure = self._outcome.failure
        if failure is None:
            return
        self._moment(failure.at_s, f"broken: {failure.promise}", "#cb181d", "solid")
        touched = [who for who in self._lanes if who in failure.message] or [line.who for line in self._lines[-1:]]
        self._picture.add_scatter(
            x=[self._axis.at(failure.at_s)] * len(touched), y=[self._lanes.get(who, 0) for who in touched],
            mode="markers", name="broken", hovertemplate="%{hovertext}<extra></extra>",
            hovertext=[f"<b>broken</b> {clock(failure.at_s)}<br>{escape(failure.message[:300])}"] * len(touched),
            marker={"symbol": "circle-open", "color": "#cb181d", "size": 26, "line_width": 4},
        )  # fmt: skip

    def _moment(self, time_s: float, text: str, colour: str, dash: str) -> None:
        at = self._axis.at(time_s)
        self._picture.add_vline(at, line={"color": colour, "width": 2, "dash": dash})
        self._picture.add_annotation(
            x=at, y=1, yref="paper", yanchor="bottom", xanchor="right", text=escape(text), showarrow=False,
            font={"color": colour, "size": 13}, yshift=4 if dash == "dot" else 20,
        )  # fmt: skip

    def _lay_out(self) -> None:
        ticks, edge = self._axis.ticks(), 0.015 * self._axis.length
        self._picture.update_layout(
            barmode="overlay", template="plotly_white", hovermode="closest", dragmode="zoom",
            height=max(HEIGHT_MIN_PX, 180 + LANE_PX * len(self._lanes)), margin={"l": 10, "r": 10, "t": 80, "b": 50},
            legend={"itemsizing": "constant", "tracegroupgap": 0},
            xaxis={
                "tickvals": list(ticks), "ticktext": list(ticks.values()), "range": [-edge, self._axis.length + edge],
                "title": "virtual time; the longer nothing happens, the shorter it is drawn", "tickangle": 0,
                "zeroline": False,
            },
            yaxis={
                "tickvals": list(self._lanes.values()), "ticktext": [escape(who) for who in self._lanes],
                "range": [0.6 - len(self._lanes), 0.6], "automargin": True, "zeroline": False, "fixedrange": True,
            },
        )  # fmt: skip


def figure(outcome: Outcome) -> Any:
    """The timeline of a run that kept its lines."""
    return Timeline(outcome).draw()
