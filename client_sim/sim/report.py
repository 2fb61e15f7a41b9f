"""A run as a picture: when each device was in what state, what went wrong around it, and who caught up how."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import plotly.graph_objects as plotly

from client_sim.core.status import State
from client_sim.sim.history import Line
from client_sim.sim.run import Outcome

COLOURS = {
    State.OFFLINE: "#d9d9d9",
    State.CONNECTING: "#fdd0a2",
    State.SYNCING: "#9ecae1",
    State.CURRENT: "#a1d99b",
    State.BLOCKED: "#fb6a4a",
}
EDITS = ("typed", "pasted", "deleted", "undid", "todo", "list", "nested", "signed")
QUIET = ("is", "was acknowledged", "lost its connection", "caught up", "state")


class Bar(NamedTuple):
    """A device was in a state for a while."""

    who: str
    state: State
    start_s: float
    end_s: float


def write(outcomes: Iterable[Outcome], folder: Path) -> Iterator[Path]:
    """One page for each run that has lines, with the plotting library beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, outcome in enumerate(outcomes):
        name = f"seed-{outcome.seed}{'-shrunken' if outcome.failure and not number else ''}.html"
        figure(outcome).write_html(folder / name, include_plotlyjs="directory", full_html=True)
        yield folder / name


def figure(outcome: Outcome) -> Any:
    """The timeline of one run."""
    picture = plotly.Figure()
    for state in State:
        bars = [bar for bar in _bars(outcome.lines) if bar.state is state]
        picture.add_bar(
            base=[bar.start_s for bar in bars], x=[bar.end_s - bar.start_s for bar in bars],
            y=[bar.who for bar in bars], orientation="h", name=str(state), marker_color=COLOURS[state], width=0.6,
        )  # fmt: skip
    marks = (
        ("edits", "line-ns-open", "#525252", lambda line: line.what in EDITS),
        ("catch-ups", "triangle-up", "#08519c", lambda line: line.what == "caught up"),
        ("acknowledged", "line-ns-open", "#238b45", lambda line: line.what == "was acknowledged"),
        ("what happens to it", "x", "#a50f15", lambda line: line.what not in (*EDITS, *QUIET)),
    )
    for name, symbol, colour, chosen in marks:
        lines = [line for line in outcome.lines if chosen(line)]
        picture.add_scatter(
            x=[line.time_s for line in lines], y=[line.who for line in lines], mode="markers", name=name,
            text=[f"{line.what} {line.detail}" for line in lines], marker={"symbol": symbol, "color": colour},
        )  # fmt: skip
    verdict = f"broken: {outcome.failure.message[:160]}" if outcome.failure else "every promise held"
    picture.update_layout(
        title=f"Seed {outcome.seed}: {verdict}", barmode="overlay", xaxis_title="virtual seconds",
        template="plotly_white", hovermode="closest", yaxis={"categoryorder": "category descending"},
    )  # fmt: skip
    return picture


def _bars(lines: list[Line]) -> list[Bar]:
    """From each change of a device's state to its next, or to the end."""
    since: dict[str, tuple[float, State]] = {}
    bars = []
    for line in lines:
        if line.what == "state":
            if line.who in since:
                bars.append(Bar(line.who, since[line.who][1], since[line.who][0], line.time_s))
            since[line.who] = (line.time_s, State(line.detail))
    end_s = lines[-1].time_s if lines else 0.0
    return bars + [Bar(who, state, start_s, end_s) for who, (start_s, state) in since.items()]
