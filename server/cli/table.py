"""Tables for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

WIDTH_OF_NO_TERMINAL = 200


def print_table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Names are never cut: what is too long for the terminal goes on in the next line. Numbers are on the right."""
    table = Table(box=None, pad_edge=False)
    for number, column in enumerate(columns):
        is_text = any(isinstance(row[number], str) for row in rows)
        table.add_column(column, justify="left" if is_text else "right", overflow="fold")
    for row in rows:
        table.add_row(*map(_shown, row))
    console = Console(markup=False, highlight=False)
    if not console.is_terminal:
        console.width = WIDTH_OF_NO_TERMINAL
    console.print(table)


def _shown(cell: Any) -> str:
    match cell:
        case None:
            return "-"
        case int():
            return f"{cell:,}"
        case _:
            return str(cell)
