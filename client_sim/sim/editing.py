"""What people do to a document: type, paste, delete, undo; tick off todos; sort lists; write in notes within notes."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any, NamedTuple, cast

from pycrdt import Array, Map, Text

from client_sim.core.roots import Roots
from client_sim.sim.weather import Span

WORDS = (
    "the", "of", "and", "to", "a", "in", "milk", "sync", "later", "yes", "no", "maybe", "zürich", "naïve", "東京",
    "👍", "🏳️‍🌈", "e\u0301", "😀😀", "«quote»", "line\n", "\t", "end.",
)  # fmt: skip
"""Most are ASCII, as in the recorded histories; the others are what breaks those who count in the wrong unit."""


class Rhythm(NamedTuple):
    """One person's way of typing."""

    pause: Span
    """Between two edits of a burst: 2 to 5 in an active second in the middle, 27 at most."""
    session: Span
    """From the first to the last edit of a sitting: median 3 to 12 min, nine in ten under 28 to 64 min."""
    away: Span
    """Between two sittings: median 0.2 to 3.6 h, one in ten over 1 to 75 h."""


RHYTHMS = (
    Rhythm(Span(0.037, 1.0), Span(20.0, 1_700.0), Span(60.0, 9_000.0)),
    Rhythm(Span(0.1, 2.0), Span(60.0, 3_800.0), Span(700.0, 270_000.0)),
)
"""Drawn log-uniformly, these have about the medians and tails of six recorded editing histories."""

Change = Callable[[Roots], object]


def change(rng: Random, undone: list[str]) -> tuple[str, Change]:
    """One edit, and what a reader of the history is told of it. `undone` is what its author may undo."""
    kind = rng.choices(tuple(_KINDS), tuple(weight for weight, _ in _KINDS.values()))[0]
    salt = rng.getrandbits(32)
    make = _KINDS[kind][1]
    return kind, lambda roots: make(roots, Random(salt), undone)


def _type(roots: Roots, rng: Random, undone: list[str]) -> None:
    """At the end, at the beginning where everybody else types too, or anywhere."""
    text, word = roots.text("body"), rng.choice(WORDS) + " "
    at = rng.choice((len(text), len(text), 0, rng.randint(0, len(text))))
    text.insert(at, word)
    undone.append(word)
    del undone[:-20]


def _paste(roots: Roots, rng: Random, undone: list[str]) -> None:
    text = roots.text("body")
    text.insert(rng.randint(0, len(text)), " ".join(rng.choice(WORDS) for _ in range(rng.choice((10, 40, 150)))))


def _delete(roots: Roots, rng: Random, undone: list[str]) -> None:
    text = roots.text("body")
    if length := len(text):
        start = rng.randrange(length)
        text.delete(start, min(length, start + rng.choice((1, 1, 1, 5, 60))))


def _undo(roots: Roots, rng: Random, undone: list[str]) -> None:
    """Take back what was typed, where it still stands; put it back if it does not."""
    if not undone:
        return
    text, word = roots.text("body"), undone.pop()
    at = str(text).rfind(word)
    if at >= 0:
        text.delete(at, at + len(word))
    else:
        text.append(word)


def _todo(roots: Roots, rng: Random, undone: list[str]) -> None:
    """Todos by name: added, ticked off, renamed, removed."""
    todos, key = roots.map("todos"), f"todo{rng.randrange(6)}"
    if key not in todos or rng.random() < 0.2:
        todos[key] = Map({"title": rng.choice(WORDS)})
    elif rng.random() < 0.2:
        del todos[key]
    elif isinstance(entry := todos[key], Map):
        entry[rng.choice(("done", "title"))] = rng.choice((True, False, 1, 2.5, None, "again"))


def _list(roots: Roots, rng: Random, undone: list[str]) -> None:
    """Add, remove, or move: what moves is taken out and put in."""
    items = roots.array("list")
    if len(items) and rng.random() < 0.5:
        value = items.pop(rng.randrange(len(items)))
        if rng.random() < 0.6 and isinstance(value, int | float | str):
            items.insert(rng.randint(0, len(items)), value)
    else:
        items.insert(rng.randint(0, len(items)), rng.choice((rng.randrange(100), rng.choice(WORDS))))


def _nested(roots: Roots, rng: Random, undone: list[str]) -> None:
    """A text within a list within a map."""
    notes = roots.map("notes")
    if "pages" not in notes or rng.random() < 0.05:
        notes["pages"] = Array()
    pages = cast("Array[Any]", notes["pages"])
    if not len(pages) or rng.random() < 0.2:
        pages.insert(rng.randint(0, len(pages)), Text(rng.choice(WORDS)))
    elif isinstance(page := pages[rng.randrange(len(pages))], Text):
        page += rng.choice(WORDS)


def _emoji(roots: Roots, rng: Random, undone: list[str]) -> None:
    """Where somebody has put an emoji: beside it, in the middle of one that is made of several, or one of them less."""
    text = roots.text("body")
    content = str(text)
    places = [at for at, char in enumerate(content) if ord(char) > _BMP_LAST or char in _JOINERS]
    if not places:
        text.insert(rng.randint(0, len(content)), rng.choice(_EMOJI))
        return
    at = rng.choice(places)
    if rng.random() < 0.3:
        text.delete(at, at + 1)
    else:
        text.insert(at + rng.randrange(2), rng.choice(_EMOJI))


_BMP_LAST = 0xFFFF
_JOINERS = "\u200d\ufe0f"
_EMOJI = ("😀", "👍🏽", "🏳️‍🌈", "👩‍👩‍👧‍👦", "🇨🇭")
"""Surrogate pairs all, but for joiners; most are several code points, and some users' editors see one character."""

_KINDS: dict[str, tuple[int, Callable[[Roots, Random, list[str]], None]]] = {
    "typed": (60, _type),
    "pasted": (2, _paste),
    "deleted": (14, _delete),
    "undid": (6, _undo),
    "emoji": (5, _emoji),
    "todo": (8, _todo),
    "list": (8, _list),
    "nested": (6, _nested),
}
"""With how often each comes, of a hundred or so."""
