"""What a user sees of a fleet while it runs: a picture that changes in a terminal, else lines."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from client_sim.fleet.figures import Figures, Sample, Timed
from client_sim.fleet.quantiles import percentile
from client_sim.fleet.run import View

EVENTS_SHOWN = 6
LINE_EVERY_S = 10.0
RECENT = 2000
"""Of what is timed, the latest are shown."""


class PlainView:
    """Lines, for logs."""

    def __init__(self, console: Console, devices: int) -> None:
        self._console = console
        self._devices = devices
        self._shown_s = -LINE_EVERY_S

    def say(self, at_s: float, text: str) -> None:
        self._console.print(f"{at_s:6.1f} s  {text}", markup=False, highlight=False, soft_wrap=True)

    def show(self, sample: Sample, figures: Figures) -> None:
        if sample.at_s >= self._shown_s + LINE_EVERY_S:
            self._shown_s = sample.at_s
            self.say(
                sample.at_s,
                f"{sample.open} of {self._devices} devices open, {sample.current} current, {sample.edits:,} edits,"
                f" {sample.pending} pending on {sample.behind}, oldest {sample.age_max_s:.1f} s;"
                f" {sample.bytes_up + sample.bytes_down:,} B, {sum(figures.errors.values())} errors",
            )


class LiveView:
    """A picture, and under it what happened last."""

    def __init__(self, live: Live, devices: int, duration_s: float) -> None:
        self._live = live
        self._devices = devices
        self._duration_s = duration_s
        self._events: deque[str] = deque(maxlen=EVENTS_SHOWN)

    def say(self, at_s: float, text: str) -> None:
        self._events.append(f"{at_s:6.1f} s  {text}")

    def show(self, sample: Sample, figures: Figures) -> None:
        self._live.update(
            Group(
                ProgressBar(total=self._duration_s, completed=min(sample.at_s, self._duration_s)),
                self._counts(sample, figures),
                _times(figures),
                Text("\n".join(self._events), style="dim"),
            )
        )

    def _counts(self, sample: Sample, figures: Figures) -> Table:
        titles = ("devices", "open", "current", "behind", "edits", "pending", "oldest", "up", "down", "errors")
        table = Table(*titles, box=None)
        table.add_row(
            f"{self._devices:,}", f"{sample.open:,}", f"{sample.current:,}", f"{sample.behind:,}", f"{sample.edits:,}",
            f"{sample.pending:,}", f"{sample.age_max_s:.1f} s", f"{sample.bytes_up:,} B", f"{sample.bytes_down:,} B",
            f"{sum(figures.errors.values()):,}",
        )  # fmt: skip
        return table


def _times(figures: Figures) -> Table:
    table = Table("latest", "count", "p50", "p95", "longest", box=None)
    for title, timed in named(figures):
        recent = sorted(item.seconds for item in timed[-RECENT:])
        shown = (percentile(recent, share) for share in (0.5, 0.95, 1.0))
        table.add_row(title, f"{len(timed):,}", *("-" if value is None else f"{value:.2f} s" for value in shown))
    return table


def named(figures: Figures) -> Iterator[tuple[str, Sequence[Timed]]]:
    """What is timed, as people call it."""
    yield "current after a reconnect", figures.reconnected
    yield "current after opening", figures.opened
    yield "edit to another device, both online", figures.seen_live
    yield "edit to another device, one offline", figures.seen_open


@contextmanager
def open_view(console: Console, devices: int, duration_s: float, *, plain: bool) -> Iterator[View]:
    """A live one where a person looks and did not ask for lines."""
    if plain or not console.is_terminal:
        yield PlainView(console, devices)
        return
    with Live(console=console, refresh_per_second=4) as live:
        yield LiveView(live, devices, duration_s)
