"""Edits that are made up from a seed, as crdt-benchmarks has its clients make them."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from string import ascii_lowercase
from typing import Any, NamedTuple

from pycrdt import Array, Doc, Text

from client_sim.traces import Patch

TEXT = "text"
ARRAY = "array"
NUMBER_MAX = 0x7FFFFFFF
DELETE_CHARS_MAX = 9


class Numbers(NamedTuple):
    """`values` go in before item `at`."""

    at: int
    values: Sequence[int]


def change_text(doc: Doc[Any], patches: Iterable[Patch]) -> None:
    """Patches of the text, in bytes."""
    text: Text = doc.get(TEXT, type=Text)
    for at, delete, insert in patches:
        if delete:
            del text[at : at + delete]
        if insert:
            text.insert(at, insert)


def change_array(doc: Doc[Any], numbers: Numbers) -> None:
    array: Array[Any] = doc.get(ARRAY, type=Array)
    array[numbers.at : numbers.at] = list(numbers.values)


def word(rng: random.Random, shortest: int, longest: int) -> str:
    """Lower-case letters: one byte each."""
    return "".join(rng.choices(ascii_lowercase, k=rng.randint(shortest, longest)))


def patched(text: str, patches: Iterable[Patch]) -> str:
    """What the text is with these edits in."""
    for at, delete, insert in patches:
        text = text[:at] + insert + text[at + delete :]
    return text


def insertions(rng: random.Random, count: int, shortest: int, longest: int, text_chars: int = 0) -> list[Patch]:
    """So many words of so many letters, each somewhere in a text that had `text_chars` before the first."""
    patches = []
    for _ in range(count):
        patches.append(Patch(rng.randint(0, text_chars), 0, word(rng, shortest, longest)))
        text_chars += len(patches[-1].insert)
    return patches


def insertion_or_deletion(rng: random.Random, at: int, text_chars: int) -> Patch:
    """A word goes in at `at`, or some of what follows goes out."""
    if at == text_chars or rng.random() < 0.5:
        return Patch(at, 0, word(rng, 2, 10))
    return Patch(at, rng.randint(1, min(DELETE_CHARS_MAX, text_chars - at)), "")


def rewriting(rng: random.Random, count: int) -> list[Patch]:
    """Words that come and go, anywhere."""
    patches = []
    text_chars = 0
    for _ in range(count):
        patches.append(insertion_or_deletion(rng, rng.randint(0, text_chars), text_chars))
        text_chars += len(patches[-1].insert) - patches[-1].delete
    return patches


def inserting_and_rewriting(rng: random.Random, count: int, text_chars: int) -> list[Patch]:
    """So many times a word, and then another one or a deletion at the same place."""
    patches = []
    for _ in range(count):
        first = Patch(rng.randint(0, text_chars), 0, word(rng, 3, 9))
        text_chars += len(first.insert)
        second = insertion_or_deletion(rng, first.at, text_chars)
        text_chars += len(second.insert) - second.delete
        patches += [first, second]
    return patches


def numbers(rng: random.Random, count: int) -> list[int]:
    return [rng.randint(0, NUMBER_MAX) for _ in range(count)]


def scattered(rng: random.Random, values: Iterable[int]) -> tuple[list[Numbers], list[int]]:
    """Each value inserted somewhere, and what the array is then."""
    array: list[int] = []
    made = []
    for value in values:
        made.append(Numbers(rng.randint(0, len(array)), [value]))
        array.insert(made[-1].at, value)
    return made, array
