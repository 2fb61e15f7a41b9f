"""Editing histories of one author, edit by edit: recorded ones, and generated ones with few or many deletes."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from pycrdt import Doc, Text

from client_sim import traces
from crdt.replica import Replica

RECORDED = "automerge-paper.sequential.json.gz"
ROOT = "text"
_LETTERS = "abcdefghijklmnopqrstuvwxyz "


@dataclass(frozen=True)
class History:
    """What one author wrote into the text `ROOT`: an update for each edit, and the text that comes of them."""

    name: str
    updates: tuple[bytes, ...]
    text: str

    def __len__(self) -> int:
        return len(self.updates)


@cache
def recorded() -> History | None:
    """A person's paper of 260,000 edits; None where the recordings are not at hand."""
    folder = traces.folder()
    if folder is None or not (folder / RECORDED).exists():
        return None
    updates = tuple(update for _, update in traces.updates(traces.load(folder / RECORDED), ROOT))
    return History("recorded", updates, text_of(updates))


@cache
def generated(edits: int, delete_share: float) -> History:
    """Typing a letter at a time, four in five at the end, and single letters deleted anywhere."""
    rng = random.Random(edits)
    replica = Replica(client_id=rng.getrandbits(32))
    updates: list[bytes] = []
    length = 0
    while len(updates) < edits:
        if length and rng.random() < delete_share:
            update = replica.edit(_deletes(rng.randrange(length)))
            length -= 1
        else:
            at = length if rng.random() < 0.8 else rng.randrange(length + 1)
            update = replica.edit(insertion(at, rng.choice(_LETTERS)))
            length += 1
        assert update is not None
        updates.append(update)
    return History(f"generated, {delete_share:.0%} deletes", tuple(updates), text_of(updates))


def insertion(at: int, text: str) -> Callable[[Doc[Any]], None]:
    """An edit of the text `ROOT`, for `Replica.edit`."""
    return lambda doc: _text(doc).insert(at, text)


def _deletes(at: int) -> Callable[[Doc[Any]], None]:
    def delete(doc: Doc[Any]) -> None:
        del _text(doc)[at : at + 1]

    return delete


def _text(doc: Doc[Any]) -> Text:
    found: Text = doc.get(ROOT, type=Text)
    return found


def text_of(updates: Sequence[bytes]) -> str:
    """What a replica with these updates, in order, has in the text `ROOT`."""
    text: str = Replica.load(updates).values().get(ROOT, "")
    return text


def slices(start: int, end: int, step: int) -> Iterator[tuple[int, int]]:
    """From `start` to `end` in steps of at most `step`."""
    for at in range(start, end, step):
        yield at, min(at + step, end)
