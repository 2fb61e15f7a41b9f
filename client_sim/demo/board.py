"""What the user sees of the demo while it runs: a live picture in a terminal, else lines; then the tables."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

EVENTS_SHOWN = 8
PICTURES_A_SECOND = 8
PLAIN_EVERY = 0.1
"""Of the whole: how often a line tells how far it is."""


@dataclass(frozen=True, slots=True)
class Row:
    """One device, now."""

    device: str
    state: str
    typed: int
    edits: int
    pending: int
    resent: int
    bytes_up: int
    bytes_down: int
    catch_ups: dict[str, int]
    reconnects: int

    @property
    def acked(self) -> int:
        return self.typed - self.pending


@dataclass(frozen=True, slots=True)
class Picture:
    rows: Sequence[Row]
    server_up: bool

    @property
    def done(self) -> float:
        return sum(row.typed for row in self.rows) / max(1, sum(row.edits for row in self.rows))


class Board(Protocol):
    def say(self, text: str) -> None:
        """Something happened."""

    def show(self, picture: Picture) -> None:
        """How things are now."""


class PlainBoard:
    """Lines, for logs."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._shown = 0.0

    def say(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def show(self, picture: Picture) -> None:
        if picture.done < self._shown + PLAIN_EVERY:
            return
        self._shown = picture.done
        rows = ", ".join(f"{row.device} {row.typed} typed {row.pending} pending" for row in picture.rows)
        self.say(f"{picture.done:4.0%}  {rows}")


class LiveBoard:
    """A picture that changes, and under it what happened last."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._events: deque[str] = deque(maxlen=EVENTS_SHOWN)
        self._picture = Picture((), server_up=False)

    def say(self, text: str) -> None:
        self._events.append(text)
        self.show(self._picture)

    def show(self, picture: Picture) -> None:
        self._picture = picture
        self._live.update(Group(*_parts(picture), Text("\n".join(self._events), style="dim")))


def _parts(picture: Picture) -> Iterator[RenderableType]:
    yield Text("server up", "green") if picture.server_up else Text("server down", "bold red")
    if picture.rows:
        yield _live_table(picture.rows)
        yield ProgressBar(total=1.0, completed=picture.done)


@contextmanager
def open_board(console: Console, *, plain: bool) -> Iterator[Board]:
    """A live board where a person looks and did not ask for lines."""
    if plain or not console.is_terminal:
        yield PlainBoard(console)
        return
    with Live(console=console, refresh_per_second=PICTURES_A_SECOND) as live:
        yield LiveBoard(live)


def _live_table(rows: Sequence[Row]) -> Table:
    table = _table("device", "state", "typed", "of", "pending", "acked", "up", "down", left=2)
    for row in rows:
        table.add_row(
            row.device, row.state, f"{row.typed:,}", f"{row.edits:,}", f"{row.pending:,}", f"{row.acked:,}",
            f"{row.bytes_up:,} B", f"{row.bytes_down:,} B",
        )  # fmt: skip
    return table


def final_table(rows: Sequence[Row]) -> Table:
    table = _table("device", "edits", "acked", "resent", "up", "down", "catch-ups", "reconnects", left=1)
    for row in rows:
        table.add_row(
            row.device, f"{row.typed:,}", f"{row.acked:,}", f"{row.resent:,}",
            f"{row.bytes_up:,} B", f"{row.bytes_down:,} B",
            ", ".join(f"{mode} {count}" for mode, count in row.catch_ups.items()), f"{row.reconnects}",
        )  # fmt: skip
    return table


def _table(*columns: str, left: int) -> Table:
    table = Table(box=None, pad_edge=False)
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index < left else "right")
    return table
