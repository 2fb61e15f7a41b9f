"""A document's roots, as an edit sees them."""

from __future__ import annotations

from typing import Any, cast

from pycrdt import Array, Doc, Map, Text


class Roots:
    """The roots of one document inside one edit. Ask for a root by the type that it has everywhere."""

    def __init__(self, doc: Doc[Any]) -> None:
        self._doc = doc

    def text(self, name: str) -> TextRoot:
        return TextRoot(self._doc.get(name, type=Text))

    def map(self, name: str) -> Map[Any]:
        return cast("Map[Any]", self._doc.get(name, type=Map))

    def array(self, name: str) -> Array[Any]:
        return cast("Array[Any]", self._doc.get(name, type=Array))

    def apply(self, update: bytes) -> None:
        """Put in a v1 update that was made before, as if it were this device's edit: for load tests."""
        self._doc.apply_update(update)


class TextRoot:
    """A text by code points, as Python counts them; the library counts UTF-8 bytes, and does not mind its indexes.

    An index outside 0 to `len(text)` raises IndexError.
    """

    def __init__(self, text: Text) -> None:
        self._text = text

    def __str__(self) -> str:
        return str(self._text)

    def __len__(self) -> int:
        return len(str(self._text))

    def insert(self, index: int, value: str) -> None:
        self._text.insert(self._at(index), value)

    def append(self, value: str) -> None:
        self._text.insert(len(self._text), value)

    def delete(self, start: int, stop: int) -> None:
        """Remove the characters from `start` up to but not including `stop`."""
        first, last = self._at(start), self._at(stop)
        if first > last:
            raise IndexError(f"{start} is after {stop}")
        del self._text[first:last]

    def _at(self, index: int) -> int:
        """The UTF-8 offset of a code point."""
        content = str(self._text)
        if not 0 <= index <= len(content):
            raise IndexError(f"{index} is outside a text of {len(content)} characters")
        return len(content[:index].encode())
