"""What the check of updates costs, without a server: CPU time of this process, the best of several passes."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pycrdt import Array, Doc, Map, Text, merge_updates
from rich.table import Table

from crdt.replica import Replica
from crdt.update import Layout, StateVector, read_update

CLIENT = 3_141_592_653
"""A client id of five bytes, as most are."""
PASSES = 7
DOCUMENT_BYTES = 1 << 20

Edit = Callable[[Doc[Any], int], object]


@dataclass(frozen=True, slots=True)
class Check:
    """CPU microseconds for each update, or for the whole of what is named, and how many bytes that has."""

    subject: str
    cpu_us: float
    size: int


def measured() -> list[Check]:
    """Every subject once."""
    return [*(_admitting(name, _updates(edit)) for name, edit in _EDITS.items()), _merged(), *_whole_document()]


def table(runs: Sequence[Sequence[Check]]) -> Table:
    """The best of all runs, subject by subject."""
    shown = Table(title="The check: read and admit, CPU of one core")
    for column in ("subject", "bytes", "CPU us"):
        shown.add_column(column, justify="left" if column == "subject" else "right", no_wrap=True)
    for checks in zip(*runs, strict=True):
        shown.add_row(checks[0].subject, f"{checks[0].size:,}", f"{min(check.cpu_us for check in checks):,.1f}")
    return shown


def _text(doc: Doc[Any]) -> Text:
    found: Text = doc.get("text", type=Text)
    return found


def _type_in_the_middle(doc: Doc[Any], number: int) -> None:
    text = _text(doc)
    text.insert(0, "before after") if not number else text.insert(6 + number, "x")


def _format(doc: Doc[Any], number: int) -> None:
    text = _text(doc)
    text.insert(0, "x" * 3000) if not number else text.format(number, number + 5, {"bold": True})


def _delete(doc: Doc[Any], number: int) -> None:
    text = _text(doc)
    if not number:
        text.insert(0, "x" * 3000)
    else:
        del text[number : number + 1]


def _set(doc: Doc[Any], number: int) -> None:
    found: Map[Any] = doc.get("map", type=Map)
    found[f"key{number % 50}"] = number


def _todo(doc: Doc[Any], number: int) -> None:
    found: Array[Any] = doc.get("todos", type=Array)
    found.append(Map({"title": "buy milk", "done": False, "order": number}))


_EDITS: dict[str, Edit] = {
    "a character at the end": lambda doc, number: _text(doc).insert(number, "x"),
    "a character in the middle": _type_in_the_middle,
    "an accented character": lambda doc, number: _text(doc).insert(2 * number, "å"),
    "a character anywhere": lambda doc, number: _text(doc).insert(random.Random(number).randint(0, number), "x"),
    "a value of a map": _set,
    "a todo item of three fields": _todo,
    "a format": _format,
    "a deleted character": _delete,
}


def _updates(edit: Edit, count: int = 1000) -> list[bytes]:
    replica = Replica(CLIENT)
    made = (replica.edit(lambda doc, number=number: edit(doc, number)) for number in range(count))  # type: ignore[misc]
    return [update for update in made if update is not None]


def _admitting(subject: str, updates: list[bytes]) -> Check:
    def admit_all() -> None:
        layout, known = Layout(), StateVector()
        for update in updates:
            read = read_update(update, bounded=True)
            assert read.missing(known) is None
            layout.admit(read, known)
            read.advance(known)

    return Check(subject, _best_us(admit_all) / len(updates), sum(map(len, updates)) // len(updates))


def _merged() -> Check:
    merged = merge_updates(*_updates(_EDITS["a character anywhere"]))
    return _admitting("1,000 characters anywhere, merged", [merged])


def _whole_document() -> list[Check]:
    state = _document()
    packed = Layout.of([state]).pack()
    return [
        Check(
            f"a layout of a document of {len(state) >> 10} KiB: unpack",
            _best_us(lambda: Layout.unpack(packed)),
            len(packed),
        ),
        Check("the same, from the state", _best_us(lambda: Layout.of([state]), passes=1), len(state)),
    ]


def _document() -> bytes:
    """Words written here and there, and todo items."""
    rng = random.Random(0)
    replica = Replica(CLIENT)

    def write(doc: Doc[Any]) -> None:
        text = _text(doc)
        for number in range(3000):
            text.insert(rng.randint(0, 12 * number), "eleven bytes")

    def note(doc: Doc[Any]) -> None:
        for number in range(1000):
            _todo(doc, number)

    while len(replica.state()) < DOCUMENT_BYTES:
        replica.edit(write)
        replica.edit(note)
    return replica.state()


def _best_us(run: Callable[[], object], passes: int = PASSES) -> float:
    best = float("inf")
    for _ in range(passes):
        start = time.process_time()
        run()
        best = min(best, time.process_time() - start)
    return best * 1e6
