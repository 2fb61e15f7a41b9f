"""What notes are in a document: a map of note ids to the times when they were begun, and a text for each."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator
from typing import NamedTuple

from client_sim import AsyncDocument, Roots
from examples.notes.splice import Splice, difference

NOTES = "notes"
TEXT_PREFIX = "note "
TITLE_CHARS = 24


class Note(NamedTuple):
    id: str
    title: str


class Visitor(NamedTuple):
    """Somebody's device, and the note that it looks at."""

    device: str
    note: str


class Notebook:
    """Reads and writes one document. Everything is local and immediate; the device does the rest."""

    def __init__(self, document: AsyncDocument) -> None:
        self.document = document

    def notes(self) -> list[Note]:
        """In the order in which they were begun. A title is the first line."""
        begun = self.document.map(NOTES)
        return [Note(id_, self._title(id_)) for id_ in sorted(begun, key=lambda id_: (begun[id_], id_))]

    def _title(self, id_: str) -> str:
        return self.text(id_).strip().partition("\n")[0][:TITLE_CHARS] or "(empty)"

    def begin(self) -> str:
        """A new note's id."""
        id_ = secrets.token_hex(4)
        self.document.edit(lambda roots: roots.map(NOTES).update({id_: time.time()}))
        return id_

    def text(self, id_: str) -> str:
        return self.document.text(TEXT_PREFIX + id_)

    def write(self, id_: str, shadow: str, shown: str) -> str:
        """Somebody made `shown` of `shadow`; what the note is now, with what others did to it in the meantime."""
        typed, others = difference(shadow, shown), difference(shadow, self.text(id_))
        if typed is not None:
            splice = typed.moved_over(others) if others is not None else typed
            self.document.edit(lambda roots: self._splice(roots, id_, splice))
        return self.text(id_)

    @staticmethod
    def _splice(roots: Roots, id_: str, splice: Splice) -> None:
        text = roots.text(TEXT_PREFIX + id_)
        if splice.stop > splice.start:
            text.delete(splice.start, splice.stop)
        if splice.insert:
            text.insert(splice.start, splice.insert)

    # --- who is there

    def look_at(self, id_: str) -> None:
        """Tell the others which note this device shows."""
        self.document.set_presence(json.dumps({"note": id_}).encode())

    def visitors(self) -> Iterator[Visitor]:
        for device, payload in sorted(self.document.peers.items()):
            try:
                yield Visitor(device, str(json.loads(payload)["note"]))
            except (ValueError, KeyError, TypeError):
                continue  # another app's, or a later version's
